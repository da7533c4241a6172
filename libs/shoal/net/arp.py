"""Saying on a link which hardware address an IPv4 address has now: RFC 5227, section 2.3.

A host that came back with other hardware (a virtual machine made anew, a card replaced) is else not reached until its
neighbours' entries run out: they are refreshed by the very traffic that is lost, for 45 seconds and more.
"""

import socket
import struct
from ipaddress import IPv4Address

from shoal.net.links import Link

_ETHERTYPE_ARP, _ETHERTYPE_IPV4 = 0x0806, 0x0800
_ETHERNET, _REQUEST = 1, 1
_EVERYBODY = b"\xff" * 6


def announcement(mac: str, address: IPv4Address) -> bytes:
    """The whole frame: a request for the sender's own address, which everybody hears."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    return (
        _EVERYBODY
        + hardware
        + struct.pack("!HHHBBH", _ETHERTYPE_ARP, _ETHERNET, _ETHERTYPE_IPV4, 6, 4, _REQUEST)
        + (hardware + address.packed)
        + (bytes(6) + address.packed)
    )


def announce(link: Link, address: IPv4Address) -> None:
    """Send it on an Ethernet link of the caller's network. Raises: OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as wire:
        wire.bind((link.name, 0))
        wire.send(announcement(link.mac, address))
