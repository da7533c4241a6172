"""ReplicaSets: counting, names, victims, claims, status, traces."""

from typing import Any

import pytest
from tests.unit.replica_controller.worlds import NOW, WISH, World, a_pod, a_replicaset, pods, status

from shoal.controller.actions import Create, Decision, Emit, Replace, SetStatus, rfc3339
from shoal.controller.rehearse import carry_out
from shoal.model.pod import Pod
from shoal.model.registry import key_of
from shoal.model.replicaset import ReplicaSet, ReplicaSetStatus
from shoal.names import CONTROL_PLANE, ObjectKey, desired
from shoal.replica_controller.replicasets import (
    CLAIM_MAX,
    COLLECT_MAX,
    CREATE_MAX,
    DELETION_COST,
    FAILURES_FREE,
    ReplicaSets,
    pod_name,
    rank_victims,
)
from shoal.store.stored import decode_observed

WEB = ObjectKey("replicasets", "default", "web")


def decide(world: World, key: ObjectKey = WEB) -> Decision:
    return ReplicaSets().decide(key, world.view, NOW)


def created(decision: Decision) -> list[Pod]:
    return [a.object for a in decision.actions if isinstance(a, Create) and isinstance(a.object, Pod)]


def marked(decision: Decision) -> list[str]:
    return [
        a.object.metadata.name
        for a in decision.actions
        if isinstance(a, Replace) and a.object.metadata.deletion_timestamp is not None
    ]


def told(decision: Decision) -> ReplicaSetStatus:
    (action,) = [a for a in decision.actions if isinstance(a, SetStatus)]
    assert isinstance(action.status, ReplicaSetStatus)
    return action.status


def test_missing_pods_are_made_from_the_template_with_their_owner() -> None:
    rs = a_replicaset(replicas=2)
    decision = decide(World().put(rs))

    first, second = created(decision)
    assert first.metadata.labels == {"app": "web"}
    assert first.spec == rs.spec.template.spec
    (owner,) = first.metadata.owner_references
    assert (owner.kind, owner.uid, owner.controller, owner.block_owner_deletion) == ("ReplicaSet", "rs-web", True, True)
    assert len({first.metadata.uid, second.metadata.uid, first.metadata.name, second.metadata.name}) == 4
    assert first.metadata.creation_timestamp == rfc3339(NOW)
    assert (told(decision).replicas, told(decision).ready_replicas, told(decision).observed_generation) == (2, 0, 1)
    assert any(isinstance(a, Emit) and a.reason == "SuccessfulCreate" for a in decision.actions)


def test_names_derive_from_the_counter_that_the_same_unit_advances() -> None:
    world = World().put(a_replicaset(replicas=2))
    names = [p.metadata.name for p in created(decide(world))]
    assert names == [pod_name("web", "rs-web", 1), pod_name("web", "rs-web", 2)]

    carry_out(decide(world).actions, world.view)
    record = decode_observed(world.view.observed_entries(WEB)[CONTROL_PLANE].value or b"")
    assert record.counter == 2

    world.put(a_replicaset(replicas=3, generation=2))
    assert [p.metadata.name for p in created(decide(world))] == [pod_name("web", "rs-web", 3)]


def test_a_name_that_is_taken_is_passed_over() -> None:
    world = World().put(a_replicaset(replicas=1), a_pod(pod_name("web", "rs-web", 1), labels={"app": "other"}))

    assert [p.metadata.name for p in created(decide(world))] == [pod_name("web", "rs-web", 2)]


def test_names_of_one_unit_that_collide_are_passed_over_too() -> None:
    """Found by looking: of this uid's first 300 names two are the same."""
    uid = "00000000-0000-0000-0000-0000001fa89b"
    names = [pod_name("web", uid, counter) for counter in range(1, CREATE_MAX + 1)]
    assert len(set(names)) == CREATE_MAX - 1
    world = World().put(a_replicaset(replicas=CREATE_MAX, uid=uid))

    decision = decide(world)
    made = created(decision)
    assert len({pod.metadata.name for pod in made}) == len({pod.metadata.uid for pod in made}) == CREATE_MAX
    (told_,) = [a for a in decision.actions if isinstance(a, SetStatus)]
    assert told_.counter == CREATE_MAX + 1
    carry_out(decision.actions, world.view)
    assert created(decide(world)) == []


def test_a_name_stays_within_a_label() -> None:
    name = pod_name("x" * 200, "uid", 1)
    assert len(name) == 63
    assert pod_name("web", "uid", 1) == pod_name("web", "uid", 1)
    assert pod_name("web", "uid", 1) != pod_name("web", "diu", 1)


def test_no_unit_makes_more_than_a_batch_can_hold() -> None:
    decision = decide(World().put(a_replicaset(replicas=5000)))

    assert len(created(decision)) == CREATE_MAX
    assert told(decision).replicas == CREATE_MAX


@pytest.mark.parametrize(
    ("how", "missing"),
    [
        ({"phase": "Running"}, 0),
        ({"phase": "Pending"}, 0),
        ({"phase": "Unknown"}, 0),
        ({"phase": "Failed"}, 1),
        ({"phase": "Succeeded"}, 1),
    ],
)
def test_what_has_finished_is_replaced(how: dict[str, Any], missing: int) -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs).run(a_pod(owner=rs, node="n1"), **how)

    assert len(created(decide(world))) == missing


def test_what_is_being_deleted_is_replaced_at_once() -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs).run(a_pod(owner=rs, node="n1", deletion_timestamp=rfc3339(NOW)))

    assert len(created(decide(world))) == 1


def test_a_replicaset_that_is_being_deleted_makes_and_deletes_nothing() -> None:
    rs = a_replicaset(replicas=3, deletion_timestamp=rfc3339(NOW), finalizers=("x.org/y",))
    decision = decide(World().put(rs, a_pod(owner=rs), a_pod("stray")))

    assert (created(decision), marked(decision)) == ([], [])
    assert not [a for a in decision.actions if isinstance(a, Replace)]
    assert told(decision).replicas == 1


def test_a_pod_that_matches_and_is_nobody_s_is_adopted_instead_of_one_made() -> None:
    rs = a_replicaset(replicas=2)
    world = World().put(rs, a_pod("stray"), a_pod("other", labels={"app": "other"}))

    decision = decide(world)

    (adopted,) = [a.object for a in decision.actions if isinstance(a, Replace)]
    assert (adopted.metadata.name, adopted.metadata.owner_references[0].uid) == ("stray", "rs-web")
    assert len(created(decision)) == 1


def test_many_claims_are_made_in_several_units_and_nothing_else_before_the_last() -> None:
    rs = a_replicaset(replicas=0)
    world = World().put(rs, *(a_pod(f"debug-{i}", owner=rs, labels={"app": "debug"}) for i in range(CLAIM_MAX // 2)))
    world.put(*(a_pod(f"stray-{i}") for i in range(CLAIM_MAX)))

    first = decide(world)
    assert len([a for a in first.actions if isinstance(a, Replace)]) == CLAIM_MAX
    assert marked(first) == []
    assert told(first).replicas == CLAIM_MAX // 2
    carry_out(first.actions, world.view)
    while marked(decision := decide(world)):
        carry_out(decision.actions, world.view)
    assert not [a for a in decision.actions if isinstance(a, Replace)]
    assert told(decision).replicas == 0


def test_a_pod_of_another_owner_is_left_alone() -> None:
    other = a_replicaset("other", labels={"app": "web"})
    decision = decide(World().put(a_replicaset(replicas=0), a_pod(owner=other)))

    assert not [a for a in decision.actions if isinstance(a, Replace)]


def test_a_pod_that_matches_no_longer_is_let_go_and_replaced() -> None:
    rs = a_replicaset(replicas=1)
    decision = decide(World().put(rs, a_pod(owner=rs, labels={"app": "debug"})))

    (released,) = [a.object for a in decision.actions if isinstance(a, Replace)]
    assert released.metadata.owner_references == ()
    assert len(created(decision)) == 1


def test_a_surplus_pod_that_would_be_adopted_is_adopted_and_deleted_in_one_write() -> None:
    decision = decide(World().put(a_replicaset(replicas=0), a_pod("stray")))

    (change,) = [a.object for a in decision.actions if isinstance(a, Replace)]
    assert change.metadata.deletion_timestamp is not None
    assert change.metadata.owner_references[0].uid == "rs-web"


def test_the_grace_of_a_victim_is_its_own_or_none_where_nothing_runs() -> None:
    rs = a_replicaset(replicas=0)
    world = World().put(rs, a_pod("waiting", owner=rs)).run(a_pod("running", owner=rs, node="n1", grace=7))

    graces = {
        a.object.metadata.name: a.object.metadata.deletion_grace_period_seconds
        for a in decide(world).actions
        if isinstance(a, Replace)
    }

    assert graces == {"waiting": 0, "running": 7}


# Each pair: the first goes before the second, by one rule of Kubernetes' order, all earlier rules being equal.
VICTIMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no node": ({"node": ""}, {"phase": "Pending"}),
    "pending before unknown": ({"phase": "Pending"}, {"phase": "Unknown"}),
    "unknown before running": ({"phase": "Unknown"}, {"phase": "Running"}),
    "not ready": ({"ready_s": None}, {"ready_s": 5}),
    "cheaper to delete": (
        {"annotations": {DELETION_COST: "-1"}, "ready_s": 500},
        {"annotations": {DELETION_COST: "nonsense"}, "ready_s": 5},
    ),
    "ready for less time": ({"ready_s": 5, "restarts": 0}, {"ready_s": 500, "restarts": 9}),
    "more restarts": ({"restarts": 3, "age_s": 900}, {"restarts": 1, "age_s": 10}),
    "newer": ({"age_s": 10}, {"age_s": 900}),
    "of about one age, by uid": ({"uid": "u1", "age_s": 800}, {"uid": "u2", "age_s": 700}),
    "ready for about as long, by uid": ({"uid": "u1", "ready_s": 800}, {"uid": "u2", "ready_s": 700}),
    "made before the clock went back": ({"age_s": -900}, {"age_s": 1}),
}


@pytest.mark.parametrize("rule", VICTIMS)
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_who_goes_first(rule: str, names: tuple[str, str]) -> None:
    rs = a_replicaset()
    world = World().put(rs)
    for name, how in zip(names, VICTIMS[rule], strict=True):
        _run_with(world, rs, name, dict(how))

    assert [v.key.name for v in rank_victims(pods(world.view), NOW)] == list(names)


def _run_with(world: World, rs: ReplicaSet, name: str, how: dict[str, Any]) -> None:
    said = status(how.get("phase", "Running"), ready_s=how.get("ready_s", 50), restarts=how.get("restarts", 0))
    node = how.get("node", "n1")
    pod = a_pod(
        name,
        owner=rs,
        node=node,
        uid=how.get("uid", f"pod-{name}"),
        annotations=how.get("annotations", {}),
        creation_timestamp=rfc3339(NOW - how.get("age_s", 100)),
    )
    world.put(pod)
    if node:
        world.see(pod, said, writer=node)


def test_the_node_with_more_of_them_loses_one_first() -> None:
    rs = a_replicaset()
    world = World().put(rs)
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n2")):
        world.run(a_pod(name, owner=rs, node=node), ready_s=500 if node == "n2" else 1)

    assert next(v.key.name for v in rank_victims(pods(world.view), NOW)) in ("b", "c")


def test_available_is_ready_for_long_enough_and_looked_at_when_that_will_be() -> None:
    rs = a_replicaset(replicas=2, min_ready_seconds=60)
    world = World().put(rs)
    world.run(a_pod("a", owner=rs, node="n1"), ready_s=20).run(a_pod("b", owner=rs, node="n1"), ready_s=100)

    decision = decide(world)

    assert (told(decision).ready_replicas, told(decision).available_replicas) == (2, 1)
    assert decision.requeue_after_s == pytest.approx(40)


def test_only_pods_with_all_of_the_template_s_labels_count_as_fully_labeled() -> None:
    rs = a_replicaset(replicas=1, template_labels={"app": "web", "tier": "front"})
    decision = decide(World().put(rs, a_pod(owner=rs)))

    assert (told(decision).replicas, told(decision).fully_labeled_replicas) == (1, 0)


def test_what_the_wish_asks_for_belongs_to_its_trace_and_what_heals_is_linked_to_it() -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs, traceparent=WISH)
    wished = decide(world)
    assert wished.trace is not None
    assert (wished.trace.parent, wished.trace.links) == (WISH, ())

    carry_out(wished.actions, world.view)
    (pod,) = pods(world.view)
    world.see(pod.object, status("Failed"), writer="_")
    healed = decide(world)
    assert healed.trace is not None
    assert (healed.trace.parent, healed.trace.links) == ("", (WISH,))

    world.put(a_replicaset(replicas=3, generation=2), traceparent=WISH)
    scaled = decide(world)
    assert scaled.trace is not None
    assert scaled.trace.parent == WISH


def test_pods_that_fail_as_soon_as_they_are_made_are_made_ever_more_slowly() -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs)
    for i in range(FAILURES_FREE + 3):
        world.run(a_pod(f"f{i}", owner=rs, node="n1", creation_timestamp=rfc3339(NOW - 4)), phase="Failed")

    decision = decide(world)

    assert created(decision) == []
    assert decision.requeue_after_s == pytest.approx(6)
    assert len(created(ReplicaSets().decide(WEB, world.view, NOW + 7))) == 1


@pytest.mark.parametrize("ahead_s", [1, 3600])
def test_a_clock_that_went_back_stops_no_set(ahead_s: float) -> None:
    """What failed in the future paces nothing, keeps nobody out of the count that does, and goes first."""
    rs = a_replicaset(replicas=1)
    world = World().put(rs)
    for i in range(FAILURES_FREE + 3):
        world.run(a_pod(f"a{i:02d}", owner=rs, node="n1", creation_timestamp=rfc3339(NOW + ahead_s)), phase="Failed")
    assert len(created(decide(world))) == 1

    for i in range(FAILURES_FREE + 3):
        world.run(a_pod(f"b{i:02d}", owner=rs, node="n1", creation_timestamp=rfc3339(NOW - 4)), phase="Failed")
    decision = decide(world)
    assert created(decision) == []
    assert decision.requeue_after_s == pytest.approx(6)
    assert sorted(marked(decision)) == [f"a{i:02d}" for i in range(FAILURES_FREE + 3)]


def test_a_node_whose_clock_is_ahead_delays_no_availability_for_ever() -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs).run(a_pod("a", owner=rs, node="n1"), ready_s=-3600)
    assert told(decide(world)).available_replicas == 1

    world.put(a_replicaset(replicas=1, min_ready_seconds=60))
    decision = decide(world)
    assert told(decision).available_replicas == 0
    assert decision.requeue_after_s == 60


@pytest.mark.parametrize("owned", [True, False])
def test_a_pod_wakes_its_owner_or_whoever_may_adopt_it(owned: bool) -> None:
    rs = a_replicaset()
    pod = a_pod("x", owner=rs if owned else None)
    world = World().put(rs, a_replicaset("other"), pod)

    assert list(ReplicaSets().keys(key_of(pod), world.view)) == [WEB]


def test_a_pod_that_vanished_wakes_its_last_owner() -> None:
    rs = a_replicaset()
    pod = a_pod("x", owner=rs)
    world = World().put(rs, pod)

    world.write("desired.pods.default.x", None)

    assert list(ReplicaSets().keys(key_of(pod), world.view)) == [WEB]


def test_of_pods_that_failed_the_newest_stay_and_go_on_to_pace() -> None:
    rs = a_replicaset(replicas=1)
    world = World().put(rs)
    kept = FAILURES_FREE + 2 + 1
    for i in range(kept + 7):
        failed = a_pod(f"f{i:02d}", owner=rs, creation_timestamp=rfc3339(NOW - 25 + i))
        world.put(failed).see(failed, status("Failed"), writer=CONTROL_PLANE)
    running = a_pod("running", owner=rs)
    world.put(running)

    assert sorted(marked(decide(world))) == [f"f{i:02d}" for i in range(7)]
    carry_out(decide(world).actions, world.view)
    assert marked(decide(world)) == []

    for pod in (*(p.object for p in pods(world.view) if p.deleting), running):
        world.write(desired(key_of(pod)), None)
    decision = decide(world)
    assert len(pods(world.view)) == kept
    assert (created(decision), marked(decision)) == ([], [])
    assert decision.requeue_after_s is not None


def test_pods_that_ended_long_ago_go_a_part_at_a_time() -> None:
    rs = a_replicaset(replicas=0)
    world = World().put(rs)
    for i in range(COLLECT_MAX + 50):
        failed = a_pod(f"f{i:03d}", owner=rs, node="n1")
        world.put(failed).see(failed, status("Failed"), writer="n1")
    left = COLLECT_MAX + 50 - FAILURES_FREE - 1
    for wanted in (COLLECT_MAX, left - COLLECT_MAX, 0):
        assert len(marked(decide(world))) == wanted
        carry_out(decide(world).actions, world.view)
