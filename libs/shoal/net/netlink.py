"""Route netlink by hand: links, addresses and routes, made, listed and removed.

Why by hand: the usual library costs 13 MB in a process that may take 40, and two processes of every host would pay.
The kernel answers within the system call, so that a plain blocking socket is right; what may wait for the kernel's
one lock (`plumb`) is called in a thread. Layouts are those of rtnetlink(7), <linux/if_link.h> and <linux/rtnetlink.h>.
"""

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Self

import msgspec

from shoal.net import namespace
from shoal.net.records import SCOPE_LINK, SCOPE_UNIVERSE, Route

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_PROTINFO = 1, 3, 4, 5, 10, 12
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_BRPORT_MODE = 4  # hairpin
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15

IFF_UP = 0x1
TABLE_MAIN, TABLE_LOCAL = 254, 255
PROTOCOL_BOOT, PROTOCOL_STATIC = 3, 4
_UNICAST = 1

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_BUFFER_BYTES = 65_536


class NetlinkError(OSError):
    """The kernel refused one message. `errno` says why, `what` which."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, f"{what}: {os.strerror(number)}")
        self.what = what


class Link(msgspec.Struct, frozen=True):
    index: int
    name: str
    up: bool
    master: int  # index of its bridge, 0 = none
    mtu: int
    mac: str
    kind: str  # bridge, veth, ...; "" for hardware


class Message(msgspec.Struct, frozen=True):
    kind: int
    flags: int
    payload: bytes
    what: str  # for the sentence of an error
    ignore: tuple[int, ...] = ()  # errnos that mean: it is so already


# --- encoding ------------------------------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes) -> dict[int, bytes]:
    """What `attribute` wrote, the last of each kind. Total: what is cut off ends the list."""
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if not 4 <= size <= len(data):
            break
        found[kind & _TYPE_MASK] = data[4:size]
        data = data[size + (-size % 4) :]
    return found


def mac_of(address: IPv4Address) -> str:
    """A locally administered MAC that follows from the address: an address used again keeps its neighbours' caches right."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


# --- messages ------------------------------------------------------------------------------------------------------


def new_bridge(name: str, *, mac: str, mtu: int) -> Message:
    payload = (
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
        + _text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, _mac(mac))
        + _u32(_IFLA_MTU, mtu)
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
    )
    return Message(RTM_NEWLINK, _CREATE | _EXCL, payload, f"make the bridge {name}", (errno.EEXIST,))


def new_veth(name: str, *, bridge: int, mtu: int, peer: str, peer_namespace: int, peer_mac: str) -> Message:
    """A pair: one end up on the bridge, the other, `peer`, made in the namespace behind that file descriptor."""
    other = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, peer)
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + _u32(_IFLA_MTU, mtu)
        + _u32(_IFLA_NET_NS_FD, peer_namespace)
    )
    payload = (
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
        + _text(_IFLA_IFNAME, name)
        + _u32(_IFLA_MTU, mtu)
        + _u32(_IFLA_MASTER, bridge)
        + nested(
            _IFLA_LINKINFO,
            attribute(_INFO_KIND, b"veth"),
            nested(_INFO_DATA, attribute(_VETH_INFO_PEER | _NESTED, other)),
        )
    )
    return Message(RTM_NEWLINK, _CREATE | _EXCL, payload, f"make the link {name}")


def hairpin(link: int) -> Message:
    """Let a bridge send a frame back through the port it came from: a pod that reaches itself by a service needs it."""
    payload = _IFINFO.pack(socket.AF_BRIDGE, 0, link, 0, 0) + nested(_IFLA_PROTINFO, attribute(_BRPORT_MODE, b"\x01"))
    return Message(RTM_SETLINK, 0, payload, f"set hairpin on link {link}")


def link_up(link: int) -> Message:
    return Message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, IFF_UP, IFF_UP), f"bring up link {link}")


def enslave(link: int, bridge: int) -> Message:
    return Message(
        RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, 0, 0) + _u32(_IFLA_MASTER, bridge), f"put link {link} on its bridge"
    )


def delete_link(*, name: str = "", index: int = 0) -> Message:
    payload = _IFINFO.pack(0, 0, index, 0, 0) + (_text(_IFLA_IFNAME, name) if name else b"")
    return Message(RTM_DELLINK, 0, payload, f"remove link {name or index}", (errno.ENODEV,))


def new_address(link: int, interface: IPv4Interface) -> Message:
    packed = interface.ip.packed
    payload = (
        _IFADDR.pack(socket.AF_INET, interface.network.prefixlen, 0, SCOPE_UNIVERSE, link)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
        + attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    )
    return Message(RTM_NEWADDR, _CREATE | _EXCL, payload, f"give {interface} to link {link}", (errno.EEXIST,))


def _route(destination: IPv4Network, gateway: str, link: int, protocol: int, scope: int) -> bytes:
    return (
        _RTMSG.pack(socket.AF_INET, destination.prefixlen, 0, 0, TABLE_MAIN, protocol, scope, _UNICAST, 0)
        + (attribute(_RTA_DST, destination.network_address.packed) if destination.prefixlen else b"")
        + (attribute(_RTA_GATEWAY, IPv4Address(gateway).packed) if gateway else b"")
        + (_u32(_RTA_OIF, link) if link else b"")
    )


def new_route(destination: str, *, gateway: str = "", link: int = 0, protocol: int = PROTOCOL_STATIC) -> Message:
    """Add, or replace the route of that destination and metric in the main table."""
    network = IPv4Network(destination)
    payload = _route(network, gateway, link, protocol, SCOPE_UNIVERSE if gateway else SCOPE_LINK)
    return Message(RTM_NEWROUTE, _CREATE | _REPLACE, payload, f"route {destination} via {gateway or f'link {link}'}")


def delete_route(route: Route) -> Message:
    payload = _route(IPv4Network(route.destination), route.gateway, route.link, route.protocol, route.scope)
    return Message(RTM_DELROUTE, 0, payload, f"remove the route to {route.destination}", (errno.ESRCH,))


# --- the socket ----------------------------------------------------------------------------------------------------


class Netlink:
    """One socket into one network namespace; it stays there whatever its user does later.

    `namespace_fd` None: the caller's own. Threads may share one: each exchange has the socket to itself, or one would
    take the answers that another waits for.
    """

    def __init__(self, namespace_fd: int | None = None) -> None:
        self._socket = namespace.call_in(namespace_fd, _open) if namespace_fd is not None else _open()
        self._sequence = 0
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Carry the messages out in order, in one system call. Each is its own transaction: those after a refused
        one are carried out too.

        Raises: NetlinkError of the first that was refused.
        """
        failed: NetlinkError | None = None
        with self._turn:
            expected = {}
            packet = b""
            for message in messages:
                self._sequence += 1
                expected[self._sequence] = message
                packet += self._frame(message.kind, message.flags | _REQUEST | _ACK, message.payload)
            self._socket.send(packet)
            while expected:
                for _, sequence, kind, payload in _frames(self._socket.recv(_BUFFER_BYTES)):
                    if kind != _NLMSG_ERROR or sequence not in expected:
                        continue
                    message = expected.pop(sequence)
                    number = -struct.unpack_from("=i", payload)[0]
                    if number and number not in message.ignore and failed is None:
                        failed = NetlinkError(number, message.what)
        if failed is not None:
            raise failed

    def links(self) -> list[Link]:
        return [_link(payload) for payload in self._dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        payload = _IFINFO.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        for kind, answer in self._ask(RTM_GETLINK, payload):
            if kind == RTM_NEWLINK:
                return _link(answer)
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", answer)[0]
                if number not in {0, errno.ENODEV}:
                    raise NetlinkError(number, f"look for link {name}")
        return None

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """(link, address with its prefix length) of every IPv4 address."""
        found = []
        for payload in self._dump(RTM_GETADDR, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0)):
            family, prefix, _, _, link = _IFADDR.unpack_from(payload)
            values = attributes(payload[_IFADDR.size :])
            raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if family == socket.AF_INET and raw:
                found.append((link, IPv4Interface((raw, prefix))))
        return found

    def routes(self, *, protocol: int | None = None) -> list[Route]:
        """IPv4 unicast routes of the main table, of one routing protocol or of all."""
        blank = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_route_of(payload) for payload in self._dump(RTM_GETROUTE, blank))
        return [r for r in found if r is not None and protocol in {None, r.protocol}]

    def route_to(self, address: str) -> tuple[str, int]:
        """(own source address, link) by which the kernel would reach `address`. Raises: NetlinkError (unreachable)."""
        payload = _RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + attribute(
            _RTA_DST, IPv4Address(address).packed
        )
        for kind, answer in self._ask(RTM_GETROUTE, payload):
            if kind == _NLMSG_ERROR:
                raise NetlinkError(-struct.unpack_from("=i", answer)[0], f"look for a route to {address}")
            values = attributes(answer[_RTMSG.size :])
            source = values.get(7, b"")  # RTA_PREFSRC
            return str(IPv4Address(source)) if source else "", struct.unpack("=I", values[_RTA_OIF])[0]
        raise NetlinkError(errno.ENETUNREACH, f"look for a route to {address}")

    def _ask(self, kind: int, payload: bytes) -> list[tuple[int, bytes]]:
        """(kind, payload) of the answers to a question that one packet answers."""
        with self._turn:
            self._sequence += 1
            self._socket.send(self._frame(kind, _REQUEST, payload))
            answers = _frames(self._socket.recv(_BUFFER_BYTES))
            return [(answered, answer) for _, sequence, answered, answer in answers if sequence == self._sequence]

    def _dump(self, kind: int, payload: bytes) -> list[bytes]:
        found: list[bytes] = []
        with self._turn:
            self._sequence += 1
            self._socket.send(self._frame(kind, _REQUEST | _DUMP, payload))
            while True:
                for _, sequence, answered, answer in _frames(self._socket.recv(_BUFFER_BYTES)):
                    if sequence != self._sequence:
                        continue
                    if answered == _NLMSG_DONE:
                        return found
                    if answered == _NLMSG_ERROR:
                        raise NetlinkError(-struct.unpack_from("=i", answer)[0], "list")
                    found.append(answer)

    def _frame(self, kind: int, flags: int, payload: bytes) -> bytes:
        size = _HEADER.size + len(payload)
        return _HEADER.pack(size, kind, flags, self._sequence, 0) + payload + bytes(-size % 4)


_GROUPS = 0x1 | 0x10 | 0x40  # links, IPv4 addresses, IPv4 routes


class Monitor:
    """Tells that links, addresses or routes changed. Not what: whoever hears it looks."""

    def __init__(self) -> None:
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Read what has been told. What did not fit the buffer is lost, which says the same."""
        while True:
            try:
                self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self._socket.close()


def _open(groups: int = 0) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, groups))
    return opened


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(flags, sequence, kind, payload) of each message in one datagram."""
    while len(data) >= _HEADER.size:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        yield flags, sequence, kind, data[_HEADER.size : size]
        data = data[size + (-size % 4) :]


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    values = attributes(payload[_IFINFO.size :])
    info = attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        up=bool(flags & IFF_UP),
        master=_number(values, _IFLA_MASTER),
        mtu=_number(values, _IFLA_MTU),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
    )


def _route_of(payload: bytes) -> Route | None:
    family, prefix, _, _, table, protocol, scope, kind, _ = _RTMSG.unpack_from(payload)
    values = attributes(payload[_RTMSG.size :])
    if family != socket.AF_INET or kind != _UNICAST or (_number(values, _RTA_TABLE) or table) != TABLE_MAIN:
        return None
    destination = values.get(_RTA_DST, bytes(4))
    gateway = values.get(_RTA_GATEWAY)
    return Route(
        destination=str(IPv4Network((destination, prefix))),
        gateway=str(IPv4Address(gateway)) if gateway else "",
        link=_number(values, _RTA_OIF),
        protocol=protocol,
        scope=scope,
    )


def _number(values: Mapping[int, bytes], kind: int) -> int:
    raw = values.get(kind)
    return struct.unpack("=I", raw)[0] if raw else 0


# --- what is done with them ----------------------------------------------------------------------------------------


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
            new_route("0.0.0.0/0", gateway=str(wanted.gateway)),
        )


def ensure_bridge(host: Netlink, name: str, interface: IPv4Interface, *, mtu: int) -> int:
    """The bridge with that address, made if it is not there; its index."""
    host.send(new_bridge(name, mac=mac_of(interface.ip), mtu=mtu))
    bridge = host.link(name)
    if bridge is None:
        raise NetlinkError(errno.ENODEV, f"find the bridge {name}")
    host.send(link_up(bridge.index), new_address(bridge.index, interface))
    return bridge.index


def remove_links(host: Netlink, links: Iterable[str]) -> None:
    for name in links:
        host.send(delete_link(name=name))


def apply_routes(host: Netlink, add: Sequence[Message], remove: Sequence[Route]) -> None:
    """Removals first, in one go; a refused one does not keep the others back. Raises: NetlinkError of the first."""
    messages = (*map(delete_route, remove), *add)
    if messages:
        host.send(*messages)
