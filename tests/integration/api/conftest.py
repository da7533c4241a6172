"""Apis in the test's own process, each with a connection of its own, and a person's client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.starting import started, stopped

from shoal.api.manifests import GROUP
from shoal.api.service import Settings, serve
from shoal.bus.connection import Bus
from shoal.client import Client
from shoal.names import leader
from shoal.store.store import Store

StartApi = Callable[..., Awaitable["asyncio.Task[None]"]]

SETTINGS = Settings(cluster_cidr="10.208.0.0/16", node_mask=23)


@pytest_asyncio.fixture
async def start_api(bus: Bus) -> AsyncIterator[StartApi]:
    """`await start_api()`: one more api, once it answers. Cancel the task for a clean stop."""
    tasks: list[asyncio.Task[None]] = []

    async def start(settings: Settings = SETTINGS, **how: Any) -> "asyncio.Task[None]":
        task = await started(lambda ready: serve(bus.config, settings, on_ready=ready, **how), name="api")
        tasks.append(task)
        return task

    yield start
    await stopped(tasks)


@pytest_asyncio.fixture
async def api(start_api: StartApi, store: Store) -> "asyncio.Task[None]":
    """One api, which leads: it writes nothing more of its own."""
    task = await start_api()
    while await store.get(leader(GROUP)) is None:
        await asyncio.sleep(0.01)
    return task


@pytest.fixture
def client(bus: Bus) -> Client:
    return Client(bus)
