"""So many at a time at the engine, and who is nearly done goes first.

Beyond a handful of calls at once an engine starts nothing faster, everything only takes longer. With turns in order of
arrival thirty pods would all finish at the end; here a container's start goes before a sandbox's, and that before a
create.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum


class Stage(IntEnum):
    START_CONTAINER = 0
    START_SANDBOX = 1
    CREATE = 2
    REMOVE = 3


class Turns:
    def __init__(self, limit: int) -> None:
        self._free = limit
        self._count = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, stage: Stage) -> AsyncIterator[None]:
        if self._free > 0:
            self._free -= 1
        else:
            waiter = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (stage, next(self._count), waiter))
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
