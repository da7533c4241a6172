"""Which host ports are programmed, with an nft that refuses what the test says."""

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

import pytest

from shoal.net import nft
from shoal.node_agent import network as network_module
from shoal.node_agent.hostports import HostPort, Nat
from shoal.node_agent.network import PodNetwork

NAT = Nat(table="shoal_x", bridge="shoalx", pod_cidr="10.208.0.0/24", cluster_cidr="10.208.0.0/12")


def port(number: int) -> tuple[HostPort, ...]:
    return (HostPort("tcp", "", number, "10.208.0.2", 80),)


BAD = port(666)


class Kernel:
    """What nft was given last and took."""

    def __init__(self) -> None:
        self.text = ""
        self.tries = 0
        self.refuses = "dport 666 "
        self.looked: list[set[HostPort]] = []
        self.tells_flows = True

    async def apply(self, text: str) -> None:
        self.tries += 1
        if self.refuses and self.refuses in text:
            raise nft.NftError("syntax error")
        self.text = text

    def forget_flows(self, _host: object, ports: set[HostPort], pods: IPv4Network) -> None:
        assert str(pods) == NAT.pod_cidr
        self.looked.append(ports)
        if not self.tells_flows:
            raise OSError("protocol not supported")

    @property
    def ports(self) -> list[int]:
        return [int(line.split("dport ")[1].split()[0]) for line in self.text.splitlines() if "dport" in line]


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nft, "apply", made.apply)
    monkeypatch.setattr(network_module, "forget_flows", made.forget_flows)
    return made


@pytest.fixture
def network() -> Iterator[PodNetwork]:
    host: Any = type("Host", (), {"close": lambda _: None})()
    made = PodNetwork(host, 1, IPv4Interface("10.208.0.1/24"), NAT, 1500)
    yield made
    made.close()


async def test_ports_that_are_refused_harm_no_others(network: PodNetwork, kernel: Kernel) -> None:
    with pytest.raises(nft.NftError):
        await network.set_ports("bad", BAD)
    await network.set_ports("good", port(80))
    assert kernel.ports == [80]


async def test_ports_that_were_refused_are_tried_again(network: PodNetwork, kernel: Kernel) -> None:
    for _ in range(2):
        with pytest.raises(nft.NftError):
            await network.set_ports("a", BAD)
    kernel.refuses = ""
    await network.set_ports("a", BAD)
    assert (kernel.ports, kernel.tries) == ([666], 3)


async def test_a_change_that_is_refused_leaves_what_was(network: PodNetwork, kernel: Kernel) -> None:
    await network.set_ports("a", port(80))
    with pytest.raises(nft.NftError):
        await network.set_ports("a", BAD)
    await network.set_ports("b", port(81))
    assert kernel.ports == [80, 81]
    await network.set_ports("a", ())
    assert kernel.ports == [81]


async def test_what_is_programmed_already_costs_nothing(network: PodNetwork, kernel: Kernel) -> None:
    for _ in range(3):
        await network.set_ports("a", port(80))
        await network.set_ports("b", ())
    assert kernel.tries == 1


async def test_of_what_was_remembered_only_what_is_refused_is_left_out(network: PodNetwork, kernel: Kernel) -> None:
    for uid, ports in (("a", port(80)), ("bad", BAD), ("b", port(81))):
        network.remember_ports(uid, ports)
    await network.program()
    assert kernel.ports == [80, 81]


async def test_flows_are_looked_through_at_the_start_and_when_a_port_of_udp_changes(
    network: PodNetwork, kernel: Kernel
) -> None:
    names = HostPort("udp", "", 53, "10.208.0.2", 53)
    await network.program()
    await network.set_ports("tcp", port(80))
    await network.set_ports("udp", (names,))
    await network.set_ports("tcp", ())
    await network.set_ports("udp", ())
    assert kernel.looked == [set(), {names}, set()]


async def test_a_kernel_that_tells_nothing_of_flows_programs_ports_all_the_same(
    network: PodNetwork, kernel: Kernel
) -> None:
    kernel.tells_flows = False
    await network.set_ports("udp", (HostPort("udp", "", 53, "10.208.0.2", 53),))
    assert kernel.ports == [53]
