"""Bytes to and from the person's side: stdin as it is typed, stdout that may be slow, a terminal in raw mode.

The event loop never blocks here: while the reader of a pipe rests, pings are still answered, and ^C is heard.
"""

import asyncio
import os
import select
import signal
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

PIPE_BYTES = 4096  # PIPE_BUF: so much can be written without blocking where poll says that anything can
STALL_S = 10.0
READ_BYTES = 65_536


class Output:
    """One file descriptor. `stalled` is awaited every 10 s while nobody reads."""

    def __init__(self, fd: int, stalled: Callable[[], Awaitable[None]] | None = None) -> None:
        self._fd = fd
        self._stalled = stalled
        mode = os.fstat(fd).st_mode
        self._may_block = not stat.S_ISREG(mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    async def write(self, data: bytes) -> None:
        """Raises: BrokenPipeError."""
        view = memoryview(data)
        while view:
            if self._may_block and not self._poll.poll(0):
                await self._writable()
            view = view[os.write(self._fd, view[:PIPE_BYTES] if self._may_block else view) :]

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            while True:
                try:
                    async with asyncio.timeout(STALL_S):
                        await ready.wait()
                    return
                except TimeoutError:
                    if self._stalled is not None:
                        await self._stalled()
        finally:
            loop.remove_writer(self._fd)


class Typed(Protocol):
    """Where stdin goes: a session."""

    def write(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    @property
    def unsent(self) -> int: ...


async def feed(fd: int, session: Typed) -> None:
    """Send what is read from `fd` until its end, and no faster than the other side takes it."""
    while data := await _read(fd):
        session.write(data)
        while session.unsent > READ_BYTES:  # noqa: ASYNC110  (a session has no event for it, and a person types slower)
            await asyncio.sleep(0.01)
    session.close_stdin()


async def _read(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # epoll takes no files and no /dev/null; they do not block either
        await asyncio.sleep(0)
        return os.read(fd, READ_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    try:
        return os.read(fd, READ_BYTES)
    except OSError:  # a terminal that went away
        return b""


def is_terminal(fd: int) -> bool:
    return os.isatty(fd)


def size(fd: int) -> tuple[int, int]:
    """Width and height; 80 by 24 for what has none."""
    try:
        found = os.get_terminal_size(fd)
    except OSError:
        return 80, 24
    return (found.columns or 80, found.lines or 24)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes to the other side, ^C too; the terminal is as it was afterwards, whatever happens."""
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as ^C would: what is around it is put right first. Raises: SystemExit."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    got: list[int] = []

    def end(number: int) -> None:
        got.append(number)
        task.cancel()

    signals = (signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if not got:
            raise
        task.uncancel()
        raise SystemExit(128 + got[0]) from None
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def resizing(fd: int, resize: Callable[[int, int], None]) -> Iterator[None]:
    """Call `resize` with the new size whenever the window changes."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, lambda: resize(*size(fd)))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
