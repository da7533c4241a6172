"""Shells in the test's own process, each with a connection of its own, as in life."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio

from shoal.bus.connection import Bus, connect
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
            ready = asyncio.Event()
            work = run(controllers, bus=own, store=Store(own), group=group, on_ready=ready.set, **how)
            task = asyncio.create_task(work, name=f"shell {group}")
            tasks.append(task)
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                task.result()
            return task

        yield begin
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
