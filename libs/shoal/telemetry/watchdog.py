"""A watchdog for the event loop: what blocks it longer than a second is logged, with the stack that blocked it."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shoal.telemetry.logs import log

PROBE_EVERY_S = 1.0
LAG_MAX_S = 1.0


@asynccontextmanager
async def watchdog(lag_max_s: float = LAG_MAX_S, every_s: float = PROBE_EVERY_S) -> AsyncIterator[None]:
    """A thread knocks each second; if the loop does not answer within `lag_max_s`, the loop's stack is taken."""
    loop, thread_id, stop = asyncio.get_running_loop(), threading.get_ident(), threading.Event()
    thread = threading.Thread(
        target=_knock, args=(loop, thread_id, stop, lag_max_s, every_s), name="loop watchdog", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _knock(
    loop: asyncio.AbstractEventLoop, thread_id: int, stop: threading.Event, lag_max_s: float, every_s: float
) -> None:
    while not stop.wait(every_s):
        answered, asked = threading.Event(), time.monotonic()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return
        if answered.wait(lag_max_s):
            continue
        frame = sys._current_frames().get(thread_id)  # noqa: SLF001  (the documented way to another thread's stack)
        stack = "".join(traceback.format_stack(frame, limit=12)) if frame else ""
        del frame
        while not (answered.wait(0.1) or stop.is_set()):
            pass
        log.warning("loop.blocked", lag_ms=round((time.monotonic() - asked) * 1000), stack=stack)
