"""Netlink's encoding, and against the kernel in a namespace of the test's own."""

import ctypes
import errno
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.net import namespace
from shoal.net.links import RTM_NEWLINK, delete_link, link_up, mac_of
from shoal.net.messages import DUMP_INTERRUPTED, NLMSG_DONE, NLMSG_ERROR, attribute, attributes, frame, nested
from shoal.net.netlink import Monitor, Netlink, NetlinkError
from shoal.net.plumbing import Plumbing, ensure_bridge, plumb
from shoal.net.records import PROTOCOL_SHOAL
from shoal.net.routes import delete_route, new_route


@given(st.dictionaries(st.integers(1, 100), st.binary(max_size=300), max_size=10))
def test_attributes_come_back(values: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in values.items())
    assert len(packed) % 4 == 0
    assert attributes(packed) == values
    assert attributes(attributes(nested(7, packed))[7]) == values


@given(st.binary(max_size=200))
def test_reading_is_total(data: bytes) -> None:
    attributes(data)


def test_a_mac_follows_from_the_address() -> None:
    assert mac_of(IPv4Address("10.208.1.2")) == "0a:58:0a:d0:01:02"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace of its own")


class Spare:
    """A network namespace without a name; gone when closed."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)

        def make() -> int:
            assert libc.unshare(namespace.CLONE_NEWNET) == 0
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.fd = namespace.call_in(own, make)
        os.close(own)


@pytest.fixture
def spare() -> Iterator[int]:
    made = Spare()
    yield made.fd
    os.close(made.fd)


@pytest.fixture
def other() -> Iterator[int]:
    made = Spare()
    yield made.fd
    os.close(made.fd)


@needs_root
def test_a_pod_is_plumbed_and_plumbing_it_again_is_harmless(spare: int, other: int) -> None:
    gateway = IPv4Interface("10.208.0.1/24")
    with Netlink(spare) as host:
        bridge = ensure_bridge(host, "shoaltest", gateway, mtu=1400)
        assert ensure_bridge(host, "shoaltest", gateway, mtu=1400) == bridge
        wanted = Plumbing(
            link="svtest", bridge=bridge, mtu=1400, address=IPv4Interface("10.208.0.5/24"), gateway=gateway.ip
        )
        plumb(host, other, wanted)
        plumb(host, other, wanted)
        outside = host.link("svtest")
        assert outside is not None
        assert (outside.master, outside.up, outside.mtu) == (bridge, True, 1400)
        with Netlink(other) as inside:
            eth0 = inside.link("eth0")
            assert eth0 is not None
            assert (eth0.up, eth0.mac) == (True, "0a:58:0a:d0:00:05")
            assert (eth0.index, IPv4Interface("10.208.0.5/24")) in inside.addresses()
            assert ("0.0.0.0/0", "10.208.0.1") in {(r.destination, r.gateway) for r in inside.routes()}
            lo = inside.link("lo")
            assert lo is not None
            assert lo.up
        assert ping(other, "10.208.0.1"), "the pod reaches its bridge"
        assert ping(other, "10.208.0.5"), "and itself"
        # The bridge vanished (somebody removed it): plumbing again puts the link on the new one.
        host.send(delete_link(name="shoaltest"))
        again = ensure_bridge(host, "shoaltest", gateway, mtu=1400)
        plumb(host, other, Plumbing(**{f: getattr(wanted, f) for f in wanted.__struct_fields__} | {"bridge": again}))
        outside = host.link("svtest")
        assert outside is not None
        assert outside.master == again
        host.send(delete_link(name="svtest"))
        host.send(delete_link(name="svtest"))


def run_in(descriptor: int, *command: str) -> int:
    return namespace.call_in(descriptor, lambda: subprocess.run(command, capture_output=True, check=False)).returncode


def ping(descriptor: int, address: str) -> bool:
    return run_in(descriptor, "busybox", "ping", "-c", "1", "-W", "5", address) == 0


@needs_root
def test_routes_are_added_replaced_listed_and_removed(spare: int) -> None:
    with Netlink(spare) as host:
        bridge = ensure_bridge(host, "shoaltest", IPv4Interface("192.0.2.1/24"), mtu=1500)
        host.send(new_route("10.1.0.0/23", gateway="192.0.2.2", protocol=PROTOCOL_SHOAL))
        with pytest.raises(NetlinkError) as caught:
            host.send(new_route("10.1.0.0/23", gateway="192.0.2.3", protocol=PROTOCOL_SHOAL))
        assert caught.value.errno == errno.EEXIST, "what is there is not replaced unasked"
        host.send(new_route("10.1.0.0/23", gateway="192.0.2.3", protocol=PROTOCOL_SHOAL, replace=True))
        (route,) = host.routes(protocol=PROTOCOL_SHOAL)
        assert (route.destination, route.gateway, route.link) == ("10.1.0.0/23", "192.0.2.3", bridge)
        host.send(delete_route(route))
        host.send(delete_route(route))
        assert host.routes(protocol=PROTOCOL_SHOAL) == []


@needs_root
def test_routes_that_lead_nowhere_are_listed_where_they_are_asked_for(spare: int) -> None:
    run_in(spare, "ip", "route", "add", "blackhole", "10.2.0.0/23")
    run_in(spare, "ip", "route", "add", "unreachable", "10.3.0.0/23")
    with Netlink(spare) as host:
        assert host.routes() == []
        assert {(r.destination, r.unreachable) for r in host.routes(unreachable=True)} == {
            ("10.2.0.0/23", True),
            ("10.3.0.0/23", True),
        }
        with pytest.raises(NetlinkError):
            host.route_to("10.3.0.1")


@needs_root
def test_more_messages_than_the_sockets_buffer_has_answers_for(spare: int) -> None:
    with Netlink(spare) as host:
        ensure_bridge(host, "shoaltest", IPv4Interface("192.0.2.1/24"), mtu=1500)
        many = [new_route(f"10.{i >> 8}.{i & 255}.0/24", gateway="192.0.2.2", protocol=83) for i in range(3000)]
        said = host.attempt([*many, new_route("10.0.7.0/24", gateway="192.0.2.2")])
        assert said[:-1] == [None] * 3000
        assert said[-1] is not None
        assert said[-1].errno == errno.EEXIST
        assert len(host.routes(protocol=83)) == 3000


@needs_root
def test_a_bridge_takes_the_range_and_the_mtu_that_its_node_has_now(spare: int) -> None:
    with Netlink(spare) as host:
        bridge = ensure_bridge(host, "shoaltest", IPv4Interface("10.208.0.1/23"), mtu=1500)
        assert ensure_bridge(host, "shoaltest", IPv4Interface("10.208.4.1/23"), mtu=1400) == bridge
        assert [a for link, a in host.addresses() if link == bridge] == [IPv4Interface("10.208.4.1/23")]
        assert [link.mtu for link in host.links() if link.index == bridge] == [1400]


class FakeKernel:
    """Answers that lie ready before they are asked for: a socket's first question has the sequence 1."""

    def __init__(self) -> None:
        self.end, self._own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def says(self, sequence: int, kind: int, payload: bytes, flags: int = 0) -> None:
        self._own.send(frame(kind, flags, sequence, payload))

    def asked(self) -> int:
        """How often, so far."""
        count = 0
        self._own.setblocking(False)
        with suppress(BlockingIOError):
            while self._own.recv(65536):
                count += 1
        return count

    def close(self) -> None:
        self._own.close()


@pytest.fixture
def fake() -> Iterator[tuple[FakeKernel, Netlink]]:
    kernel, netlink = FakeKernel(), Netlink()
    netlink._socket.close()
    netlink._socket = kernel.end
    yield kernel, netlink
    netlink.close()
    kernel.close()


def a_link(index: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, 0, 0)


FINE = bytes(4)


def test_a_list_that_changed_while_it_was_told_is_asked_for_again(fake: tuple[FakeKernel, Netlink]) -> None:
    kernel, netlink = fake
    kernel.says(1, RTM_NEWLINK, a_link(1), DUMP_INTERRUPTED)
    kernel.says(1, NLMSG_DONE, FINE)
    kernel.says(2, RTM_NEWLINK, a_link(1))
    kernel.says(2, RTM_NEWLINK, a_link(2))
    kernel.says(2, NLMSG_DONE, FINE)
    assert [link.index for link in netlink.links()] == [1, 2]
    assert kernel.asked() == 2


def test_a_list_that_broke_off_is_no_list(fake: tuple[FakeKernel, Netlink]) -> None:
    kernel, netlink = fake
    kernel.says(1, RTM_NEWLINK, a_link(1))
    kernel.says(1, NLMSG_DONE, struct.pack("=i", -errno.ENOMEM))
    with pytest.raises(NetlinkError, match="list"):
        netlink.links()


def test_what_an_exchange_that_broke_off_has_left_is_no_answer_to_the_next(fake: tuple[FakeKernel, Netlink]) -> None:
    kernel, netlink = fake
    kernel.says(0, NLMSG_ERROR, FINE)
    kernel.says(1, RTM_NEWLINK, a_link(7))
    found = netlink.link("eth0")
    assert found is not None
    assert found.index == 7


@needs_root
def test_a_refusal_names_what_was_refused_and_keeps_nothing_else_back(spare: int) -> None:
    with Netlink(spare) as host:
        ensure_bridge(host, "shoaltest", IPv4Interface("192.0.2.1/24"), mtu=1500)
        with pytest.raises(NetlinkError, match=r"route 10\.9\.0\.0/16 via 198\.51\.100\.1") as caught:
            host.send(
                new_route("10.9.0.0/16", gateway="198.51.100.1", protocol=PROTOCOL_SHOAL),
                new_route("10.1.0.0/16", gateway="192.0.2.2", protocol=PROTOCOL_SHOAL),
            )
        assert caught.value.errno == errno.ENETUNREACH
        assert [r.destination for r in host.routes(protocol=PROTOCOL_SHOAL)] == ["10.1.0.0/16"]
        with pytest.raises(NetlinkError, match="bring up link 9999"):
            host.send(link_up(9999))
        assert host.link("none") is None


@needs_root
def test_a_visit_to_another_namespace_leaves_this_one_where_it_is(spare: int) -> None:
    before = namespace.own()
    assert namespace.call_in(spare, lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == namespace.inode(spare)
    assert namespace.own() == before
    with pytest.raises(ValueError, match="inside"):
        namespace.call_in(spare, lambda: int("inside"))


@needs_root
def test_threads_share_a_socket_without_taking_each_others_answers(spare: int) -> None:
    with Netlink(spare) as kernel, ThreadPoolExecutor(2) as threads:

        def look_often(_: int) -> set[str]:
            return {link.name for _ in range(300) for link in kernel.links()}

        assert list(threads.map(look_often, range(2), timeout=30)) == [{"lo"}, {"lo"}]


@needs_root
def test_more_changes_than_a_monitor_can_hold_are_told_as_one_and_later_ones_again(spare: int) -> None:
    with Netlink(spare) as kernel:
        link = ensure_bridge(kernel, "shoaltest", IPv4Interface("192.0.2.1/24"), mtu=1500)
        monitor = namespace.call_in(spare, Monitor)
        try:
            monitor._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            kernel.attempt([new_route(f"10.0.{i}.0/24", link=link) for i in range(200)])
            assert heard(monitor)
            monitor.drain()
            assert not heard(monitor)
            kernel.send(new_route("10.1.0.0/24", link=link))
            assert heard(monitor)
            monitor.drain()
        finally:
            monitor.close()


def heard(monitor: Monitor) -> bool:
    return bool(select.select([monitor], [], [], 0)[0])
