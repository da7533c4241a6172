"""So many at a time at the engine, and whoever came first is finished first.

Beyond a handful of calls at once an engine starts nothing faster, everything only takes longer. Turns in order of
asking would begin thirty pods and finish them all at the end; so a pod's calls go by when the pod came (its ticket). What
heals has an old ticket and waits for nobody; removals come after all that starts.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Waiting = tuple[tuple[bool, int], int, "asyncio.Future[None]"]


class Turns:
    def __init__(self, limit: int) -> None:
        self._free = limit
        self._count = itertools.count()
        self._tickets = itertools.count()
        self._waiting: list[_Waiting] = []

    def ticket(self) -> int:
        """A place in the order of pods."""
        return next(self._tickets)

    @asynccontextmanager
    async def turn(self, ticket: int, *, removal: bool = False) -> AsyncIterator[None]:
        if self._free > 0:
            self._free -= 1
        else:
            waiter = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, ((removal, ticket), next(self._count), waiter))
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
