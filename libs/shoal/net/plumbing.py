"""What is done with netlink: a bridge for pods, a pod's connection to it, a host's routes."""

import errno
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface

import msgspec

from shoal.net.addresses import delete_address, new_address
from shoal.net.links import delete_link, enslave, hairpin, link_up, mac_of, new_bridge, new_veth, set_mtu
from shoal.net.messages import Message
from shoal.net.netlink import Netlink, NetlinkError
from shoal.net.records import Route
from shoal.net.routes import delete_route, new_route


class Plumbing(msgspec.Struct, frozen=True, kw_only=True):
    """One pod's connection: `link` on the host's `bridge`, eth0 with `address` in the pod, default by `gateway`."""

    link: str
    bridge: int
    mtu: int
    address: IPv4Interface
    gateway: IPv4Address


def plumb(host: Netlink, pod_namespace: int, wanted: Plumbing) -> None:
    """Connect a namespace (file descriptor). Doing it twice is harmless: what is half made is made anew.

    Raises: NetlinkError.
    """
    with Netlink(pod_namespace) as inside:
        inside.send(link_up(1))  # lo is always the first
        if (eth0 := inside.link("eth0")) is None:
            host.send(
                delete_link(name=wanted.link),
                new_veth(
                    wanted.link,
                    bridge=wanted.bridge,
                    mtu=wanted.mtu,
                    peer="eth0",
                    peer_namespace=pod_namespace,
                    peer_mac=mac_of(wanted.address.ip),
                ),
            )
            eth0 = inside.link("eth0")
        outside = host.link(wanted.link)
        if eth0 is None or outside is None:
            raise NetlinkError(errno.ENODEV, f"find both ends of {wanted.link}")
        if outside.master != wanted.bridge:
            host.send(enslave(outside.index, wanted.bridge))  # the bridge was made anew since
        host.send(hairpin(outside.index))
        inside.send(
            new_address(eth0.index, wanted.address),
            link_up(eth0.index),
            new_route("0.0.0.0/0", gateway=str(wanted.gateway), replace=True),
        )


def ensure_bridge(host: Netlink, name: str, interface: IPv4Interface, *, mtu: int) -> int:
    """The bridge with that address, that alone, and that MTU, made if it is not there; its index."""
    host.send(new_bridge(name, mac=mac_of(interface.ip), mtu=mtu))
    bridge = host.link(name)
    if bridge is None:
        raise NetlinkError(errno.ENODEV, f"find the bridge {name}")
    # Those of a range that the node had before: what is another node's now would be looked for here.
    former = [a for link, a in host.addresses() if link == bridge.index and a != interface]
    host.send(
        *(delete_address(bridge.index, address) for address in former),
        *([set_mtu(bridge.index, mtu)] if bridge.mtu != mtu else ()),
        link_up(bridge.index),
        new_address(bridge.index, interface),
    )
    return bridge.index


def apply_routes(host: Netlink, add: Sequence[Message], remove: Sequence[Route]) -> None:
    """Removals first, in one go; a refused one does not keep the others back. Raises: NetlinkError of the first."""
    messages = (*map(delete_route, remove), *add)
    if messages:
        host.send(*messages)
