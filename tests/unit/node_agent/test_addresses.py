"""Addresses against a model: never two pods with one, never one lost, and what is kept says it all."""

from ipaddress import IPv4Address

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.errors import ShoalError
from shoal.node_agent.addresses import Addresses, Exhausted

PODS = [f"u{i}" for i in range(9)]


class AddressMachine(RuleBasedStateMachine):
    """A range of /29 has five addresses for pods; nine pods want one."""

    @initialize()
    def begin(self) -> None:
        self.addresses = Addresses("10.1.2.0/29")
        self.model: dict[str, IPv4Address] = {}

    @rule(uid=st.sampled_from(PODS))
    def give(self, uid: str) -> None:
        if uid not in self.model and len(self.model) == 5:
            with pytest.raises(Exhausted, match=r"all 5 addresses .* 10.1.2.0/29 are in use"):
                self.addresses.give(uid)
            return
        given = self.addresses.give(uid)
        assert self.model.setdefault(uid, given) == given, "a pod keeps its address"

    @rule(uid=st.sampled_from(PODS))
    def free(self, uid: str) -> None:
        self.addresses.free(uid)
        self.model.pop(uid, None)

    @rule(uids=st.sets(st.sampled_from(PODS)))
    def keep_only(self, uids: set[str]) -> None:
        assert set(self.addresses.keep_only(uids)) == set(self.model) - uids
        self.model = {uid: a for uid, a in self.model.items() if uid in uids}

    @rule()
    def restart(self) -> None:
        self.addresses = Addresses("10.1.2.0/29", self.addresses.content())

    @invariant()
    def agrees(self) -> None:
        assert {uid: self.addresses.of(uid) for uid in PODS} == {uid: self.model.get(uid) for uid in PODS}
        assert len(set(self.model.values())) == len(self.model)
        assert all(IPv4Address("10.1.2.2") <= a <= IPv4Address("10.1.2.6") for a in self.model.values())


TestAddresses = AddressMachine.TestCase
TestAddresses.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_freed_address_rests_while_others_are_free() -> None:
    addresses = Addresses("10.1.2.0/28")
    first = addresses.give("a")
    addresses.free("a")
    assert addresses.give("b") != first


@pytest.mark.parametrize(
    "kept", [b"", b"{half", b'{"cidr":"\xff"}', b'{"cidr": "10.9.0.0/28", "pods": {"a": "10.9.0.2"}}']
)
def test_nonsense_or_what_is_of_another_range_counts_as_nothing(kept: bytes) -> None:
    assert Addresses("10.1.2.0/28", kept).of("a") is None


def test_a_range_without_room_is_refused() -> None:
    with pytest.raises(ShoalError, match="no room"):
        Addresses("10.1.2.0/31")


def test_after_a_loss_a_pod_keeps_what_its_sandbox_says() -> None:
    before = Addresses("10.1.2.0/28")
    known = {uid: before.give(uid) for uid in ("a", "b")}
    after = Addresses("10.1.2.0/28")
    assert all(after.adopt(uid, str(address)) for uid, address in known.items())
    assert after.give("c") not in known.values()
    assert Addresses("10.1.2.0/28", after.content()).of("a") == known["a"]


@pytest.mark.parametrize("said", ["10.1.2.2", "10.1.2.1", "10.1.2.15", "10.9.0.3", "fd00::1", "nonsense"])
def test_no_address_is_adopted_that_is_anothers_or_no_pods(said: str) -> None:
    addresses = Addresses("10.1.2.0/28")
    assert addresses.adopt("a", "10.1.2.2")
    assert not addresses.adopt("b", said)
    assert addresses.of("b") is None
    assert addresses.adopt("a", "10.1.2.9"), "what is known stays"
    assert str(addresses.of("a")) == "10.1.2.2"


def test_an_address_that_is_none_costs_no_other() -> None:
    addresses = Addresses("10.1.2.0/28", b'{"cidr": "10.1.2.0/28", "pods": {"a": "x", "b": "10.1.2.5"}}')
    assert (addresses.of("a"), str(addresses.of("b"))) == (None, "10.1.2.5")
