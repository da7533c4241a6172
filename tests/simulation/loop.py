"""An event loop whose clock is ours, and the processes that live in it.

Nothing waits: when no callback is ready, the clock jumps to the next timer. Every callback belongs to the process in
whose context it was made (contexts are inherited by tasks and timers), so that one process can be killed (its
callbacks never run again, not even a `finally`), or paused (they wait, as after SIGSTOP), while the others go on. With
one seed a run is the same each time: one thread, no sockets, no executor.
"""

import asyncio
import contextvars
import heapq
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

EPOCH = 1_800_000_000.0  # Unix time when the loop's clock says 0


class Deadlock(Exception):
    """No callback is ready and no timer is set: nothing would ever happen again."""


class Process:
    """One process of the cluster: `alive` until it is killed or has ended, `paused` between SIGSTOP and SIGCONT."""

    def __init__(self, loop: "Loop", name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.wall_offset_s = 0.0  # how wrong its wall clock is
        self.task: asyncio.Task[Any] | None = None
        self.at_death: list[Callable[[], None]] = []
        self._loop = loop
        self._held: list[asyncio.Handle] = []
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin: one task, with all that comes of it."""
        self.task = self._context.run(lambda: self._loop.create_task(work(), name=self.name))

    def call(self, work: Callable[..., None], *args: Any, after_s: float = 0.0) -> None:
        """Something reaches the process from outside, a message say."""
        if self.alive:
            self._loop.call_later(after_s, work, *args, context=self._context)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held, self._held = self._held, []
        for handle in held:
            self._loop.again(handle)

    def kill(self) -> None:
        """As SIGKILL: nothing of it runs any more. What it held outside learns of it by `at_death`."""
        if self.alive:
            self.alive = False
            self._held.clear()
            for told in self.at_death:
                told()

    def hold(self, handle: asyncio.Handle) -> None:
        self._held.append(handle)


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def this_process() -> Process | None:
    return _process.get()


class Loop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]
        self._cancelled = 0
        self.set_exception_handler(self._unhandled)
        self.unhandled: list[str] = []
        self._whose: weakref.WeakKeyDictionary[Any, Process | None] = weakref.WeakKeyDictionary()

    def create_task(self, coro: Any, **named: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = super().create_task(coro, **named)
        self._whose[task] = this_process()
        return task

    def time(self) -> float:
        return self._now

    def again(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)

    def _run_once(self) -> None:
        if self._cancelled > 200 and self._cancelled * 2 > len(self._scheduled):
            self._sweep()
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0].cancelled():
            self._timer_handle_cancelled_done(heapq.heappop(scheduled))
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Deadlock
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            due = heapq.heappop(scheduled)
            due._scheduled = False  # type: ignore[attr-defined]
            ready.append(due)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(_process)  # type: ignore[attr-defined]
            if process is None:
                handle._run()
            elif process.paused:
                process.hold(handle)
            elif process.alive:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled += 1

    def _sweep(self) -> None:
        """Most timeouts are cancelled long before their time: without them the heap stays small."""
        kept = [h for h in self._scheduled if not h.cancelled()]
        self._cancelled = 0
        heapq.heapify(kept)
        self._scheduled[:] = kept

    def _timer_handle_cancelled_done(self, handle: asyncio.TimerHandle) -> None:
        handle._scheduled = False  # type: ignore[attr-defined]

    def _write_to_self(self) -> None: ...

    def _process_events(self, event_list: Any) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """At once: threads have no place in a run that must repeat itself."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What an event loop would log. What the killed leave behind is no finding."""
        left = context.get("task") or context.get("future")
        whose = self._whose.get(left) if isinstance(left, asyncio.Task) else this_process()
        if whose is None or whose.alive:
            name = whose.name if whose else "nobody"
            self.unhandled.append(f"{name}: {context.get('message')}: {context.get('exception')!r}")
