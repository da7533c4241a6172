"""A ReplicaSet scaled up and down while the process that leads is killed, again and again: it ends right."""

import asyncio
import functools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from shoal.bus.connection import Bus
from shoal.model.replicaset import ReplicaSet
from shoal.names import ObjectKey, leader
from shoal.store.store import Store
from shoal.store.view import View

from .cluster import FakeAgent, a_replicaset, add_node, placed, put, read, until
from .test_shell import process

pytestmark = pytest.mark.integration

WEB = ObjectKey("replicasets", "default", "web")
MODULES = {"scheduler": "shoal.scheduler", "replica-controller": "shoal.replica_controller"}


@pytest.fixture
async def agents(store: Store) -> AsyncIterator[None]:
    tasks = []
    for name in ("n1", "n2", "n3"):
        await add_node(store, name)
        tasks.append(asyncio.create_task(FakeAgent(store, name).serve()))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def runs(view: View, replicas: int) -> bool:
    """So many ready pods, nothing else, and the status says so."""
    stored = view.get(WEB, ReplicaSet)
    if stored is None:
        return False
    status = stored.object.status
    return (status.replicas, status.ready_replicas) == (replicas, replicas) and len(
        view.keys("pods")
    ) == replicas == len(placed(view))


async def test_scaling_while_each_leader_is_killed_in_turn(bus: Bus, store: Store, agents: None) -> None:
    async with AsyncExitStack() as stack:
        for module in MODULES.values():
            for _ in range(2):
                await stack.enter_async_context(process(bus, module))
        await put(store, a_replicaset("web", 0))
        wanted = [12, 30, 5]
        for generation, (replicas, group) in enumerate(
            zip(wanted, ["replica-controller", "scheduler", "replica-controller"], strict=True), start=2
        ):
            await put(store, a_replicaset("web", replicas, generation=generation))
            await until(store, functools.partial(begun, generation=generation))
            await _kill_leader(store, group)
            await stack.enter_async_context(process(bus, MODULES[group]))
            await until(store, functools.partial(runs, replicas=replicas), timeout_s=30)
    view = await read(store)
    left = [e.key for e in view.entries() if ".pods." in e.key]
    assert len({k.rsplit(".", 1)[1] for k in left}) == 5, "nothing is left of the pods that went"


def begun(view: View, generation: int) -> bool:
    """Somebody has begun upon this wish: kill it in the middle."""
    stored = view.get(WEB, ReplicaSet)
    return stored is not None and stored.object.status.observed_generation >= generation


async def _kill_leader(store: Store, group: str) -> None:
    token = await store.get(leader(group))
    assert token is not None
    pid = int((token.value or b"").decode().split('"')[3].split("-")[-2])
    os.kill(pid, signal.SIGKILL)
