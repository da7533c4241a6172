"""The wire format of netlink: a header, a family's own head, attributes. Pure. netlink(7), <linux/netlink.h>."""

import struct
from collections.abc import Iterator, Mapping

import msgspec

NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK = 0x1, 0x4
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400  # of what makes something
DUMP = 0x300  # of what asks
DUMP_INTERRUPTED = 0x10  # of what answers

_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")


class Message(msgspec.Struct, frozen=True):
    kind: int
    flags: int
    payload: bytes
    what: str  # for the sentence of an error
    ignore: tuple[int, ...] = ()  # errnos that mean: it is so already


def frame(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    size = _HEADER.size + len(payload)
    return _HEADER.pack(size, kind, flags, sequence, 0) + payload + bytes(-size % 4)


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(flags, sequence, kind, payload) of each message in one datagram."""
    while len(data) >= _HEADER.size:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        yield flags, sequence, kind, data[_HEADER.size : size]
        data = data[size + (-size % 4) :]


def error_number(payload: bytes) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE; 0: it went well."""
    return -int(struct.unpack_from("=i", payload)[0]) if len(payload) >= 4 else 0


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
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


def number(values: Mapping[int, bytes], kind: int) -> int:
    raw = values.get(kind)
    return struct.unpack("=I", raw)[0] if raw else 0
