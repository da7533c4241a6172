"""A client that sends on and on reaches whom the port leads to now: against the kernel, in namespaces of the test's own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from tests.unit.net.test_netlink import Spare

from shoal.net import namespace
from shoal.net.flows import NETLINK_NETFILTER
from shoal.net.netlink import Netlink
from shoal.net.plumbing import Plumbing, ensure_bridge, plumb
from shoal.node_agent.hostports import HostPort, Nat, ruleset
from shoal.node_agent.network import forget_flows

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for network namespaces of its own"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]
GATEWAY, POD = IPv4Interface("10.208.0.1/24"), IPv4Interface("10.208.0.5/24")
NAT = Nat(table="shoal_x", bridge="shoaltest", pod_cidr="10.208.0.0/24", cluster_cidr="10.208.0.0/12")


class Udp:
    """A socket in a namespace."""

    def __init__(self, within: int, port: int = 0) -> None:
        self.socket = namespace.call_in(within, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.settimeout(5)
        self.socket.bind(("", port))

    def hear(self) -> bytes:
        return self.socket.recv(100)

    def send(self, data: bytes, port: int) -> None:
        self.socket.sendto(data, ("127.0.0.1", port))


class Host:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.kernel = Netlink(fd)

    def program(self, *ports: HostPort) -> None:
        text = ruleset(NAT, ports)
        namespace.call_in(self.fd, lambda: subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True))
        namespace.call_in(self.fd, lambda: forget_flows(self.kernel, set(ports), GATEWAY.network))

    def answers(self) -> set[tuple[int, str, int]]:
        """(the port meant, who answers)"""
        with Netlink(self.fd, family=NETLINK_NETFILTER) as kernel:
            return {(f.target_port, str(f.answers), f.answers_port) for f in kernel.flows(socket.IPPROTO_UDP)}


@pytest.fixture
def pod() -> Iterator[int]:
    made = Spare()
    yield made.fd
    os.close(made.fd)


@pytest.fixture
def host(pod: int) -> Iterator[Host]:
    fd = Spare().fd
    made = Host(fd)
    bridge = ensure_bridge(made.kernel, NAT.bridge, GATEWAY, mtu=1500)
    plumb(made.kernel, pod, Plumbing(link="svtest", bridge=bridge, mtu=1500, address=POD, gateway=GATEWAY.ip))

    def set_up() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        Path(f"/proc/sys/net/ipv4/conf/{NAT.bridge}/route_localnet").write_text("1")

    namespace.call_in(fd, set_up)
    yield made
    made.kernel.close()
    os.close(fd)


def to(host_port: int, pod_port: int) -> HostPort:
    return HostPort("udp", "", host_port, str(POD.ip), pod_port)


def test_a_port_that_leads_elsewhere_takes_its_clients_along_and_no_others(host: Host, pod: int) -> None:
    with ExitStack() as stack:
        first, second, third = (Udp(pod, port) for port in (53, 54, 55))
        client, other, early = (Udp(host.fd) for _ in range(3))
        for made in (first, second, third, client, other, early):
            stack.callback(made.socket.close)
        host.program(to(5301, 55))
        early.send(b"nobody listens", 5300)
        assert (5300, "127.0.0.1", 5300) in host.answers(), "or the test shows nothing"
        host.program(to(5300, 53), to(5301, 55))
        early.send(b"early", 5300)
        assert first.hear() == b"early"
        client.send(b"one", 5300)
        other.send(b"other", 5301)
        assert (first.hear(), third.hear()) == (b"one", b"other")
        host.program(to(5300, 54), to(5301, 55))
        assert host.answers() == {(5301, str(POD.ip), 55)}, "what leads where it led goes on"
        client.send(b"two", 5300)
        assert second.hear() == b"two"
        host.program(to(5301, 55))
        assert host.answers() == {(5301, str(POD.ip), 55)}
