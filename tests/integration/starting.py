"""Services in the test's own process: awaited until they serve, and stopped as SIGTERM stops them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Serve = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


async def started(serve: Serve, *, name: str) -> "asyncio.Task[None]":
    """`serve(on_ready)` as a task, once it has said that it is ready. Raises what ends it before."""
    ready = asyncio.Event()
    task = asyncio.create_task(serve(ready.set), name=name)
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await stopped([task])
        raise
    finally:
        waiting.cancel()
    if task.done():
        task.result()
    return task


async def stopped(tasks: "list[asyncio.Task[None]]") -> None:
    """Raises what one of them failed with."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
