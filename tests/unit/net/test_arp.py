"""A neighbour learns where an address is now."""

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from tests.unit.net.test_netlink import Spare, needs_root

from shoal.net import namespace
from shoal.net.arp import announce, announcement
from shoal.net.netlink import Netlink

HOST = IPv4Address("192.0.2.1")


def test_an_announcement_asks_everybody_for_the_senders_own_address() -> None:
    assert announcement("0a:58:c0:00:02:01", HOST).hex() == (
        "ffffffffffff0a58c000020108060001080006040001"
        "0a58c0000201c0000201000000000000c0000201"
    )  # fmt: skip


@pytest.fixture
def host() -> Iterator[int]:
    made = Spare()
    yield made.fd
    os.close(made.fd)


@pytest.fixture
def neighbour() -> Iterator[int]:
    made = Spare()
    yield made.fd
    os.close(made.fd)


def ip(descriptor: int, *arguments: str) -> str:
    def run() -> str:
        return subprocess.run(["ip", *arguments], capture_output=True, check=True, text=True).stdout

    return namespace.call_in(descriptor, run)


@needs_root
def test_an_entry_that_was_just_confirmed_is_put_right(host: int, neighbour: int) -> None:
    peer = f"/proc/{os.getpid()}/fd/{neighbour}"
    ip(host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer)
    for end, address in ((host, "192.0.2.1/24"), (neighbour, "192.0.2.2/24")):
        ip(end, "addr", "add", address, "dev", "eth0")
        ip(end, "link", "set", "eth0", "up")
    ip(neighbour, "neigh", "replace", str(HOST), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable")
    with Netlink(host) as kernel:
        link = kernel.link("eth0")
    assert link is not None
    namespace.call_in(host, lambda: announce(link, HOST))
    assert link.mac in ip(neighbour, "neigh", "show", str(HOST))
