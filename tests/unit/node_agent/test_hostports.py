import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.unit.node_agent.made import a_pod

from shoal.net.records import Flow
from shoal.node_agent.hostports import HostPort, Nat, of_pod, ruleset, stale

NAT = Nat(table="shoal_0a1b2c3d", bridge="shoal0a1b2c3d", pod_cidr="10.208.0.0/23", cluster_cidr="10.208.0.0/12")


def with_ports(*ports: dict[str, object], **spec: object) -> tuple[HostPort, ...]:
    return of_pod(a_pod(containers=[{"name": "web", "image": "i", "ports": list(ports)}], **spec), "10.208.0.5")


def test_only_ports_of_the_host_count() -> None:
    assert with_ports({"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "protocol": "UDP"}) == (
        HostPort("udp", "", 8081, "10.208.0.5", 81),
    )


def test_a_pod_in_the_hosts_network_listens_there_itself() -> None:
    assert with_ports({"containerPort": 80, "hostPort": 80}, hostNetwork=True) == ()


def test_every_address_is_no_address() -> None:
    (port,) = with_ports({"containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0", "protocol": "TCP"})
    assert port.host_ip == ""


def test_the_table_is_made_anew_in_one_transaction() -> None:
    text = ruleset(NAT, [HostPort("tcp", "", 8080, "10.208.0.5", 80)])
    assert text.startswith("table ip shoal_0a1b2c3d {\n}\ndelete table ip shoal_0a1b2c3d\ntable ip shoal_0a1b2c3d {")
    assert "tcp dport 8080 dnat to 10.208.0.5:80" in text
    assert "ip saddr 10.208.0.0/23 ip daddr != 10.208.0.0/12" in text


def test_a_port_of_one_address_comes_before_the_same_port_of_all() -> None:
    text = ruleset(NAT, [HostPort("tcp", "", 80, "10.208.0.5", 80), HostPort("tcp", "192.0.2.1", 80, "10.208.0.6", 80)])
    assert text.index("ip daddr 192.0.2.1 tcp dport 80") < text.index("    tcp dport 80")


@pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/usr/bin") is None, reason="needs nft (Debian: nftables)")
def test_nft_takes_the_text() -> None:
    text = ruleset(NAT, [HostPort("tcp", "", 80, "10.208.0.5", 80), HostPort("udp", "192.0.2.1", 53, "10.208.0.6", 53)])
    done = subprocess.run(["/usr/sbin/nft", "-c", "-f", "-"], input=text, text=True, capture_output=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("needs root: nft asks the kernel even to check")
    assert done.returncode == 0, done.stderr


def a_flow(target: str, target_port: int, answers: str, answers_port: int) -> Flow:
    return Flow(
        protocol=17,
        source=IPv4Address("192.0.2.9"),
        source_port=4000,
        target=IPv4Address(target),
        target_port=target_port,
        answers=IPv4Address(answers),
        answers_port=answers_port,
    )


HOST, GATEWAY = "192.0.2.1", "10.208.1.1"


@pytest.mark.parametrize(
    ("flow", "astray"),
    [
        (a_flow(HOST, 53, "10.208.1.2", 53), False),
        (a_flow("127.0.0.1", 53, "10.208.1.2", 53), False),
        (a_flow(HOST, 53, "10.208.1.9", 53), True),  # the pod before
        (a_flow(HOST, 53, "10.208.1.2", 54), True),
        (a_flow(HOST, 53, HOST, 53), True),  # there was no pod yet
        (a_flow(HOST, 99, "10.208.1.2", 99), True),  # no port any more
        (a_flow(HOST, 99, HOST, 99), False),  # a program of the host's own
        (a_flow(GATEWAY, 99, GATEWAY, 99), False),
        (a_flow("192.0.2.77", 53, "192.0.2.77", 53), False),  # another host's
        (a_flow("10.208.1.3", 53, "10.208.1.3", 53), False),  # a pod's own address
        (a_flow(GATEWAY, 70, "10.208.1.4", 70), False),  # the port of that address alone
        (a_flow(HOST, 70, "10.208.1.5", 70), False),
        (a_flow(HOST, 70, "10.208.1.4", 70), True),
    ],
)
def test_a_flow_goes_astray_where_its_port_does_not_lead(flow: Flow, astray: bool) -> None:
    ports = [
        HostPort("udp", "", 53, "10.208.1.2", 53),
        HostPort("udp", "", 70, "10.208.1.5", 70),
        HostPort("udp", GATEWAY, 70, "10.208.1.4", 70),
    ]
    own = {IPv4Address(HOST), IPv4Address(GATEWAY)}
    assert stale([flow], ports, own, IPv4Network("10.208.1.0/24")) == ([flow] if astray else [])
