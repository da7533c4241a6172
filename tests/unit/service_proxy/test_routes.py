"""Which routes a host needs, against those that it has."""

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shoal.model.node import PodRange
from shoal.net.records import PROTOCOL_SHOAL, Route
from shoal.service_proxy.routes import HostAddress, Plan, View, Wanted, plan

CLUSTER = IPv4Network("10.208.0.0/12")


def a_range(node: str, third: int, address: str) -> PodRange:
    return PodRange(node=node, cidr=f"10.208.{third}.0/23", address=address)


def ours(third: int, gateway: str, *, protocol: int = PROTOCOL_SHOAL) -> Route:
    return Route(f"10.208.{third}.0/23", gateway, 2, protocol)


RANGES = (a_range("a", 0, "192.0.2.1"), a_range("b", 2, "192.0.2.2"), a_range("c", 4, "192.0.2.3"))


def wanted(third: int, gateway: str, node: str, link: int = 2) -> Wanted:
    return Wanted(f"10.208.{third}.0/23", gateway, link, node)


def an_address(interface: str, link: int = 2, *, up: bool = True) -> HostAddress:
    return HostAddress(IPv4Interface(interface), link, up)


def view(*routes: Route, ranges: tuple[PodRange, ...] = RANGES, **known: Any) -> View:
    values: dict[str, Any] = {"cluster": CLUSTER, "addresses": (an_address("192.0.2.1/24"),)} | known
    return View(node="a", ranges=ranges, routes=routes, **values)


def test_every_other_node_is_reached_by_its_address() -> None:
    assert plan(view()) == Plan(
        add=(wanted(2, "192.0.2.2", "b"), wanted(4, "192.0.2.3", "c")), others=2, links=frozenset({2})
    )


def test_what_is_there_is_left_alone() -> None:
    assert plan(view(ours(2, "192.0.2.2"), ours(4, "192.0.2.3"))) == Plan(others=2, links=frozenset({2}))


def test_a_node_that_went_and_a_node_that_moved() -> None:
    found = plan(view(ours(2, "192.0.2.9"), ours(4, "192.0.2.3"), ours(6, "192.0.2.4")))
    assert found.add == (wanted(2, "192.0.2.2", "b"),)
    assert found.remove == (ours(2, "192.0.2.9"), ours(6, "192.0.2.4")), "nothing that is added replaces"


def test_a_route_on_a_link_that_lost_its_address_is_made_on_the_one_that_has_it() -> None:
    found = plan(view(ours(2, "192.0.2.2"), ours(4, "192.0.2.3"), addresses=(an_address("192.0.2.1/24", 7),)))
    assert found.add == (wanted(2, "192.0.2.2", "b", 7), wanted(4, "192.0.2.3", "c", 7))
    assert found.remove == (ours(2, "192.0.2.2"), ours(4, "192.0.2.3"))


def test_of_links_that_hold_the_address_one_that_is_up_is_taken_the_nearest_first() -> None:
    addresses = (an_address("192.0.2.1/24", 2, up=False), an_address("192.0.0.9/16", 3), an_address("192.0.2.8/25", 4))
    assert {w.link for w in plan(view(addresses=addresses)).add} == {4}


def test_a_link_that_is_down_is_told() -> None:
    found = plan(view(addresses=(an_address("192.0.2.1/24", up=False),)))
    assert found.add == ()
    assert found.problems == ("node b: the link to 192.0.2.2 is down", "node c: the link to 192.0.2.3 is down")


def test_a_way_that_leads_nowhere_is_anothers_whatever_its_protocol() -> None:
    blackhole = Route("10.208.2.0/23", "", 0, PROTOCOL_SHOAL, unreachable=True)
    found = plan(view(blackhole))
    assert ([w.node for w in found.add], found.remove) == (["c"], ())
    assert found.problems == ("node b: this host has another's route to 10.208.2.0/23 (protocol 83)",)


def test_anothers_route_to_a_part_of_a_range_is_told_and_the_rest_is_routed() -> None:
    found = plan(view(Route("10.208.3.0/24", "", 9, 2), Route("10.0.0.0/8", "192.0.2.250", 2, 4)))
    assert [w.node for w in found.add] == ["b", "c"]
    assert found.problems == ("node b: this host has another's route to 10.208.3.0/24, a part of 10.208.2.0/23",)


def test_two_nodes_of_one_range_are_told_and_the_first_is_reached() -> None:
    found = plan(view(ranges=(RANGES[0], RANGES[1], PodRange(node="c", cidr=RANGES[1].cidr, address="192.0.2.3"))))
    assert found.add == (wanted(2, "192.0.2.2", "b"),)
    assert found.problems == ("node c: its pod range 10.208.2.0/23 is node b's, too",)


def test_a_range_of_our_own_that_cannot_be_read_routes_nothing_away() -> None:
    found = plan(view(ranges=(PodRange(node="a", cidr="none", address=""), *RANGES[1:])))
    assert (found.add, len(found.problems)) == ((), 2)


def test_another_clusters_routes_and_everybody_elses_are_not_ours_to_remove() -> None:
    other = Route("10.64.0.0/23", "192.0.2.7", 2, PROTOCOL_SHOAL)
    static = Route("10.208.6.0/23", "192.0.2.8", 2, 4)
    assert plan(view(other, static)).remove == ()


def test_nothing_is_removed_before_the_clusters_range_is_known() -> None:
    assert plan(view(ours(6, "192.0.2.4"), cluster=None)).remove == ()


def test_anothers_route_is_not_replaced_but_told() -> None:
    found = plan(view(ours(2, "192.0.2.254", protocol=4)))
    assert [w.destination for w in found.add] == ["10.208.4.0/23"]
    assert found.problems == ("node b: this host has another's route to 10.208.2.0/23 (protocol 4)",)


def test_a_node_on_no_link_of_ours_is_told() -> None:
    far = (*RANGES[:2], a_range("c", 4, "198.51.100.3"))
    found = plan(view(ranges=far))
    assert [w.destination for w in found.add] == ["10.208.2.0/23"]
    assert found.problems == ("node c: 198.51.100.3 shares no link with this host",)


def test_a_node_that_has_not_told_its_address_is_waited_for() -> None:
    silent = (RANGES[0], a_range("b", 2, ""))
    assert plan(view(ranges=silent)) == Plan()
    assert plan(view(ours(2, "192.0.2.2"), ranges=silent)) == Plan(), "what it told before stands"


def test_a_range_that_overlaps_our_own_is_never_routed_away() -> None:
    found = plan(view(ranges=(RANGES[0], PodRange(node="b", cidr="10.208.0.0/16", address="192.0.2.2"))))
    assert found.add == ()
    assert "overlaps" in found.problems[0]


some_routes = st.lists(
    st.builds(
        lambda third, last, protocol: ours(third * 2, f"192.0.2.{last}", protocol=protocol),
        st.integers(0, 5),
        st.integers(1, 6),
        st.sampled_from((PROTOCOL_SHOAL, 4)),
    ),
    unique_by=lambda r: r.destination,
)


@given(some_routes, st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), unique_by=lambda p: p[0]))
def test_carrying_it_out_and_planning_again_plans_nothing(routes: list[Route], nodes: list[tuple[int, int]]) -> None:
    ranges = tuple(a_range("abcdef"[i], 2 * i, f"192.0.2.{last}") for i, last in nodes)
    first = plan(view(*routes, ranges=ranges))
    table = {r.destination: r for r in routes if r not in first.remove}
    assert all(r.protocol == PROTOCOL_SHOAL for r in first.remove)
    for new in first.add:
        assert new.destination not in table, "what is added replaces nothing"
        table[new.destination] = Route(new.destination, new.gateway, new.link, PROTOCOL_SHOAL)
    again = plan(view(*table.values(), ranges=ranges))
    assert (again.add, again.remove) == ((), ())
