"""Placement: each filter tells its reason, each score its order, and random clusters agree with a naive reference."""

import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.node import Taint
from shoal.model.pod import Toleration
from shoal.names import ObjectKey
from shoal.scheduler import reasons
from shoal.scheduler.asks import Ask, HostPort, tolerates
from shoal.scheduler.placement import Choice, Placer
from shoal.scheduler.snapshot import Facts, Placed, Snapshot

GIB = 1 << 30


def facts(name: str, **how: Any) -> Facts:
    return Facts(name=name, **({"cpu_milli": 4000, "memory_bytes": 8 * GIB, "pods": 110} | how))


def a_cluster(*nodes: Facts) -> Snapshot:
    snapshot = Snapshot()
    for node in nodes:
        snapshot.put_node(node)
    return snapshot


def pod(name: str) -> ObjectKey:
    return ObjectKey("pods", "default", name)


@pytest.mark.parametrize(
    ("node", "ask", "why"),
    [
        (facts("n", ready=False), Ask(), reasons.NOT_READY),
        (
            facts("n", ready=False),
            Ask(tolerations=(Toleration(key="node.kubernetes.io/not-ready", operator="Exists"),)),
            "node(s) were not ready",
        ),
        (
            facts("n", ready=False),  # what every pod tolerates for a while is to stay, not to come
            Ask(tolerations=(Toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute"),)),
            reasons.NOT_READY,
        ),
        (facts("n", unschedulable=True), Ask(), reasons.UNSCHEDULABLE),
        (
            facts("n", network=False),
            Ask(),
            "node(s) had untolerated taint {node.kubernetes.io/network-unavailable: }",
        ),
        (
            facts("n", taints=(Taint(key="gpu", value="yes", effect="NoSchedule"),)),
            Ask(),
            "node(s) had untolerated taint {gpu: yes}",
        ),
        (
            facts("n", taints=(Taint(key="gpu", effect="NoExecute"),)),
            Ask(tolerations=(Toleration(key="gpu", operator="Exists", effect="NoSchedule"),)),
            "node(s) had untolerated taint {gpu: }",
        ),
        (facts("n", labels={"disk": "hdd"}), Ask(selector=(("disk", "ssd"),)), reasons.SELECTOR),
        (facts("n", cpu_milli=100), Ask(cpu_milli=101), "Insufficient cpu"),
        (facts("n", memory_bytes=100), Ask(memory_bytes=101), "Insufficient memory"),
        (facts("n", storage_bytes=100), Ask(storage_bytes=101), "Insufficient ephemeral-storage"),
        (facts("n", pods=0), Ask(), "Too many pods"),
    ],
)
def test_a_filter_tells_why(node: Facts, ask: Ask, why: str) -> None:
    assert Placer(a_cluster(node)).place(ask) == Choice(why=f"0/1 nodes are available: 1 {why}.")


@pytest.mark.parametrize(
    ("node", "ask"),
    [
        (facts("n", taints=(Taint(key="a", value="b", effect="NoSchedule"),)), {"key": "a", "value": "b"}),
        (facts("n", taints=(Taint(key="a", effect="NoExecute"),)), {"key": "a", "operator": "Exists"}),
        (facts("n", taints=(Taint(key="a", effect="NoSchedule"),)), {"operator": "Exists"}),
        (facts("n", unschedulable=True), {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}),
        (facts("n", network=False), {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists"}),
    ],
)
def test_a_toleration_lets_in(node: Facts, ask: dict[str, str]) -> None:
    assert Placer(a_cluster(node)).place(Ask(tolerations=(msgspec.convert(ask, Toleration),))).node == "n"


def test_the_sentence_counts_nodes_by_reason() -> None:
    snapshot = a_cluster(facts("a", cpu_milli=10, memory_bytes=10), facts("b", cpu_milli=10), facts("c", ready=False))

    choice = Placer(snapshot).place(Ask(cpu_milli=100, memory_bytes=100))

    assert choice.why == (
        "0/3 nodes are available: 1 Insufficient memory, "
        "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 Insufficient cpu."
    )
    assert Placer(Snapshot()).place(Ask()).why == "no nodes available to schedule pods"


def test_a_host_port_is_taken_once_unless_the_addresses_differ() -> None:
    snapshot = a_cluster(facts("a"))
    snapshot.put_pod(pod("x"), Placed("a", Ask(ports=(HostPort("TCP", 80, "10.0.0.1"),))))
    placer = Placer(snapshot)

    assert placer.place(Ask(ports=(HostPort("TCP", 80, "10.0.0.2"),))).node == "a"
    assert placer.place(Ask(ports=(HostPort("UDP", 80),))).node == "a"
    assert reasons.PORTS in placer.place(Ask(ports=(HostPort("TCP", 80),))).why

    snapshot.drop_pod(pod("x"))
    assert placer.place(Ask(ports=(HostPort("TCP", 80),))).node == "a"


def test_replicas_of_one_owner_spread_although_the_emptier_node_has_more_room() -> None:
    snapshot = a_cluster(facts("a"), facts("b", cpu_milli=64000, memory_bytes=128 * GIB), facts("c"))
    placer = Placer(snapshot)

    for i in range(6):
        node = placer.place(Ask(), owner="rs").node
        snapshot.assume(pod(str(i)), Placed(node, Ask(), owner="rs"))

    assert {n: sum(p.node == n for p in snapshot.placed.values()) for n in "abc"} == {"a": 2, "b": 2, "c": 2}


def test_a_node_with_an_untolerated_soft_taint_is_the_last_choice() -> None:
    soft = (Taint(key="old", effect="PreferNoSchedule"),)
    snapshot = a_cluster(facts("a", taints=soft), facts("b", cpu_milli=1000, memory_bytes=GIB))
    placer = Placer(snapshot)

    assert placer.place(Ask(cpu_milli=900)).node == "b"
    assert placer.place(Ask(cpu_milli=900, tolerations=(Toleration(operator="Exists"),))).node == "a"
    assert placer.place(Ask(cpu_milli=1100)).node == "a"


def test_ties_go_by_the_seed_and_not_by_the_order_of_arrival() -> None:
    names = [f"n{i}" for i in range(20)]
    one, other = a_cluster(*map(facts, names)), a_cluster(*map(facts, reversed(names)))

    first = Placer(one).place(Ask()).node

    assert Placer(other).place(Ask()).node == first
    seeded = {Placer(_seeded(seed, names)).place(Ask()).node for seed in "abcdefgh"}
    assert len(seeded) > 1


def _seeded(seed: str, names: list[str]) -> Snapshot:
    snapshot = Snapshot(seed)
    for name in names:
        snapshot.put_node(facts(name))
    return snapshot


def test_what_fits_nowhere_is_tried_again_when_a_pod_goes_or_a_node_comes() -> None:
    snapshot = a_cluster(facts("a", pods=1))
    placer = Placer(snapshot)
    snapshot.put_pod(pod("x"), Placed("a", Ask()))
    assert placer.place(Ask()).node == ""

    snapshot.drop_pod(pod("x"))
    assert placer.place(Ask()).node == "a"
    snapshot.put_pod(pod("y"), Placed("a", Ask()))
    assert placer.place(Ask()).node == ""

    snapshot.put_node(facts("b"))
    assert placer.place(Ask()).node == "b"


def test_a_refused_decision_gives_back_what_it_took() -> None:
    snapshot = a_cluster(facts("a", pods=1))
    snapshot.assume(pod("x"), Placed("a", Ask(cpu_milli=5)))

    assert snapshot.unassume(pod("x"))
    assert (snapshot.nodes[0].use.pods, snapshot.nodes[0].use.cpu_milli) == (0, 0)

    snapshot.assume(pod("x"), Placed("a", Ask()))
    snapshot.put_pod(pod("x"), Placed("a", Ask()))  # the watch has shown it
    assert not snapshot.unassume(pod("x"))
    assert snapshot.nodes[0].use.pods == 1


# --- the naive reference: every pod looks at every node and every pod anew ------------------------------------------------


class Reference:
    def __init__(self) -> None:
        self.nodes: dict[str, Facts] = {}
        self.pods: dict[ObjectKey, Placed] = {}

    def place(self, ask: Ask, owner: str, order: list[str]) -> str:
        fit = [n for n in order if self.fits(self.nodes[n], ask)]
        if not fit:
            return ""
        totals = {n: self.resources(n, ask) for n in fit}
        mine = {n: sum(p.node == n and p.owner == owner and p.counts for p in self.pods.values()) for n in fit}
        raw = {n: math.floor(mine[n] * math.log(len(fit) + 2) + 2 + 0.5) for n in fit}
        dislike = {
            n: sum(t.effect == "PreferNoSchedule" and not tolerates(ask.tolerations, t) for t in self.nodes[n].taints)
            for n in fit
        }
        for n in fit:
            if owner:
                totals[n] += 2 * (100 * (max(raw.values()) + min(raw.values()) - raw[n]) // max(raw.values()))
            most = max(dislike.values())
            totals[n] += 3 * (100 - 100 * dislike[n] // most if most else 100)
        return max(fit, key=lambda n: (totals[n], -fit.index(n)))

    def used(self, node: str) -> list[Ask]:
        return [p.ask for p in self.pods.values() if p.node == node]

    def fits(self, node: Facts, ask: Ask) -> bool:
        used = self.used(node.name)
        hard = [t for t in node.taints if t.effect != "PreferNoSchedule"]
        return (
            node.ready
            and (not node.unschedulable or any(t.operator == "Exists" and not t.key for t in ask.tolerations))
            and all(tolerates(ask.tolerations, t) for t in hard)
            and all(node.labels.get(k) == v for k, v in ask.selector)
            and not any(a.clashes(b) for a in ask.ports for other in used for b in other.ports)
            and len(used) < node.pods
            and (not ask.cpu_milli or sum(a.cpu_milli for a in used) + ask.cpu_milli <= node.cpu_milli)
            and (not ask.memory_bytes or sum(a.memory_bytes for a in used) + ask.memory_bytes <= node.memory_bytes)
        )

    def resources(self, name: str, ask: Ask) -> int:
        node, used = self.nodes[name], [*self.used(name), ask]
        scores = []
        for capacity, taken in (
            (node.cpu_milli, sum(a.scored_cpu_milli for a in used)),
            (node.memory_bytes, sum(a.scored_memory_bytes for a in used)),
        ):
            if capacity:
                scores.append(math.floor(Fraction(max(capacity - taken, 0) * 100, capacity)))
        total = sum(scores) // len(scores) if scores else 0
        if ask.cpu_milli or ask.memory_bytes:
            cpu = min(1.0, sum(a.cpu_milli for a in used) / node.cpu_milli) if node.cpu_milli else 1.0
            memory = min(1.0, sum(a.memory_bytes for a in used) / node.memory_bytes) if node.memory_bytes else 1.0
            total += int((1 - abs((cpu - memory) / 2)) * 100)
        return total


taints = st.builds(
    Taint, key=st.sampled_from("ab"), effect=st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])
)
node_facts = st.builds(
    Facts,
    name=st.sampled_from([f"n{i}" for i in range(6)]),
    labels=st.dictionaries(st.just("zone"), st.sampled_from("xy")),
    taints=st.lists(taints, max_size=2).map(tuple),
    ready=st.sampled_from([True, True, True, False]),
    unschedulable=st.sampled_from([False, False, False, True]),
    cpu_milli=st.sampled_from([0, 500, 1000, 4000]),
    memory_bytes=st.sampled_from([0, GIB, 8 * GIB]),
    pods=st.integers(0, 5),
)
asks = st.builds(
    Ask,
    cpu_milli=st.sampled_from([0, 100, 250, 900]),
    memory_bytes=st.sampled_from([0, GIB // 2, 2 * GIB]),
    scored_cpu_milli=st.sampled_from([100, 250]),
    scored_memory_bytes=st.sampled_from([200 << 20, GIB]),
    ports=st.lists(
        st.builds(HostPort, st.just("TCP"), st.sampled_from([80, 81]), st.sampled_from(["", "10.0.0.1", "10.0.0.2"])),
        max_size=1,
    ).map(tuple),
    selector=st.sampled_from([(), (), (("zone", "x"),)]),
    tolerations=st.sampled_from([(), (Toleration(key="a", operator="Exists"),), (Toleration(operator="Exists"),)]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("node"), node_facts, st.just("")),
        st.tuples(st.just("no node"), st.sampled_from([f"n{i}" for i in range(6)]), st.just("")),
        st.tuples(st.just("place"), asks, st.sampled_from(["", "rs1", "rs2"])),
        st.tuples(st.just("place"), asks, st.sampled_from(["", "rs1", "rs2"])),
        st.tuples(st.just("leave"), st.integers(0, 40), st.just("")),
        st.tuples(st.just("refuse"), st.integers(0, 40), st.just("")),
    ),
    max_size=40,
)


@given(steps)
def test_random_clusters_agree_with_the_naive_reference(steps: list[tuple[str, Any, str]]) -> None:
    snapshot, reference = Snapshot("seed"), Reference()
    placer = Placer(snapshot)
    for i, (what, how, owner) in enumerate(steps):
        if what == "node":
            snapshot.put_node(how)
            reference.nodes[how.name] = how
        elif what == "no node":
            snapshot.drop_node(how)
            reference.nodes.pop(how, None)
        elif what == "place":
            chosen = placer.place(how, owner)
            expected = reference.place(how, owner, [s.facts.name for s in snapshot.nodes])
            assert chosen.node == expected, chosen
            assert bool(chosen.why) == (not expected)
            if expected:
                snapshot.assume(pod(str(i)), Placed(expected, how, owner=owner))
                reference.pods[pod(str(i))] = Placed(expected, how, owner=owner)
        elif reference.pods:
            key = sorted(reference.pods)[how % len(reference.pods)]
            del reference.pods[key]
            assert snapshot.drop_pod(key) if what == "leave" else snapshot.unassume(key)
    assert sorted(s.facts.name for s in snapshot.nodes) == sorted(reference.nodes)
