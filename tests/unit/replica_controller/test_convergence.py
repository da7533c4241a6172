"""Laws that hold in every world: each core settles, they settle together, and what is left is what was wanted."""

from collections.abc import Hashable, Iterable

import pytest
from hypothesis import given, settings
from tests.unit.replica_controller.worlds import NOW, worlds

from shoal.controller.actions import Action, changes, controller_of, finished
from shoal.controller.controller import Controller
from shoal.controller.rehearse import all_keys, carry_out, holds, settle
from shoal.model.pod import Pod
from shoal.model.registry import encode
from shoal.model.replicaset import ReplicaSet
from shoal.names import ObjectKey
from shoal.replica_controller.delivery import Delivery
from shoal.replica_controller.garbage import Garbage
from shoal.replica_controller.namespaces import Namespaces
from shoal.replica_controller.removal import Removal
from shoal.replica_controller.replicasets import ReplicaSets
from shoal.store.records import Entry, Synced
from shoal.store.view import View

CORES: list[type[Controller]] = [ReplicaSets, Delivery, Removal, Garbage, Namespaces]


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=150)
@given(view=worlds)
def test_a_decision_carried_out_leaves_nothing_to_decide(core: type[Controller], view: View) -> None:
    controller = core()
    for key in all_keys(controller, view):
        decision = controller.decide(key, view, NOW)
        if all(holds(q, view) for q in decision.confirm):
            carry_out(decision.actions, view)
            again = controller.decide(key, view, NOW)
            # Two steps where the first uncovers the second: dependents let go, then the finalizer.
            carry_out(again.actions, view)
            last = controller.decide(key, view, NOW)
            assert not changes(last.actions, view), (key, decision, again, last)


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=150)
@given(view=worlds)
def test_deciding_changes_nothing_and_is_the_same_twice(core: type[Controller], view: View) -> None:
    controller = core()
    before = {e.key: e.revision for e in view.entries()}
    for key in all_keys(controller, view):
        one, other = controller.decide(key, view, NOW), controller.decide(key, view, NOW)
        assert changes(one.actions, view) == changes(other.actions, view)
    assert {e.key: e.revision for e in view.entries()} == before


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=150)
@given(view=worlds)
def test_whatever_is_touched_is_looked_at_again(core: type[Controller], view: View) -> None:
    """`keys` of what a unit touched lead to everything that can be decided anew: no resync is needed to settle."""
    controller = core()
    queue = dict.fromkeys(all_keys(controller, view))
    for _ in range(1000):
        if not queue:
            break
        key = next(iter(queue))
        del queue[key]
        decision = controller.decide(key, view, NOW)
        if not all(holds(q, view) for q in decision.confirm):
            continue
        unit = changes(decision.actions, view)
        touched = _carry_out_noting(controller, decision.actions, view)
        queue.update(dict.fromkeys(touched))
        assert not unit or touched is not None
    for key in all_keys(controller, view):
        decision = controller.decide(key, view, NOW)
        assert not changes(decision.actions, view) or not all(holds(q, view) for q in decision.confirm), key


def _carry_out_noting(controller: Controller, actions: Iterable[Action], view: View) -> list[Hashable]:
    """As the shell: `keys` is asked after each single entry, when `before` still knows."""
    found: list[Hashable] = []
    apply = view.apply

    def applied(event: Entry | Synced) -> list[ObjectKey]:
        touched = apply(event)
        for key in touched:
            found.extend(controller.keys(key, view))
        return touched

    view.apply = applied  # type: ignore[method-assign]
    try:
        carry_out(actions, view)
    finally:
        del view.apply
    return found


@settings(max_examples=150)
@given(view=worlds)
def test_together_they_end_at_what_was_wanted(view: View) -> None:
    ending = {key for key in view.known() if (known := view.get(key)) is not None and known.deleting}
    settle([core() for core in CORES], view, NOW)

    for stored in view.objects("replicasets", type_=ReplicaSet):
        if stored.deleting:
            continue
        mine = [
            p
            for p in view.by_owner(stored.uid, Pod)
            if not p.deleting and not finished(p.object) and (o := controller_of(p.object)) and o.uid == stored.uid
        ]
        assert len(mine) == stored.object.spec.replicas
        assert stored.object.status.replicas == len(mine)
    for key in view.known():
        stored_any = view.get(key)
        if stored_any is None:
            assert key.resource == "pods" or not view.observed_entries(key)
            assert not view.bound_entries(key)
            assert not view.observed_entries(key)
            continue
        assert (
            not key.namespace  # which namespace's owner is meant nobody can say
            or all(view.key_by_uid(r.uid) for r in stored_any.object.metadata.owner_references)
            or stored_any.deleting
        ), "an object whose owners are all gone stays"
        assert key.namespace or key in ending or not stored_any.deleting, "what lies in no namespace went as garbage"
        if stored_any.deleting and not stored_any.object.metadata.finalizers:
            node = getattr(stored_any.object.spec, "node_name", "")  # type: ignore[attr-defined]
            assert node or key.resource == "namespaces", f"{key} waits for nobody"


@settings(max_examples=150)
@given(view=worlds)
def test_copies_end_as_delivery_derives_them(view: View) -> None:
    settle([core() for core in CORES], view, NOW)

    for stored in view.objects("pods", type_=Pod):
        for node, copy in view.bound_entries(stored.key).items():
            assert node == stored.object.spec.node_name
            assert stored.value in (copy.value or b"")
            assert (b'"drained":true' in (copy.value or b"")) == stored.deleting
    for stored_node in view.objects("nodes"):
        copy_of_node = view.bound_entries(stored_node.key)[stored_node.key.name]
        assert copy_of_node.value == encode(stored_node.object)
