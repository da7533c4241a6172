"""What conntrack remembers of IPv4 flows, on the wire: <linux/netfilter/nfnetlink_conntrack.h>. Pure."""

import errno
import socket
import struct
from ipaddress import IPv4Address

from shoal.net.messages import Message, attribute, attributes, nested
from shoal.net.records import Flow

NETLINK_NETFILTER = 12  # the family of a socket that is asked for flows; Python has no name for it
_CTNETLINK = 1 << 8
CT_GET, _CT_DELETE = _CTNETLINK | 1, _CTNETLINK | 2
_HEAD = struct.pack("=BBH", socket.AF_INET, 0, 0)

_ORIGINAL, _REPLY = 1, 2
_ADDRESSES, _PROTOCOL = 1, 2  # of one way
_SOURCE, _TARGET = 1, 2  # of the addresses
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3  # of the protocol
_ID, _ZONE = 12, 18


def all_flows() -> bytes:
    return _HEAD


def read_flow(payload: bytes) -> Flow | None:
    """None for what has no ports."""
    found = attributes(payload[len(_HEAD) :])
    original, reply = (_read_way(found.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
    if original is None or reply is None:
        return None
    protocol, source, source_port, target, target_port = original
    _, answers, answers_port, _, _ = reply
    return Flow(
        protocol=protocol,
        source=source,
        source_port=source_port,
        target=target,
        target_port=target_port,
        answers=answers,
        answers_port=answers_port,
        id=found.get(_ID, b""),
        zone=found.get(_ZONE, b""),
    )


def delete_flow(flow: Flow) -> Message:
    """That one, and no later one of the same ends."""
    way = nested(
        _ORIGINAL,
        nested(_ADDRESSES, attribute(_SOURCE, flow.source.packed), attribute(_TARGET, flow.target.packed)),
        nested(
            _PROTOCOL,
            attribute(_NUMBER, bytes([flow.protocol])),
            attribute(_SOURCE_PORT, struct.pack("!H", flow.source_port)),
            attribute(_TARGET_PORT, struct.pack("!H", flow.target_port)),
        ),
    )
    which = (attribute(kind, value) for kind, value in ((_ID, flow.id), (_ZONE, flow.zone)) if value)
    what = f"forget the flow from {flow.source}:{flow.source_port} to {flow.target}:{flow.target_port}"
    return Message(_CT_DELETE, 0, _HEAD + way + b"".join(which), what, (errno.ENOENT,))


def _read_way(value: bytes) -> tuple[int, IPv4Address, int, IPv4Address, int] | None:
    way = attributes(value)
    addresses, protocol = attributes(way.get(_ADDRESSES, b"")), attributes(way.get(_PROTOCOL, b""))
    ends = [addresses.get(kind, b"") for kind in (_SOURCE, _TARGET)]
    ports = [protocol.get(kind, b"") for kind in (_SOURCE_PORT, _TARGET_PORT)]
    if [len(part) for part in (*ends, *ports, protocol.get(_NUMBER, b""))] != [4, 4, 2, 2, 1]:
        return None
    source, target = map(IPv4Address, ends)
    source_port, target_port = (int.from_bytes(port, "big") for port in ports)
    return protocol[_NUMBER][0], source, source_port, target, target_port
