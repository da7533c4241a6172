"""Waiting for the view: until it shows what was written, or what was in the way. No decision is made before that."""

import asyncio
import heapq
from contextlib import suppress

from shoal.store.view import View


class Waits:
    """`moved(key)` must be called after each entry was applied, `shown()` after each event."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._revisions: list[tuple[int, int, asyncio.Future[None]]] = []
        self._entries: dict[str, list[asyncio.Future[None]]] = {}
        self._count = 0
        self._given_up = 0

    def __len__(self) -> int:
        """How many waits for a revision are kept."""
        return len(self._revisions)

    async def until_shown(self, revision: int, timeout_s: float) -> None:
        """Until the view is whole and as new as `revision`, but `timeout_s` at most (a restore may go back)."""
        if self._view.synced and self._view.revision >= revision:
            return
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._revisions, (revision, self._count, future))
        try:
            await _within(future, timeout_s)
        finally:
            if future.cancelled():
                self._gave_up()

    async def until_moved(self, key: str, expected: int, timeout_s: float) -> None:
        """Until the view's entry of `key` is another than the one with revision `expected` (0: none)."""
        if self._revision_of(key) != expected:
            return
        future = asyncio.get_running_loop().create_future()
        waiting = self._entries.setdefault(key, [])
        waiting.append(future)
        await _within(future, timeout_s)
        if future in waiting:
            waiting.remove(future)
        if not waiting and self._entries.get(key) is waiting:
            del self._entries[key]

    def moved(self, key: str) -> None:
        for future in self._entries.pop(key, ()):
            _resolve(future)

    def shown(self) -> None:
        while self._revisions and self._view.synced and self._revisions[0][0] <= self._view.revision:
            _resolve(heapq.heappop(self._revisions)[2])

    def _gave_up(self) -> None:
        """A revision may never come: what nobody waits for any more goes when it is half of all that is kept."""
        self._given_up += 1
        if 2 * self._given_up >= len(self._revisions):
            self._revisions = [waiting for waiting in self._revisions if not waiting[2].done()]
            heapq.heapify(self._revisions)
            self._given_up = 0

    def _revision_of(self, key: str) -> int:
        entry = self._view.entry(key)
        return entry.revision if entry is not None else 0


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def _within(future: "asyncio.Future[None]", timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await future
