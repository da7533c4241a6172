"""Asking for the newest state: no failure of one question stops the next."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from shoal.api.live import Live
from shoal.bus import jetstream as js
from shoal.errors import Overloaded, ShoalError, Unavailable
from shoal.store.records import Synced


class FakeBus:
    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        self.task = asyncio.create_task(work, name=name)
        return self.task


class FakeStore:
    error: BaseException | None = None

    async def last_revision(self) -> int:
        await asyncio.sleep(0)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return 7


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (js.ApiError("no", code=500, err_code=1), js.ApiError),
        (Overloaded("full"), Overloaded),
        (msgspec.DecodeError("what?"), msgspec.DecodeError),
        (ZeroDivisionError("a bug"), ShoalError),
        (asyncio.CancelledError(), Unavailable),
    ],
)
async def test_any_failure_is_an_answer_and_the_next_question_is_asked(
    error: BaseException, seen: type[Exception]
) -> None:
    bus, store = FakeBus(), FakeStore()
    live = Live(bus, store)  # type: ignore[arg-type]
    live._take(Synced(revision=7, gone=()))
    store.error = error
    with pytest.raises(seen):
        await live.newest()
    await asyncio.gather(bus.task, return_exceptions=True)
    async with asyncio.timeout(1):
        await live.newest()
