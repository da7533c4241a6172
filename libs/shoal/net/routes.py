"""IPv4 routes of the main table. Pure. rtnetlink(7), <linux/rtnetlink.h>."""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv4Network

from shoal.net.messages import CREATE, EXCL, REPLACE, Message, attribute, attributes, number, u32
from shoal.net.records import SCOPE_LINK, SCOPE_UNIVERSE, Route

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
TABLE_MAIN = 254
PROTOCOL_STATIC = 4

_RTMSG = struct.Struct(
    "=BBBBBBBBI"
)  # family, lengths of destination and source, tos, table, protocol, scope, type, flags
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_UNICAST = 1
_UNREACHABLE = frozenset({6, 7, 8})  # blackhole, unreachable, prohibit


def all_routes() -> bytes:
    """For RTM_GETROUTE, as a dump."""
    return _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)


def way_to(address: str) -> bytes:
    """For RTM_GETROUTE: by which route the kernel would send."""
    return _RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, IPv4Address(address).packed)


def read_way(payload: bytes) -> tuple[str, int]:
    """(own source address, link) of the answer to `way_to`."""
    values = attributes(payload[_RTMSG.size :])
    source = values.get(_RTA_PREFSRC)
    return str(IPv4Address(source)) if source else "", number(values, _RTA_OIF)


def read_route(payload: bytes) -> Route | None:
    """None for what is no route of the main table, or one for multicast and the like."""
    family, prefix, _, _, table, protocol, scope, kind, _ = _RTMSG.unpack_from(payload)
    values = attributes(payload[_RTMSG.size :])
    if family != socket.AF_INET or (number(values, _RTA_TABLE) or table) != TABLE_MAIN:
        return None
    if kind != _UNICAST and kind not in _UNREACHABLE:
        return None
    destination = values.get(_RTA_DST, bytes(4))
    gateway = values.get(_RTA_GATEWAY)
    return Route(
        destination=str(IPv4Network((destination, prefix))),
        gateway=str(IPv4Address(gateway)) if gateway else "",
        link=number(values, _RTA_OIF),
        protocol=protocol,
        scope=scope,
        unreachable=kind != _UNICAST,
    )


def _route(destination: IPv4Network, gateway: str, link: int, protocol: int, scope: int) -> bytes:
    return (
        _RTMSG.pack(socket.AF_INET, destination.prefixlen, 0, 0, TABLE_MAIN, protocol, scope, _UNICAST, 0)
        + (attribute(_RTA_DST, destination.network_address.packed) if destination.prefixlen else b"")
        + (attribute(_RTA_GATEWAY, IPv4Address(gateway).packed) if gateway else b"")
        + (u32(_RTA_OIF, link) if link else b"")
    )


def new_route(
    destination: str, *, gateway: str = "", link: int = 0, protocol: int = PROTOCOL_STATIC, replace: bool = False
) -> Message:
    """In the main table. EEXIST if there is one of that destination and metric, whoever made it; `replace` takes its
    place instead.
    """
    network = IPv4Network(destination)
    payload = _route(network, gateway, link, protocol, SCOPE_UNIVERSE if gateway else SCOPE_LINK)
    flags = CREATE | (REPLACE if replace else EXCL)
    return Message(RTM_NEWROUTE, flags, payload, f"route {destination} via {gateway or f'link {link}'}")


def delete_route(route: Route) -> Message:
    payload = _route(IPv4Network(route.destination), route.gateway, route.link, route.protocol, route.scope)
    return Message(RTM_DELROUTE, 0, payload, f"remove the route to {route.destination}", (errno.ESRCH,))
