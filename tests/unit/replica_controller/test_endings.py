"""How things end: garbage, removal, namespaces, and the copies that delivery keeps."""

import msgspec
import pytest
from tests.unit.replica_controller.worlds import (
    NODE_STATUS,
    NOW,
    World,
    a_node,
    a_pod,
    a_replicaset,
    an_owner,
    status,
)

from shoal.controller.actions import (
    NOTHING,
    Absent,
    Decision,
    Emit,
    Empty,
    EraseEntry,
    NoEntry,
    Remove,
    Replace,
    SetStatus,
    WriteEntry,
    changes,
    rfc3339,
)
from shoal.controller.rehearse import carry_out
from shoal.model.meta import ObjectMeta
from shoal.model.namespace import Namespace, NamespaceSpec, NamespaceStatus
from shoal.model.node import RANGE_RESTS_S, PodRange
from shoal.model.pod import BoundPod, Pod
from shoal.model.registry import encode, key_of
from shoal.names import ObjectKey, claim
from shoal.replica_controller.delivery import Delivery
from shoal.replica_controller.garbage import FOREGROUND, ORPHAN, Garbage
from shoal.replica_controller.namespaces import Namespaces
from shoal.replica_controller.removal import Removal
from shoal.store.records import Delete, Entry, Put

POD = ObjectKey("pods", "default", "web-1")
RS = ObjectKey("replicasets", "default", "web")
DELETED = rfc3339(NOW)


def only_replace(decision: Decision) -> ObjectMeta:
    (action,) = decision.actions
    assert isinstance(action, Replace)
    return action.object.metadata


# --- garbage ----------------------------------------------------------------------------------------------------------------


def test_what_has_no_owner_left_is_deleted_once_a_read_confirms_it() -> None:
    decision = Garbage().decide(POD, World().put(a_pod(owner=a_replicaset())).view, NOW)

    assert only_replace(decision).deletion_timestamp == DELETED
    assert decision.confirm == (Absent(RS, "rs-web"),)


def test_a_successor_of_the_same_name_is_no_owner() -> None:
    world = World().put(a_replicaset(uid="another"), a_pod(owner=a_replicaset()))

    assert only_replace(Garbage().decide(POD, world.view, NOW)).deletion_timestamp == DELETED


def test_what_still_has_an_owner_stays_and_loses_the_others() -> None:
    other = a_replicaset("other")
    pod = a_pod(owner_references=(an_owner(a_replicaset()), an_owner(other)))

    decision = Garbage().decide(POD, World().put(other, pod).view, NOW)

    assert [o.name for o in only_replace(decision).owner_references] == ["other"]
    assert only_replace(decision).deletion_timestamp is None
    assert decision.confirm == (Absent(RS, "rs-web"),)


def test_an_owner_of_an_unknown_kind_counts_as_there() -> None:
    owner = msgspec.structs.replace(an_owner(a_replicaset()), api_version="x.org/v1", kind="Widget")

    assert Garbage().decide(POD, World().put(a_pod(owner_references=(owner,))).view, NOW) == NOTHING


def test_an_owner_that_cannot_be_read_counts_as_there() -> None:
    world = World().put(a_pod(owner=a_replicaset()))
    world.write("desired.replicasets.default.web", b'{"spec": 7}')

    assert Garbage().decide(POD, world.view, NOW) == NOTHING


def a_namespace_of(owner: Pod, *, block: bool = True) -> Namespace:
    return Namespace(metadata=ObjectMeta(name="kept", uid="ns-kept", owner_references=(an_owner(owner, block=block),)))


def test_what_lies_in_no_namespace_is_kept_though_its_owner_lies_in_one() -> None:
    """Which namespace's pod is meant the reference does not say: that there is none cannot be known."""
    kept = ObjectKey("namespaces", "", "kept")
    for world in (World(), World().put(a_pod())):
        decision = Garbage().decide(kept, world.put(a_namespace_of(a_pod())).view, NOW)

        (told,) = decision.actions
        assert isinstance(told, Emit)
        assert (told.key, told.uid, told.type, told.reason) == (kept, "ns-kept", "Warning", "OwnerRefInvalidNamespace")
        assert decision.confirm == ()


def test_an_owner_waits_for_nothing_that_is_not_deleted_with_it() -> None:
    pod = a_pod(deletion_timestamp=DELETED, finalizers=(FOREGROUND,))

    decision = Garbage().decide(POD, World().put(pod, a_namespace_of(pod)).view, NOW)

    assert only_replace(decision).finalizers == ()


def test_foreground_deletes_the_dependents_first_and_lets_go_when_those_that_block_are_gone() -> None:
    rs = a_replicaset(deletion_timestamp=DELETED, finalizers=(FOREGROUND,))
    pod = a_pod(owner=rs)
    world = World().put(rs, pod)
    assert Garbage().decide(RS, world.view, NOW) == NOTHING

    assert only_replace(Garbage().decide(POD, world.view, NOW)).deletion_timestamp == DELETED

    world.write("desired.pods.default.web-1", None)
    assert RS in Garbage().keys(POD, world.view)
    assert only_replace(Garbage().decide(RS, world.view, NOW)).finalizers == ()


def test_foreground_does_not_wait_for_what_does_not_block() -> None:
    rs = a_replicaset(deletion_timestamp=DELETED, finalizers=(FOREGROUND,))
    world = World().put(rs, a_pod(owner_references=(an_owner(rs, block=False),)))

    assert only_replace(Garbage().decide(RS, world.view, NOW)).finalizers == ()


def test_foreground_goes_down_the_whole_tree() -> None:
    top = a_replicaset("top", deletion_timestamp=DELETED, finalizers=(FOREGROUND,))
    middle = a_replicaset("web", owner_references=(an_owner(top),))
    world = World().put(top, middle, a_pod(owner=middle))

    assert only_replace(Garbage().decide(RS, world.view, NOW)).finalizers == (FOREGROUND,)


def test_orphan_lets_the_dependents_go_and_then_itself() -> None:
    rs = a_replicaset(deletion_timestamp=DELETED, finalizers=(ORPHAN,))
    world = World().put(rs, a_pod(owner=rs))

    decision = Garbage().decide(RS, world.view, NOW)
    assert only_replace(decision).owner_references == ()
    carry_out(decision.actions, world.view)

    assert only_replace(Garbage().decide(RS, world.view, NOW)).finalizers == ()
    assert Garbage().decide(POD, world.view, NOW) == NOTHING


def test_an_owner_that_vanished_wakes_what_it_owned() -> None:
    world = World().put(a_replicaset(), a_pod(owner=a_replicaset()))

    world.write("desired.replicasets.default.web", None)

    assert POD in Garbage().keys(RS, world.view)


# --- removal ----------------------------------------------------------------------------------------------------------------


def test_a_bound_pod_goes_when_its_own_node_has_said_gone() -> None:
    pod = a_pod(node="n1", deletion_timestamp=DELETED)
    world = World().put(a_node()).run(pod)
    assert Removal().decide(POD, world.view, NOW) == NOTHING

    world.see(pod, status(), writer="n2", gone=True)
    world.see(pod, status(), writer="n1", gone=True, uid="predecessor")
    assert Removal().decide(POD, world.view, NOW) == NOTHING

    world.see(pod, status(), writer="n1", gone=True)
    decision = Removal().decide(POD, world.view, NOW)
    assert decision == Decision((Remove(POD),))
    assert [c.key for c in changes(decision.actions, world.view)] == [
        "desired.pods.default.web-1",
        "observed.n1.pods.default.web-1",
        "observed.n2.pods.default.web-1",
        "bound.n1.pods.default.web-1",
    ]


def test_a_pod_without_a_node_goes_at_once_unless_something_holds_it() -> None:
    world = World().put(a_pod(deletion_timestamp=DELETED))
    assert Removal().decide(POD, world.view, NOW) == Decision((Remove(POD),))

    world.put(a_pod(deletion_timestamp=DELETED, finalizers=("x.org/y",)))
    assert Removal().decide(POD, world.view, NOW) == NOTHING
    world.put(a_pod())
    assert Removal().decide(POD, world.view, NOW) == NOTHING


def test_a_pod_whose_node_was_removed_goes_once_a_read_confirms_that() -> None:
    world = World().run(a_pod(node="n1", deletion_timestamp=DELETED))

    assert Removal().decide(POD, world.view, NOW) == Decision(
        (Remove(POD),), confirm=(Absent(ObjectKey("nodes", "", "n1")),)
    )


def test_removing_a_node_wakes_the_pods_that_wait_for_its_word() -> None:
    world = World().put(a_node()).run(a_pod(node="n1", deletion_timestamp=DELETED))

    world.write("desired.nodes._.n1", None)

    assert POD in Removal().keys(ObjectKey("nodes", "", "n1"), world.view)


def test_a_pod_that_its_node_was_never_told_of_does_not_wait_for_its_word() -> None:
    world = World().put(a_node(), a_pod(node="n1", deletion_timestamp=DELETED))

    assert Removal().decide(POD, world.view, NOW) == Decision(
        (Remove(POD),), confirm=(NoEntry("bound.n1.pods.default.web-1"),)
    )


def test_a_late_word_about_what_is_gone_is_swept_once_a_read_confirms_it() -> None:
    world = World().see(a_pod(), status(), writer="n1")

    assert Removal().decide(POD, world.view, NOW) == Decision(
        (EraseEntry("observed.n1.pods.default.web-1", 1),), confirm=(Absent(POD),)
    )


def test_what_a_newer_version_observes_is_left_alone() -> None:
    world = World()
    world.write("observed._.widgets.default.w", b'{"uid":"x"}')

    assert Removal().decide(ObjectKey("widgets", "default", "w"), world.view, NOW) == NOTHING


def test_a_node_s_network_goes_with_its_node_and_not_before() -> None:
    network = ObjectKey("nodenetworks", "", "n1")
    world = World().put(a_node())
    world.write("observed.n1.nodenetworks._.n1", b'{"uid":"node-n1"}')
    assert Removal().decide(network, world.view, NOW) == NOTHING

    world.write("desired.nodes._.n1", None)
    assert network in Removal().keys(ObjectKey("nodes", "", "n1"), world.view)
    assert Removal().decide(network, world.view, NOW).confirm == (Absent(ObjectKey("nodes", "", "n1")),)


def test_a_removed_node_s_range_goes_to_rest() -> None:
    node = a_node(deletion_timestamp=DELETED)
    world = World().put(node)
    world.write(claim("podranges", node.spec.pod_cidr), b"{}")

    unit = changes(Removal().decide(key_of(node), world.view, NOW).actions, world.view)

    assert isinstance(unit[0], Delete)
    rest = unit[-1]
    assert isinstance(rest, Put)
    assert (rest.key, rest.ttl_s) == (claim("podranges", node.spec.pod_cidr), RANGE_RESTS_S)


# --- namespaces -------------------------------------------------------------------------------------------------------------


def a_namespace(*finalizers: str, deleted: bool = True) -> Namespace:
    metadata = ObjectMeta(name="default", uid="ns", deletion_timestamp=DELETED if deleted else None)
    return Namespace(metadata=metadata, spec=NamespaceSpec(finalizers=finalizers))


NS = ObjectKey("namespaces", "", "default")


def test_a_namespace_is_active_until_it_is_deleted() -> None:
    world = World().put(a_namespace("kubernetes", deleted=False), a_pod())

    (action,) = Namespaces().decide(NS, world.view, NOW).actions

    assert isinstance(action, SetStatus)
    assert action.status == NamespaceStatus(phase="Active")


def test_what_makes_pods_is_deleted_before_the_pods() -> None:
    world = World().put(a_namespace("kubernetes"), a_pod("a"), a_replicaset(), a_pod("z"))

    decision = Namespaces().decide(NS, world.view, NOW)

    marked = [a.object.metadata.name for a in decision.actions if isinstance(a, Replace)]
    assert marked == ["web", "a", "z"]
    (told,) = [a for a in decision.actions if isinstance(a, SetStatus)]
    assert told.status == NamespaceStatus(phase="Terminating")


def test_a_record_that_cannot_be_read_is_named_on_the_namespace_that_waits_for_it() -> None:
    world = World().put(a_namespace("kubernetes"))
    broken = ["pods.default.a", "pods.default.b", "widgets.default.c", "widgets.default.d"]
    for name in broken:
        world.write(f"desired.{name}", b"{")

    (told,) = Namespaces().decide(NS, world.view, NOW).actions
    assert isinstance(told, SetStatus)
    assert isinstance(told.status, NamespaceStatus)
    (condition,) = told.status.conditions
    assert (condition.type, condition.status) == ("NamespaceDeletionContentFailure", "True")
    assert condition.message.startswith("stored in a form that this version cannot read: pods a (")
    assert condition.message.endswith(", and 1 more")
    carry_out((told,), world.view)
    assert Namespaces().decide(NS, world.view, NOW + 5) == Decision()

    for name in broken:
        world.write(f"desired.{name}", None)
    world.put(a_pod("late"))
    actions = Namespaces().decide(NS, world.view, NOW + 9).actions
    (told,) = (a for a in actions if isinstance(a, SetStatus))
    assert isinstance(told.status, NamespaceStatus)
    (condition,) = told.status.conditions
    assert (condition.status, condition.last_transition_time) == ("False", rfc3339(NOW + 9))


def test_an_empty_namespace_is_let_go_once_a_list_confirms_it() -> None:
    world = World().put(a_namespace("kubernetes", "x.org/y"))

    decision = Namespaces().decide(NS, world.view, NOW)

    (action,) = decision.actions
    assert isinstance(action, Replace)
    assert isinstance(action.object, Namespace)
    assert action.object.spec.finalizers == ("x.org/y",)
    assert decision.confirm == (Empty("desired.*.default.>"),)
    assert Removal().decide(NS, world.view, NOW) == NOTHING


def test_what_vanishes_from_a_namespace_that_is_deleted_wakes_it() -> None:
    world = World().put(a_namespace("kubernetes"), a_pod())
    world.write("desired.pods.default.web-1", None)
    assert list(Namespaces().keys(POD, world.view)) == [NS]

    world.put(a_namespace("kubernetes", deleted=False))
    assert list(Namespaces().keys(POD, world.view)) == []


# --- delivery ---------------------------------------------------------------------------------------------------------------


def test_a_pod_s_copy_follows_its_record() -> None:
    world = World().put(a_pod(node="n1", labels={"a": "b"})).bind(a_pod(node="n1"))

    (action,) = Delivery().decide(POD, world.view, NOW).actions

    assert isinstance(action, WriteEntry)
    copy = msgspec.json.decode(action.value, type=BoundPod)
    assert (copy.pod.metadata.labels, copy.drained) == ({"a": "b"}, False)


def test_a_pod_that_is_being_deleted_is_drained() -> None:
    world = World().put(a_pod(node="n1", deletion_timestamp=DELETED)).bind(a_pod(node="n1"))

    (action,) = Delivery().decide(POD, world.view, NOW).actions

    assert isinstance(action, WriteEntry)
    assert msgspec.json.decode(action.value, type=BoundPod).drained


def test_the_first_copy_is_the_scheduler_s() -> None:
    assert Delivery().decide(POD, World().put(a_pod(node="n1")).view, NOW).actions == ()


def test_a_copy_on_another_node_goes_and_one_of_nothing_goes_once_confirmed() -> None:
    world = World().put(a_pod(node="n1")).bind(a_pod(node="n1")).bind(a_pod(node="n1"), node="n2")
    assert Delivery().decide(POD, world.view, NOW) == Decision((EraseEntry("bound.n2.pods.default.web-1", 3),))

    world.write("desired.pods.default.web-1", None)
    decision = Delivery().decide(POD, world.view, NOW)
    assert (len(decision.actions), decision.confirm) == (2, (Absent(POD),))


def test_a_node_s_record_and_its_range_are_delivered_and_taken_back() -> None:
    node = a_node()
    key = key_of(node)
    world = World().put(node)
    assert [a.key for a in Delivery().decide(key, world.view, NOW).actions if isinstance(a, WriteEntry)] == [
        "bound.n1.nodes._.n1"
    ]

    world.see(node, NODE_STATUS, writer="n1")
    decision = Delivery().decide(key, world.view, NOW)
    record, shared = decision.actions
    assert isinstance(record, WriteEntry)
    assert isinstance(shared, WriteEntry)
    assert record.value == encode(node)
    assert msgspec.json.decode(shared.value, type=PodRange) == PodRange(
        node="n1", cidr=node.spec.pod_cidr, address="192.0.2.1"
    )

    carry_out(decision.actions, world.view)
    world.write("desired.nodes._.n1", None)
    decision = Delivery().decide(key, world.view, NOW)
    assert [a.key for a in decision.actions if isinstance(a, EraseEntry)] == [
        "bound.n1.nodes._.n1",
        "shared.podranges._.n1",
    ]
    assert decision.confirm == (Absent(key),)


def test_a_range_that_was_right_stays_while_the_node_says_no_address() -> None:
    node = a_node()
    world = World().put(node).see(node, NODE_STATUS, writer="n1")
    carry_out(Delivery().decide(key_of(node), world.view, NOW).actions, world.view)

    world.write("observed.n1.nodes._.n1", None)

    assert Delivery().decide(key_of(node), world.view, NOW).actions == ()


@pytest.mark.parametrize("touched", ["shared.podranges._.n1", "bound.n1.nodes._.n1"])
def test_a_copy_that_somebody_touched_is_looked_at(touched: str) -> None:
    world = World().put(a_node())
    (key,) = world.view.apply(Entry(touched, b"{}", world.view.revision + 1))

    assert list(Delivery().keys(key, world.view)) == [ObjectKey("nodes", "", "n1")]
