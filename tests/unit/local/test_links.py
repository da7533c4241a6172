from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from shoal.local import links, ranges
from shoal.local.links import Plan


def a_plan(hosts: int = 3, link_count: int = 1, block: str = "198.18.4.0/22", number: int = 1) -> Plan:
    return Plan(block=block, number=number, links=link_count, hosts=[f"h{n}" for n in range(1, hosts + 1)])


def test_addresses_of_a_lab() -> None:
    plan = a_plan()

    assert (str(plan.root_address), str(plan.lab_address)) == ("198.18.4.1", "198.18.4.2")
    assert str(plan.nats_address) == "198.18.5.1"
    assert [str(plan.address(h)) for h in plan.hosts] == ["198.18.5.11", "198.18.5.12", "198.18.5.13"]


def test_with_two_links_neighbours_share_none() -> None:
    plan = a_plan(hosts=4, link_count=2)

    assert [plan.link_of(h) for h in plan.hosts] == [0, 1, 0, 1]
    assert [str(plan.address(h)) for h in plan.hosts] == ["198.18.5.11", "198.18.6.11", "198.18.5.12", "198.18.6.12"]
    assert [str(plan.gateway(n)) for n in (0, 1)] == ["198.18.5.1", "198.18.6.1"]


@given(hosts=st.integers(1, links.HOSTS_MAX), link_count=st.integers(1, links.LINKS_MAX), number=st.integers(0, 127))
def test_no_two_addresses_are_alike_and_all_are_in_the_block(hosts: int, link_count: int, number: int) -> None:
    block = ranges.lab_candidates()[number]
    plan = a_plan(hosts, link_count, block, number)
    found = [plan.address(h) for h in plan.hosts]
    found += [plan.gateway(n) for n in range(link_count)] + [plan.root_address, plan.lab_address]

    assert len(set(found)) == len(found)
    assert all(address in IPv4Network(block) for address in found)
    for host in plan.hosts:  # host and gateway are on one /24
        link = IPv4Network((plan.gateway(plan.link_of(host)), 24), strict=False)
        assert plan.address(host) in link
        assert plan.address(host) not in (link.network_address, link.broadcast_address)


@given(st.integers(0, len(ranges.lab_candidates()) - 1))
def test_the_name_of_the_uplink_fits(number: int) -> None:
    assert len(a_plan(number=number).uplink) <= 15
