"""Links: bridges, veth pairs and their ports. Pure. rtnetlink(7), <linux/if_link.h>, <linux/if_bridge.h>."""

import errno
import socket
import struct
from ipaddress import IPv4Address

import msgspec

from shoal.net.messages import CREATE, EXCL, Message, attribute, attributes, nested, number, text, u32

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
IFF_UP = 0x1

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, which flags to change
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_PROTINFO = 1, 3, 4, 10, 12
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_BRPORT_MODE = 4  # hairpin


class Link(msgspec.Struct, frozen=True):
    index: int
    name: str
    up: bool
    master: int  # index of its bridge, 0 = none
    mtu: int
    mac: str
    kind: str  # bridge, veth, ...; "" for hardware


def mac_of(address: IPv4Address) -> str:
    """A locally administered MAC that follows from the address: an address used again keeps its neighbours' caches right."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def all_links() -> bytes:
    """For RTM_GETLINK, as a dump."""
    return _IFINFO.pack(0, 0, 0, 0, 0)


def link_named(name: str) -> bytes:
    """For RTM_GETLINK."""
    return _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)


def read_link(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    values = attributes(payload[_IFINFO.size :])
    info = attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        up=bool(flags & IFF_UP),
        master=number(values, _IFLA_MASTER),
        mtu=number(values, _IFLA_MTU),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
    )


def new_bridge(name: str, *, mac: str, mtu: int) -> Message:
    payload = (
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
        + text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, _mac(mac))
        + u32(_IFLA_MTU, mtu)
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
    )
    return Message(RTM_NEWLINK, CREATE | EXCL, payload, f"make the bridge {name}", (errno.EEXIST,))


def new_veth(name: str, *, bridge: int, mtu: int, peer: str, peer_namespace: int, peer_mac: str) -> Message:
    """A pair: one end up on the bridge, the other, `peer`, made in the namespace behind that file descriptor."""
    other = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(_IFLA_IFNAME, peer)
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_NET_NS_FD, peer_namespace)
    )
    payload = (
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
        + text(_IFLA_IFNAME, name)
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_MASTER, bridge)
        + nested(
            _IFLA_LINKINFO,
            attribute(_INFO_KIND, b"veth"),
            nested(_INFO_DATA, nested(_VETH_INFO_PEER, other)),
        )
    )
    return Message(RTM_NEWLINK, CREATE | EXCL, payload, f"make the link {name}")


def hairpin(link: int) -> Message:
    """Let a bridge send a frame back through the port it came from: a pod that reaches itself by a service needs it."""
    payload = _IFINFO.pack(socket.AF_BRIDGE, 0, link, 0, 0) + nested(_IFLA_PROTINFO, attribute(_BRPORT_MODE, b"\x01"))
    return Message(RTM_SETLINK, 0, payload, f"set hairpin on link {link}")


def link_up(link: int) -> Message:
    return Message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, IFF_UP, IFF_UP), f"bring up link {link}")


def set_mtu(link: int, mtu: int) -> Message:
    return Message(
        RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, 0, 0) + u32(_IFLA_MTU, mtu), f"set the MTU of link {link} to {mtu}"
    )


def enslave(link: int, bridge: int) -> Message:
    return Message(
        RTM_NEWLINK, 0, _IFINFO.pack(0, 0, link, 0, 0) + u32(_IFLA_MASTER, bridge), f"put link {link} on its bridge"
    )


def delete_link(*, name: str = "", index: int = 0) -> Message:
    payload = _IFINFO.pack(0, 0, index, 0, 0) + (text(_IFLA_IFNAME, name) if name else b"")
    return Message(RTM_DELLINK, 0, payload, f"remove link {name or index}", (errno.ENODEV,))
