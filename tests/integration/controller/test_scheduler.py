"""The scheduler against a real nats-server."""

import asyncio
import time

import msgspec
import pytest

from shoal.bus.connection import Bus
from shoal.model.pod import BoundPod
from shoal.names import bound
from shoal.scheduler.binding import Scheduler
from shoal.store.records import Delete
from shoal.store.store import Store

from .cluster import a_pod, add_node, placed, pods, put, until
from .conftest import Start

pytestmark = pytest.mark.integration


async def test_a_pod_is_bound_with_its_copy_and_its_condition(bus: Bus, store: Store, start: Start) -> None:
    await add_node(store, "n1")
    await start([Scheduler()], "scheduler")

    await put(store, a_pod("web"), traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    view = await until(store, placed)

    (web,) = placed(view)
    assert [(c.type, c.status) for c in web.object.status.conditions] == [("PodScheduled", "True")]
    copy = view.entry(bound("n1", web.key))
    assert copy is not None
    assert msgspec.json.decode(copy.value or b"", type=BoundPod).pod.spec.node_name == "n1"
    assert copy.traceparent.startswith("00-" + "a" * 32)


async def test_an_unplaced_pod_says_why_and_is_placed_when_that_changes(bus: Bus, store: Store, start: Start) -> None:
    await start([Scheduler()], "scheduler")
    await add_node(store, "n1", pods="1")
    await put(store, a_pod("first"))
    await until(store, placed)
    await put(store, a_pod("second"))

    def waits(why: str):  # type: ignore[no-untyped-def]
        return lambda view: any(
            c.message == why for s in pods(view) if s.key.name == "second" for c in s.object.status.conditions
        )

    await until(store, waits("0/1 nodes are available: 1 Too many pods."))
    await add_node(store, "n2", pods="0")
    view = await until(store, waits("0/2 nodes are available: 2 Too many pods."))

    (first,) = placed(view)
    entry = view.desired_entry(first.key)
    assert entry is not None
    await store.commit([Delete(entry.key, entry.revision)])
    view = await until(store, lambda v: [s.key.name for s in placed(v)] == ["second"])


async def test_what_gathers_is_bound_in_few_batches(bus: Bus, store: Store, start: Start) -> None:
    for i in range(3):
        await add_node(store, f"n{i}", pods="1000", cpu="100")
    await start([Scheduler()], "scheduler")
    first = await store.last_revision()

    began = time.monotonic()
    await asyncio.gather(*(put(store, a_pod(f"p{i}")) for i in range(300)))
    view = await until(store, lambda v: len(placed(v)) == 300)
    print(f"300 pods created and bound in {time.monotonic() - began:.3f} s")

    fences = await store.last_revision() - first - 300 - 900
    assert fences < 150, f"{fences} batches for 300 pods"
    spread = {n: sum(s.object.spec.node_name == n for s in pods(view)) for n in ("n0", "n1", "n2")}
    assert max(spread.values()) - min(spread.values()) <= 3, spread


async def test_a_pod_that_names_its_node_gets_its_copy(bus: Bus, store: Store, start: Start) -> None:
    await start([Scheduler()], "scheduler")

    await put(store, a_pod("pinned", node="elsewhere"))
    view = await until(store, placed)

    assert [s.object.spec.node_name for s in placed(view)] == ["elsewhere"]
