"""Which routes this host needs so that pods reach each other across hosts, against those it has. Pure.

Each other node's pod range is reached by that node's address, on a link that both share. Ours are told from others by
their protocol number; of another's nothing is replaced and nothing removed.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from shoal.model.node import PodRange
from shoal.net.records import PROTOCOL_SHOAL, Route


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`routes`: all of the main table. `addresses`: this host's. `cluster` None: not known yet, nothing is removed."""

    node: str
    ranges: tuple[PodRange, ...]
    routes: tuple[Route, ...]
    addresses: tuple[IPv4Interface, ...]
    cluster: IPv4Network | None


class Wanted(msgspec.Struct, frozen=True, order=True):
    destination: str
    gateway: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`problems`: a sentence for each node that cannot be reached."""

    add: tuple[Wanted, ...] = ()
    remove: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()


def plan(view: View) -> Plan:
    """Carrying it out and planning again plans nothing."""
    wanted: dict[str, Wanted] = {}
    problems: list[str] = []
    foreign = {r.destination: r for r in view.routes if r.protocol != PROTOCOL_SHOAL}
    own = next((r for r in view.ranges if r.node == view.node), None)
    for other in sorted(view.ranges, key=lambda r: r.node):
        if other.node == view.node or not other.address:  # one that has not told its address yet
            continue
        if (problem := _problem(other, view, foreign, own)) is not None:
            problems.append(problem)
        else:
            destination = str(IPv4Network(other.cidr))
            wanted[destination] = Wanted(destination, other.address)
    present = [r for r in view.routes if r.protocol == PROTOCOL_SHOAL]
    there = {Wanted(r.destination, r.gateway) for r in present}
    return Plan(
        add=tuple(sorted(set(wanted.values()) - there)),
        remove=tuple(_stale(present, wanted, view.cluster)),
        problems=tuple(problems),
    )


def _problem(other: PodRange, view: View, foreign: dict[str, Route], own: PodRange | None) -> str | None:
    try:
        network, gateway = IPv4Network(other.cidr), IPv4Address(other.address)
    except ValueError:
        return f"node {other.node}: {other.cidr} via {other.address} is no route"
    if own is not None and network.overlaps(IPv4Network(own.cidr)):
        return f"node {other.node}: its pod range {other.cidr} overlaps this node's, {own.cidr}"
    if (there := foreign.get(str(network))) is not None:
        return f"node {other.node}: this host has another's route to {other.cidr} (protocol {there.protocol})"
    if not any(gateway in a.network and gateway != a.ip for a in view.addresses):
        return f"node {other.node}: {other.address} shares no link with this host"
    return None


def _stale(present: Sequence[Route], wanted: dict[str, Wanted], cluster: IPv4Network | None) -> Iterable[Route]:
    """Ours, of this cluster's range, that nothing wants, or by another gateway: that one is replaced by what is added."""
    for route in present:
        known = wanted.get(route.destination)
        if known is not None or cluster is None:
            continue
        if IPv4Network(route.destination).subnet_of(cluster):
            yield route
