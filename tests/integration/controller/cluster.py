"""What the tests of controllers stand in for: the api (objects in) and the agents (what nodes report)."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from shoal.controller.actions import rfc3339
from shoal.model.container import Container, ContainerStatus
from shoal.model.meta import Condition, LabelSelector, Object, ObjectMeta
from shoal.model.node import Node, NodeSpec, NodeStatus
from shoal.model.pod import Pod, PodSpec, PodStatus, PodTemplateSpec
from shoal.model.registry import encode, key_of
from shoal.model.replicaset import ReplicaSet, ReplicaSetSpec
from shoal.names import bound_to, desired, observed, parse_key
from shoal.store.records import Entry, Put
from shoal.store.store import Store
from shoal.store.stored import Observed, Stored
from shoal.store.view import View
from shoal.store.watch import Watch

NOW = 1_800_000_000.0


async def put(store: Store, obj: Object, *, traceparent: str = "") -> int:
    """Create or overwrite, as the api would."""
    key = desired(key_of(obj))
    there = await store.get(key)
    (revision,) = await store.commit([Put(key, encode(obj), there.revision if there else 0, traceparent)])
    return revision


async def report(store: Store, writer: str, obj: Object, status: msgspec.Struct, *, gone: bool = False) -> None:
    key = observed(writer, key_of(obj))
    there = await store.get(key)
    value = Observed(uid=obj.metadata.uid, status=msgspec.Raw(msgspec.json.encode(status)), gone=gone)
    await store.commit([Put(key, msgspec.json.encode(value), there.revision if there else 0)])


async def add_node(store: Store, name: str, *, cpu: str = "4", pods: str = "110", cidr: str = "10.208.0.0/23") -> Node:
    node = Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}"), spec=NodeSpec(pod_cidr=cidr))
    await put(store, node)
    status = NodeStatus(
        allocatable={"cpu": cpu, "memory": "8Gi", "pods": pods},
        conditions=(Condition(type="Ready", status="True"),),
    )
    await report(store, name, node, status)
    return node


def a_pod(name: str, *, node: str = "", **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", creation_timestamp=rfc3339(NOW)),
        spec=PodSpec(containers=(Container(name="c", image="busybox"),), node_name=node, **spec),
    )


def a_replicaset(name: str, replicas: int, *, generation: int = 1) -> ReplicaSet:
    labels = {"app": name}
    return ReplicaSet(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=generation),
        spec=ReplicaSetSpec(
            replicas=replicas,
            selector=LabelSelector(match_labels=labels),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels=labels),
                spec=PodSpec(containers=(Container(name="c", image="busybox"),), termination_grace_period_seconds=5),
            ),
        ),
    )


async def read(store: Store) -> View:
    """The whole state as a view."""
    view = View()
    entries, _ = await store.list(">")
    for entry in entries:
        view.apply(entry)
    return view


async def until(store: Store, holds: Callable[[View], Any], *, timeout_s: float = 20.0) -> View:
    """Follow the state until it is so; the view at that moment."""
    view = View()
    try:
        async with asyncio.timeout(timeout_s):
            async for event in Watch(store._bus, name="until", filters=[">"]):
                view.apply(event)
                if view.synced and holds(view):
                    return view
    except TimeoutError:
        there = "\n".join(sorted(view._entries)[:200])
        raise AssertionError(f"did not come true within {timeout_s:g} s; there is:\n{there}") from None
    raise AssertionError("a watch never ends")


def pods(view: View) -> list[Stored[Pod]]:
    return sorted(view.objects("pods", type_=Pod), key=lambda s: s.key)


def placed(view: View) -> list[Stored[Pod]]:
    """Pods with a node and the copy there."""
    return [s for s in pods(view) if (n := s.object.spec.node_name) and n in view.bound_entries(s.key)]


class FakeAgent:
    """Runs what is bound to its node: reports it Running and ready, and what is drained gone."""

    def __init__(self, store: Store, node: str) -> None:
        self.store = store
        self.node = node

    async def serve(self) -> None:
        watch = Watch(self.store._bus, name=f"agent_{self.node}", filters=[bound_to(self.node)])
        async for event in watch:
            if isinstance(event, Entry) and event.value is not None:
                await self._serve_one(event.key, event.value)

    async def _serve_one(self, name: str, value: bytes) -> None:
        key = parse_key(name).object
        if key is None or key.resource != "pods":
            return
        copy = msgspec.json.decode(value, type=_Copy)
        if copy.pod.metadata.deletion_timestamp is None:
            await report(self.store, self.node, copy.pod, running())
        elif copy.drained:
            await report(self.store, self.node, copy.pod, PodStatus(phase="Succeeded"), gone=True)


class _Copy(msgspec.Struct):
    pod: Pod
    drained: bool = False


def running() -> PodStatus:
    return PodStatus(
        phase="Running",
        conditions=(Condition(type="Ready", status="True", last_transition_time=rfc3339(NOW)),),
        container_statuses=(ContainerStatus(name="c", ready=True),),
    )
