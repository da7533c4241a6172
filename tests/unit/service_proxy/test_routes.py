"""Which routes a host needs, against those that it has."""

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shoal.model.node import PodRange
from shoal.net.records import PROTOCOL_SHOAL, Route
from shoal.service_proxy.routes import Plan, View, Wanted, plan

CLUSTER = IPv4Network("10.208.0.0/12")


def a_range(node: str, third: int, address: str) -> PodRange:
    return PodRange(node=node, cidr=f"10.208.{third}.0/23", address=address)


def ours(third: int, gateway: str, *, protocol: int = PROTOCOL_SHOAL) -> Route:
    return Route(f"10.208.{third}.0/23", gateway, 2, protocol)


RANGES = (a_range("a", 0, "192.0.2.1"), a_range("b", 2, "192.0.2.2"), a_range("c", 4, "192.0.2.3"))


def view(*routes: Route, ranges: tuple[PodRange, ...] = RANGES, **known: Any) -> View:
    values: dict[str, Any] = {"cluster": CLUSTER, "addresses": (IPv4Interface("192.0.2.1/24"),)} | known
    return View(node="a", ranges=ranges, routes=routes, **values)


def test_every_other_node_is_reached_by_its_address() -> None:
    assert plan(view()) == Plan(add=(Wanted("10.208.2.0/23", "192.0.2.2"), Wanted("10.208.4.0/23", "192.0.2.3")))


def test_what_is_there_is_left_alone() -> None:
    assert plan(view(ours(2, "192.0.2.2"), ours(4, "192.0.2.3"))) == Plan()


def test_a_node_that_went_and_a_node_that_moved() -> None:
    found = plan(view(ours(2, "192.0.2.9"), ours(4, "192.0.2.3"), ours(6, "192.0.2.4")))
    assert found.add == (Wanted("10.208.2.0/23", "192.0.2.2"),), "replaces the old gateway's"
    assert found.remove == (ours(6, "192.0.2.4"),)


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
    assert plan(view(ranges=(RANGES[0], a_range("b", 2, "")))) == Plan()


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
    for wanted in first.add:
        assert table.get(wanted.destination, ours(0, "")).protocol == PROTOCOL_SHOAL, "replaced another's"
        table[wanted.destination] = Route(wanted.destination, wanted.gateway, 2, PROTOCOL_SHOAL)
    again = plan(view(*table.values(), ranges=ranges))
    assert (again.add, again.remove) == ((), ())
