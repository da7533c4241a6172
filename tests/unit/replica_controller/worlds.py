"""Worlds to decide in: builders for one object, and random clusters in any state that a bus can leave behind."""

from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st

from shoal.controller.actions import rfc3339
from shoal.controller.copies import bound_copy
from shoal.model.container import Container, ContainerStatus
from shoal.model.meta import Condition, LabelSelector, Object, ObjectMeta, OwnerReference
from shoal.model.namespace import Namespace, NamespaceSpec
from shoal.model.node import Node, NodeAddress, NodeSpec, NodeStatus
from shoal.model.pod import Pod, PodSpec, PodStatus, PodTemplateSpec
from shoal.model.registry import encode, key_of
from shoal.model.replicaset import ReplicaSet, ReplicaSetSpec
from shoal.names import bound, desired, observed
from shoal.store.records import Entry, Synced
from shoal.store.stored import Observed, Stored
from shoal.store.view import View

NOW = 1_800_000_000.0
WISH = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def a_replicaset(name: str = "web", replicas: int = 3, **how: Any) -> ReplicaSet:
    labels = how.pop("labels", {"app": name})
    template_labels = how.pop("template_labels", labels)
    least = how.pop("min_ready_seconds", 0)
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"rs-{name}", "generation": 1} | how
    return ReplicaSet(
        metadata=ObjectMeta(**metadata),
        spec=ReplicaSetSpec(
            replicas=replicas,
            min_ready_seconds=least,
            selector=LabelSelector(match_labels=labels),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels=template_labels),
                spec=PodSpec(containers=(Container(name="c", image="busybox"),)),
            ),
        ),
    )


def an_owner(owner: Object, *, block: bool = True) -> OwnerReference:
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=block,
    )


def a_pod(name: str = "web-1", *, owner: Object | None = None, node: str = "", **how: Any) -> Pod:
    grace = how.pop("grace", 5)
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"pod-{name}",
        "labels": {"app": "web"},
        "creation_timestamp": rfc3339(NOW - 1000),
        "owner_references": (an_owner(owner),) if owner is not None else (),
    } | how
    spec = PodSpec(node_name=node, termination_grace_period_seconds=grace)
    return Pod(metadata=ObjectMeta(**metadata), spec=spec)


def status(phase: str = "Running", *, ready_s: float | None = None, restarts: int = 0) -> PodStatus:
    conditions: tuple[Condition, ...] = ()
    if ready_s is not None:
        conditions = (Condition(type="Ready", status="True", last_transition_time=rfc3339(NOW - ready_s)),)
    return PodStatus(
        phase=phase,
        conditions=conditions,
        container_statuses=(ContainerStatus(name="c", restart_count=restarts),),
    )


def a_node(name: str = "n1", **how: Any) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, uid=f"node-{name}", **how), spec=NodeSpec(pod_cidr=f"10.{len(name)}.0.0/23")
    )


NODE_STATUS = NodeStatus(addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),))


class World:
    """A view that is filled by hand: each step is one entry of the watch."""

    def __init__(self) -> None:
        self.view = View()
        self.view.apply(Synced(0))

    def write(self, name: str, value: bytes | None, traceparent: str = "") -> None:
        self.view.apply(Entry(name, value, self.view.revision + 1, traceparent))

    def put(self, *objects: Object, traceparent: str = WISH) -> "World":
        for obj in objects:
            self.write(desired(key_of(obj)), encode(obj), traceparent)
        return self

    def see(self, obj: Object, status: msgspec.Struct, *, writer: str, uid: str | None = None, **how: Any) -> "World":
        record = Observed(
            uid=obj.metadata.uid if uid is None else uid, status=msgspec.Raw(msgspec.json.encode(status)), **how
        )
        self.write(observed(writer, key_of(obj)), msgspec.json.encode(record))
        return self

    def bind(self, pod: Pod, *, node: str | None = None, drained: bool = False) -> "World":
        self.write(bound(node or pod.spec.node_name, key_of(pod)), bound_copy(encode(pod), drained=drained))
        return self

    def run(self, pod: Pod, **how: Any) -> "World":
        """Bound and reported by its node."""
        return self.put(pod).bind(pod).see(pod, status(**how), writer=pod.spec.node_name)


def pods(view: View) -> list[Stored[Pod]]:
    return sorted(view.objects("pods", type_=Pod), key=lambda s: s.key)


# --- random worlds ----------------------------------------------------------------------------------------------------------


def a_world(seed: int) -> View:
    """Anything goes: pods of nobody and of owners long gone, copies on wrong nodes, late words, half deletions."""
    dice = Random(seed)
    world = World()
    for name in _some(dice, ["n1", "n2"]):
        node = a_node(name)
        world.put(node)
        if dice.random() < 0.5:
            world.see(node, NODE_STATUS, writer=name)
    owners: list[ReplicaSet] = []
    for name in _some(dice, ["web", "api"]):
        deleted = dice.choice([(), (), (), ("orphan",), ("foregroundDeletion",), ("else.org/x",)])
        owner = a_replicaset(
            name,
            dice.randint(0, 4),
            min_ready_seconds=dice.choice([0, 50]),
            deletion_timestamp=rfc3339(NOW) if deleted else None,
            finalizers=deleted,
        )
        owners.append(owner)
        world.put(owner)
    for i in range(dice.randint(0, 6)):
        _put_pod(dice, world, f"p{i}", [*owners, a_replicaset("gone")])
    if dice.random() < 0.3:
        deleted_at = rfc3339(NOW) if dice.random() < 0.5 else None
        references = tuple(an_owner(owner) for owner in owners if dice.random() < 0.3)  # which say not whose they are
        world.put(
            Namespace(
                metadata=ObjectMeta(
                    name="default", uid="ns-default", deletion_timestamp=deleted_at, owner_references=references
                ),
                spec=NamespaceSpec(finalizers=("kubernetes",)),
            )
        )
    return world.view


def _some(dice: Random, names: list[str]) -> list[str]:
    return [n for n in names if dice.random() < 0.6]


def _put_pod(dice: Random, world: World, name: str, owners: list[ReplicaSet]) -> None:
    pod = a_pod(
        name,
        owner=dice.choice([None, *owners]),
        node=dice.choice(["", "n1", "n2", "n3"]),
        labels={"app": dice.choice(["web", "api", "other"])},
        deletion_timestamp=rfc3339(NOW) if dice.random() < 0.3 else None,
        finalizers=dice.choice([(), (), (), ("else.org/x",)]),
    )
    if dice.random() < 0.8:
        world.put(pod)
    for where in _some(dice, ["n1", "n2", "n3"]):
        world.bind(pod, node=where, drained=dice.random() < 0.5)
    for writer in _some(dice, ["_", "n1", "n2"]):
        said = status(dice.choice(["", "Pending", "Running", "Failed"]), ready_s=dice.choice([None, 10, 100]))
        uid = dice.choice([pod.metadata.uid, pod.metadata.uid, "older"])
        world.see(pod, said, writer=writer, uid=uid, gone=dice.random() < 0.5 and writer != "_")


# By seed, not drawn one by one: a failure prints the seed, and a world costs a hundredth.
worlds = st.integers(0, 2**32).map(a_world)
