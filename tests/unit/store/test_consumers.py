"""Filters of consumers: the server refuses overlapping ones, and a node gets no more than its part."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.bus.rpc import matches
from shoal.errors import BadRequest
from shoal.store.consumers import consumer_config, disjoint, node_filters

SUBJECTS = [".".join(t) for n in (1, 2, 3) for t in itertools.product("ab", repeat=n)]
a_filter = st.builds(
    lambda tokens, tail: ".".join([*tokens, *[">"] * tail]),
    st.lists(st.sampled_from("ab*"), min_size=1, max_size=3),
    st.booleans(),
)


def seen(filters: list[str]) -> set[str]:
    return {s for s in SUBJECTS if any(matches(f, s) for f in filters)}


@given(st.lists(a_filter, min_size=1, max_size=4))
def test_leaving_out_what_another_covers_changes_nothing(filters: list[str]) -> None:
    left = disjoint(filters)
    assert set(left) <= set(filters)
    assert seen(left) == seen(filters)
    assert len(left) == len(set(left))


def test_what_covers_what() -> None:
    assert disjoint(["a.>", "a.b", "a.*", "b"]) == ["a.>", "b"]
    assert disjoint([">", "a.b", ">"]) == [">"]
    assert disjoint(["a.b", "a.c"]) == ["a.b", "a.c"]
    assert disjoint(["a.*", "a.>"]) == ["a.>"]
    assert disjoint(["a.*", "*.b"]) == ["a.*", "*.b"]  # neither covers the other: the server takes both


def test_a_node_sees_its_part() -> None:
    assert node_filters("n.1", "agent") == ["bound.n=2E1.>", "shared.services.>"]
    assert node_filters("n1", "proxy") == ["bound.n1.>", "shared.>"]
    for name in ("*", ">", "a b"):
        with pytest.raises(ValueError, match="cannot be part of a subject"):
            node_filters(name, "agent")
    with pytest.raises(BadRequest):
        node_filters("n1", "shell")


def test_a_consumer_delivers_nowhere_and_keeps_nothing() -> None:
    config = consumer_config("agent_n1", ["$KV.state.bound.n1.>"], None)
    assert "deliver_subject" not in config
    assert "durable_name" not in config
    assert (config["ack_policy"], config["deliver_policy"], config["max_waiting"]) == ("none", "last_per_subject", 4)
    assert consumer_config("c", [">"], 7)["opt_start_seq"] == 7
    assert consumer_config("c", [">"], -3)["opt_start_seq"] == 1
