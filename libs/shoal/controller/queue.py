"""The keyed queue between events and decisions. An event only says *look again at this key*.

Three rules, after client-go's workqueue:
- a key waits at most once: ten events on it are one look;
- a key is worked by one at a time: what comes while it is worked is remembered, and looked at when it is done;
- `add(key, after)` is a look later; if several are asked for, the earliest counts. A look now does not cancel it.

Not thread-safe. Time comes from `clock` (monotonic seconds), so that tests own it.
"""

import asyncio
import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Queue(Generic[K]):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: dict[K, None] = {}  # in order of arrival
        self._working: set[K] = set()
        self._again: set[K] = set()  # came while worked
        self._due: dict[K, tuple[float, int]] = {}  # the one of its timers that counts
        self._timers: list[tuple[float, int, K]] = []
        self._timer_count = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait to be looked at now; those for later are not counted."""
        self._ripen()
        return len(self._ready)

    def add(self, key: K, after: float = 0.0) -> None:
        if after > 0:
            self._add_later(key, self._clock() + after)
        elif key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = None
            self._wake.set()

    def _add_later(self, key: K, due: float) -> None:
        known = self._due.get(key)
        if known is not None and due >= known[0]:
            return
        self._timer_count += 1
        self._due[key] = due, self._timer_count
        heapq.heappush(self._timers, (due, self._timer_count, key))
        self._wake.set()  # whoever sleeps until the next timer looks at the clock anew

    def take_ready(self, maximum: int) -> list[K]:
        """Up to `maximum` keys that wait, oldest first. Each must be handed back by `done`."""
        self._ripen()
        batch: list[K] = []
        while self._ready and len(batch) < maximum:
            key = next(iter(self._ready))
            del self._ready[key]
            self._working.add(key)
            batch.append(key)
        return batch

    async def take(self, maximum: int) -> list[K]:
        """As `take_ready`, but waits until there is one."""
        while not (batch := self.take_ready(maximum)):
            self._wake.clear()
            try:
                async with asyncio.timeout(self.next_due_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue
        return batch

    def done(self, key: K) -> None:
        """The look is over. If the key came again meanwhile it waits again."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def next_due_s(self) -> float | None:
        """Seconds until the next delayed key is due, None if there is none."""
        while self._timers and self._due.get(self._timers[0][2]) != self._timers[0][:2]:
            heapq.heappop(self._timers)  # an earlier look took its place
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def clear(self) -> None:
        """Forget everything that waits; keys being worked stay so until `done`."""
        self._ready.clear()
        self._again.clear()
        self._due.clear()
        self._timers.clear()

    def _ripen(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            due, count, key = heapq.heappop(self._timers)
            if self._due.get(key) == (due, count):
                del self._due[key]
                self.add(key)
