"""Logs, exec and attach, pulled: `async for chunk in session`, and the exit code after it.

Each pull asks for a bounded number of bytes, so that who stops reading stops the flow. A pull whose answer was lost is
sent again under its number, and answered again. What is typed goes out at once, beside the pull that waits for output;
answers are taken in the order of their numbers. Input goes no further than the process takes it (`wire.STDIN_WINDOW`).
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from shoal.bus.connection import Bus
from shoal.errors import ShoalError, Unavailable, from_status
from shoal.wire import STDIN_WINDOW, Chunk, SessionReply, SessionRequest

ANSWER_S = 12.0  # the node answers within 10
PATIENCE_S = 10.0  # while no api answers: a restart of the only one takes one or two
END_PATIENCE_S = 1.0  # the node ends an idle session by itself
CREDIT_BYTES = 262_144
STDIN_BYTES_MAX = 65_536
PULLS_AT_ONCE = 2  # one that waits for output, and one that brings input


class Session:
    """Ends by itself after the last chunk; leave its `async with` to end it before."""

    def __init__(
        self, bus: Bus, subject: str, session: str, *, credit_bytes: int = CREDIT_BYTES, traceparent: str = ""
    ) -> None:
        self.exit_code: int | None = None
        self.done = False
        self._bus = bus
        self._subject = subject
        self._session = session
        self._credit = credit_bytes
        self._traceparent = traceparent
        self._sequence = 0
        self._stdin = bytearray()
        self._stdin_sent = 0
        self._stdin_taken = 0
        self._eof = False
        self._resize: tuple[int, int] | None = None
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _exc: object, _tb: TracebackType | None) -> None:
        await self.end()

    def write(self, data: bytes) -> None:
        self._stdin += data
        self._wake.set()

    def close_stdin(self) -> None:
        self._eof = True
        self._wake.set()

    def resize(self, width: int, height: int) -> None:
        self._resize = (width, height)
        self._wake.set()

    @property
    def unsent(self) -> int:
        """Bytes of stdin that wait to be sent: who feeds a file waits while this is large."""
        return len(self._stdin)

    async def keep(self) -> None:
        """Say between two chunks that the session is not given up: 30 s without a pull end it.

        Raises: as iterating does.
        """
        await self._pull(SessionRequest(session=self._session, sequence=self._next(), credit_bytes=0))

    async def end(self) -> None:
        """The process on the other side is ended, unless it is already. Never raises."""
        if not self.done:
            self.done = True
            with suppress(ShoalError):
                last = SessionRequest(session=self._session, sequence=self._next(), credit_bytes=0, end=True)
                await self._pull(last, END_PATIENCE_S)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Raises: the error that ended the session; Unavailable if its node does not answer any more."""
        pending: deque[asyncio.Task[SessionReply]] = deque()
        try:
            while not self.done:
                if not pending or (self._has_input() and len(pending) < PULLS_AT_ONCE):
                    pending.append(asyncio.create_task(self._pull(self._request()), name="pull"))
                    continue
                await self._moved(pending[0], listen=len(pending) < PULLS_AT_ONCE)
                if not pending[0].done():
                    continue
                reply = pending.popleft().result()
                for chunk in reply.chunks:
                    yield chunk
                if reply.done:
                    self.done = True
                    self.exit_code = reply.exit_code
                    if reply.error is not None:
                        raise from_status(reply.error)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _moved(self, pull: "asyncio.Task[SessionReply]", *, listen: bool) -> None:
        """Waits for the answer, or (`listen`) for something to send."""
        self._wake.clear()
        typed = asyncio.create_task(self._wake.wait(), name="typed")
        try:
            await asyncio.wait({pull, typed} if listen else {pull}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            typed.cancel()

    def _has_input(self) -> bool:
        """Some that may go now."""
        return bool((self._stdin and self._room()) or (self._eof and not self._stdin) or self._resize is not None)

    def _room(self) -> int:
        return STDIN_WINDOW - (self._stdin_sent - self._stdin_taken)

    def _request(self) -> SessionRequest:
        stdin = bytes(self._stdin[: min(STDIN_BYTES_MAX, self._room())])
        del self._stdin[: len(stdin)]
        self._stdin_sent += len(stdin)
        eof = self._eof and not self._stdin
        if eof:
            self._eof = False
        resize, self._resize = self._resize, None
        return SessionRequest(
            session=self._session,
            sequence=self._next(),
            credit_bytes=self._credit,
            stdin=stdin,
            eof=eof,
            resize=resize,
        )

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _pull(self, request: SessionRequest, patience_s: float = PATIENCE_S) -> SessionReply:
        """Asked again while every api is away, as when one is restarted; the node keeps the session for longer than that."""
        until = time.monotonic() + patience_s
        while True:
            try:
                reply = await self._bus.request(
                    self._subject, request, SessionReply, timeout=ANSWER_S, traceparent=self._traceparent
                )
            except Unavailable:
                if self._bus.nc.is_closed or time.monotonic() > until:
                    raise
                await asyncio.sleep(random.uniform(0.1, 0.3))
            else:
                self._stdin_taken = max(self._stdin_taken, reply.stdin_taken)
                return reply
