"""Shells in the test's own process, each with a connection of its own, as in life."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest_asyncio
from tests.integration.starting import started, stopped

from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.controller.controller import Controller
from shoal.controller.shell import run
from shoal.store.store import Store

Start = Callable[..., Awaitable["asyncio.Task[None]"]]


@pytest_asyncio.fixture
async def start(bus: Bus) -> AsyncIterator[Start]:
    """`await start([controllers], group)`: a shell, once its view is whole. Cancel the task for a clean stop."""
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []

        async def begin(controllers: Sequence[Controller], group: str, **how: Any) -> "asyncio.Task[None]":
            own = await stack.enter_async_context(connect(bus.config, name=group))
            work = partial(run, controllers, bus=own, store=Store(own), group=group, **how)
            task = await started(lambda ready: work(on_ready=ready), name=f"shell {group}")
            tasks.append(task)
            return task

        yield begin
        await stopped(tasks)
