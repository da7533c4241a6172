"""IPv4 addresses of links. Pure. rtnetlink(7), <linux/if_addr.h>."""

import errno
import socket
import struct
from ipaddress import IPv4Interface

from shoal.net.messages import CREATE, EXCL, Message, attribute, attributes
from shoal.net.records import SCOPE_UNIVERSE

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22

_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, link
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4


def all_addresses() -> bytes:
    """For RTM_GETADDR, as a dump."""
    return _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0)


def read_address(payload: bytes) -> tuple[int, IPv4Interface] | None:
    """(link, address with its prefix length); None for what is no IPv4 address."""
    family, prefix, _, _, link = _IFADDR.unpack_from(payload)
    values = attributes(payload[_IFADDR.size :])
    raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    return (link, IPv4Interface((raw, prefix))) if family == socket.AF_INET and raw else None


def new_address(link: int, interface: IPv4Interface) -> Message:
    packed = interface.ip.packed
    payload = (
        _IFADDR.pack(socket.AF_INET, interface.network.prefixlen, 0, SCOPE_UNIVERSE, link)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
        + attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    )
    return Message(RTM_NEWADDR, CREATE | EXCL, payload, f"give {interface} to link {link}", (errno.EEXIST,))


def delete_address(link: int, interface: IPv4Interface) -> Message:
    payload = _IFADDR.pack(socket.AF_INET, interface.network.prefixlen, 0, SCOPE_UNIVERSE, link) + attribute(
        _IFA_LOCAL, interface.ip.packed
    )
    return Message(RTM_DELADDR, 0, payload, f"take {interface} from link {link}", (errno.EADDRNOTAVAIL,))
