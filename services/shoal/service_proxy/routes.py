"""Which routes this host needs so that pods reach each other across hosts, against those it has. Pure.

Each other node's pod range is reached by that node's address, on a link that both share. Ours are told from others by
their protocol number; of another's nothing is replaced and nothing removed. A node behind a router cannot be reached:
the router would have to know the pods' ranges. So it is told, and no route is made that would only lose what is sent.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from shoal.model.node import PodRange
from shoal.net.records import PROTOCOL_SHOAL, Route


class HostAddress(msgspec.Struct, frozen=True):
    """One of this host's; `up`: its link is."""

    interface: IPv4Interface
    link: int
    up: bool = True


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`routes`: all of the main table, those that lead nowhere too. `cluster` None: not known yet, nothing is removed."""

    node: str
    ranges: tuple[PodRange, ...]
    routes: tuple[Route, ...]
    addresses: tuple[HostAddress, ...]
    cluster: IPv4Network | None


class Wanted(msgspec.Struct, frozen=True, order=True):
    destination: str
    gateway: str
    link: int
    node: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`remove` comes first: what is `add`ed replaces nothing. `problems`: a sentence for each node that cannot be
    reached, of `others` there are. `links`: those that other nodes are reached by.
    """

    add: tuple[Wanted, ...] = ()
    remove: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()
    others: int = 0
    links: frozenset[int] = frozenset()


def plan(view: View) -> Plan:
    """Carrying it out and planning again plans nothing."""
    wanted: dict[str, Wanted] = {}
    problems: list[str] = []
    others = sorted((r for r in view.ranges if r.node != view.node), key=lambda r: r.node)
    told = [r for r in others if r.address]
    own = next((r for r in view.ranges if r.node == view.node), None)
    foreign = {IPv4Network(r.destination): r for r in view.routes if not _is_ours(r)}
    for other in told:
        found = _way(other, own, foreign, view.addresses)
        if isinstance(found, Wanted) and (first := wanted.get(found.destination)) is not None:
            found = f"its pod range {other.cidr} is node {first.node}'s, too"
        if isinstance(found, Wanted):
            wanted[found.destination] = found
            found = _hidden(found, foreign)
        if found:
            problems.append(f"node {other.node}: {found}")
    ours = [r for r in view.routes if _is_ours(r)]
    there = {(r.destination, r.gateway, r.link) for r in ours}
    unknown = {r.cidr for r in others if not r.address}  # of these stands what they told before
    return Plan(
        add=tuple(sorted(w for w in wanted.values() if (w.destination, w.gateway, w.link) not in there)),
        remove=tuple(r for r in ours if r.destination not in unknown and _is_stale(r, wanted, view.cluster)),
        problems=tuple(problems),
        others=len(told),
        links=frozenset(w.link for w in wanted.values()),
    )


def _is_ours(route: Route) -> bool:
    return route.protocol == PROTOCOL_SHOAL and not route.unreachable


def _way(
    other: PodRange,
    own: PodRange | None,
    foreign: Mapping[IPv4Network, Route],
    addresses: Sequence[HostAddress],
) -> Wanted | str:
    """By which the node is to be reached, or why it cannot be."""
    try:
        network, gateway = IPv4Network(other.cidr), IPv4Address(other.address)
        overlaps = own is not None and network.overlaps(IPv4Network(own.cidr))
    except ValueError:
        return f"{other.cidr} via {other.address} is no route"
    if own is not None and overlaps:
        return f"its pod range {other.cidr} overlaps this node's, {own.cidr}"
    if (there := foreign.get(network)) is not None:
        return f"this host has another's route to {network} (protocol {there.protocol})"
    shared = [a for a in addresses if gateway in a.interface.network and gateway != a.interface.ip]
    if not shared or gateway.is_loopback:
        return f"{other.address} shares no link with this host"
    usable = [a for a in shared if a.up]
    if not usable:
        return f"the link to {other.address} is down"
    best = min(usable, key=lambda a: (-a.interface.network.prefixlen, a.link))
    return Wanted(str(network), other.address, best.link, other.node)


def _hidden(wanted: Wanted, foreign: Mapping[IPv4Network, Route]) -> str:
    """What is sent to a part of the range goes by another's route, which says more of the address."""
    network = IPv4Network(wanted.destination)
    inside = min((other for other in foreign if other.subnet_of(network)), default=None)
    return f"this host has another's route to {inside}, a part of {network}" if inside is not None else ""


def _is_inside(route: Route, network: IPv4Network) -> bool:
    return IPv4Network(route.destination).subnet_of(network)


def _is_stale(route: Route, wanted: dict[str, Wanted], cluster: IPv4Network | None) -> bool:
    """Of this cluster's range and wanted by nobody, or wanted otherwise."""
    known = wanted.get(route.destination)
    if known is not None:
        return (known.gateway, known.link) != (route.gateway, route.link)
    return cluster is not None and _is_inside(route, cluster)
