"""ReplicaSet to pods to bindings to removal, with every controller, and agents that only write what agents write."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shoal.bus.connection import Bus
from shoal.controller.actions import mark_deleted, with_metadata
from shoal.model.meta import ObjectMeta, OwnerReference
from shoal.model.namespace import Namespace, NamespaceSpec
from shoal.model.pod import Pod, PodStatus
from shoal.model.registry import key_of
from shoal.model.replicaset import ReplicaSet
from shoal.names import ObjectKey
from shoal.replica_controller.service import chosen
from shoal.scheduler.binding import Scheduler
from shoal.store.records import Delete
from shoal.store.store import Store
from shoal.store.stored import Stored
from shoal.store.view import View

from .cluster import FakeAgent, a_pod, a_replicaset, add_node, placed, pods, put, read, report, until
from .conftest import Start

pytestmark = pytest.mark.integration

Tasks = list["asyncio.Task[None]"]
WEB = ObjectKey("replicasets", "default", "web")


def ready(view: View) -> int:
    stored = view.get(WEB, ReplicaSet)
    return stored.object.status.ready_replicas if stored else -1


async def a_cluster(store: Store, start: Start, tasks: Tasks) -> None:
    for name in ("n1", "n2"):
        await add_node(store, name)
        tasks.append(asyncio.create_task(FakeAgent(store, name).serve()))
    await start([Scheduler()], "scheduler")
    group, controllers = chosen(())
    await start(controllers, group)


@pytest.fixture
async def agents() -> AsyncIterator[Tasks]:
    tasks: Tasks = []
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_replicaset_runs_scales_heals_and_goes(bus: Bus, store: Store, start: Start, agents: Tasks) -> None:
    await a_cluster(store, start, agents)

    await put(store, a_replicaset("web", 6))
    view = await until(store, lambda v: ready(v) == 6)
    assert len(placed(view)) == 6
    assert {s.object.spec.node_name for s in pods(view)} == {"n1", "n2"}

    victim = pods(view)[0]
    await report(store, victim.object.spec.node_name, victim.object, _failed())
    view = await until(store, lambda v: ready(v) == 6 and len(pods(v)) == 7)

    await put(store, a_replicaset("web", 2, generation=2))
    view = await until(store, lambda v: ready(v) == 2 and sum(s.object.status.phase == "Running" for s in pods(v)) == 2)

    entry = view.desired_entry(WEB)
    assert entry is not None
    await store.commit([Delete(entry.key, entry.revision)])
    view = await until(store, lambda v: not pods(v))
    left = [e.key for e in (await read(store)).entries() if ".pods." in e.key or "replicasets" in e.key]
    assert left == []


def _failed() -> PodStatus:
    return PodStatus(phase="Failed", reason="Evicted")


async def test_the_pods_traces_begin_at_the_wish(bus: Bus, store: Store, start: Start, agents: Tasks) -> None:
    await a_cluster(store, start, agents)
    wish = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    await put(store, a_replicaset("web", 1), traceparent=wish)
    view = await until(store, lambda v: ready(v) == 1)
    (pod,) = pods(view)
    assert pod.traceparent.split("-")[1] == "a" * 32

    entry = view.desired_entry(pod.key)
    assert entry is not None
    await store.commit([Delete(entry.key, entry.revision)])  # as `delete --force` does
    view = await until(store, lambda v: any(s.key != pod.key for s in pods(v)))
    (healed,) = [s for s in pods(view) if s.key != pod.key]
    assert healed.traceparent.split("-")[1] != "a" * 32, "healing starts a trace of its own"


async def test_deleting_a_namespace_empties_it_first(bus: Bus, store: Store, start: Start, agents: Tasks) -> None:
    await a_cluster(store, start, agents)
    namespace = Namespace(
        metadata=ObjectMeta(name="default", uid="uid-ns"), spec=NamespaceSpec(finalizers=("kubernetes",))
    )
    await put(store, namespace)
    await put(store, a_replicaset("web", 3))
    view = await until(store, lambda v: ready(v) == 3)

    stored = view.get(ObjectKey("namespaces", "", "default"))
    assert stored is not None
    await put(store, mark_deleted(stored, 1_800_000_000.0).object)

    view = await until(store, lambda v: view is not v and not v.keys_in("default") and not v.keys("namespaces"))
    assert [k for k in view.known() if k.namespace == "default"] == []


async def test_a_namespace_that_says_a_pod_owns_it_stays_with_all_it_holds(
    bus: Bus, store: Store, start: Start, agents: Tasks
) -> None:
    """An object that only names an owner which is gone goes: then garbage has looked at the namespace too."""
    reference = OwnerReference(api_version="v1", kind="Pod", name="gone", uid="uid-gone")
    spec = NamespaceSpec(finalizers=("kubernetes",))
    await put(
        store, Namespace(metadata=ObjectMeta(name="default", uid="uid-ns", owner_references=(reference,)), spec=spec)
    )
    garbage = with_metadata(a_pod("garbage"), owner_references=(reference,))
    await put(store, garbage)
    await a_cluster(store, start, agents)
    await put(store, a_replicaset("web", 2))

    view = await until(store, lambda v: ready(v) == 2 and v.get(key_of(garbage)) is None)

    kept = view.get(ObjectKey("namespaces", "", "default"))
    assert kept is not None
    assert not kept.deleting


async def test_names_that_collide_in_one_unit_stop_no_set(bus: Bus, store: Store, start: Start, agents: Tasks) -> None:
    """This uid's first 300 names are 299."""
    group, controllers = chosen(())
    await start(controllers, group)

    await put(store, with_metadata(a_replicaset("web", 300), uid="00000000-0000-0000-0000-0000001fa89b"))

    await until(store, lambda v: len(pods(v)) == 300)


async def test_orphans_stay_when_their_owner_goes(bus: Bus, store: Store, start: Start, agents: Tasks) -> None:
    await a_cluster(store, start, agents)
    await put(store, a_replicaset("web", 2))
    view = await until(store, lambda v: ready(v) == 2)
    stored: Stored[ReplicaSet] | None = view.get(WEB, ReplicaSet)
    assert stored is not None

    await put(store, with_metadata(mark_deleted(stored, 1_800_000_000.0).object, finalizers=("orphan",)))
    view = await until(store, lambda v: v.get(WEB) is None)

    kept = view.objects("pods", type_=Pod)
    assert len(kept) == 2
    assert all(not s.object.metadata.owner_references and not s.deleting for s in kept)
