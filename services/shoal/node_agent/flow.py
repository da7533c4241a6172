"""One session's flow: output that goes only as far as the asker's credit, input that waits for the process.

A reader that stops pulling stops the flow: between pulls at most one piece is read ahead, the rest stays in the engine,
and so a log of any size passes in bounded memory. A process that stops reading stops its sender: each answer says how much
input the process has taken, and no more than `STDIN_WINDOW` beyond that may be sent.
"""

import asyncio
from collections import deque
from contextlib import suppress

from shoal.errors import BadRequest, Overloaded, ShoalError, to_status
from shoal.node_agent.runtime.port import Output, Terminal
from shoal.wire import STDIN_WINDOW, Chunk, SessionReply, SessionRequest

ANSWER_S = 9.0  # the asker hears something within 10 s
CREDIT_MAX = 524_288  # a node's message holds 1 MiB, and JSON carries bytes as base64
STDIN_ROOM = STDIN_WINDOW // 2  # who has sent more than this unread is told as soon as less is left
ORDER_S = 9.5  # a pull that waits for the process to read is answered in 9
EXIT_TRIES = 50
EXIT_PAUSE_S = 0.02


class Flow:
    """`terminal` None: output alone (a log). `limit`: bytes after which it is done, None for no limit."""

    def __init__(self, output: Output, *, terminal: Terminal | None = None, limit: int | None = None) -> None:
        self._output = output
        self._terminal = terminal
        self._left = limit
        self._rest: tuple[int, bytes] | None = None
        self._reading: asyncio.Task[tuple[int, bytes] | None] | None = None
        self._sequence = 0
        self._answer: asyncio.Task[SessionReply] | None = None
        self._hurry = asyncio.Event()  # a newer pull waits for the answer of this one
        self._moved = asyncio.Event()  # set when the sequence moves, and replaced
        self._input: deque[bytes] = deque()
        self._input_size = 0
        self._input_eof = False
        self._input_room = asyncio.Event()
        self._input_room.set()
        self._received = 0  # bytes of input, since the beginning
        self._told = 0  # of them, what the asker knows that the process has taken
        self._writing: asyncio.Task[None] | None = None
        self.done = False

    @property
    def unread(self) -> int:
        """Bytes of input that wait for the process; never more than the window."""
        return self._input_size

    async def pull(self, request: SessionRequest) -> SessionReply:
        """Answer pull number `request.sequence`; the same number again gets the same answer.

        The next number may come while the last one still waits for output (something was typed): that one is answered
        at once, with what it has. Several apis relay, so numbers may arrive out of order: a late one is waited for.

        Raises: BadRequest for a number that is neither the last nor follows in time.
        """
        await self._turn_of(request.sequence)
        if request.sequence != self._sequence:
            self._sequence = request.sequence
            self._hurry.clear()
            self._answer = asyncio.create_task(self._pull(request), name=f"pull {request.sequence}")
            self._moved.set()
            self._moved = asyncio.Event()
        assert self._answer is not None
        return await asyncio.shield(self._answer)

    async def _turn_of(self, sequence: int) -> None:
        try:
            async with asyncio.timeout(ORDER_S):
                while sequence > self._sequence:
                    if sequence > self._sequence + 1:
                        await self._moved.wait()
                    elif self._answer is not None and not self._answer.done():
                        self._hurry.set()
                        await asyncio.wait((self._answer,))
                    else:
                        return
        except TimeoutError:
            pass
        if sequence != self._sequence:
            raise BadRequest(f"pull {sequence} does not follow pull {self._sequence}", path="sequence")

    async def _pull(self, request: SessionRequest) -> SessionReply:
        reply = SessionReply(sequence=request.sequence)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._take_input(request)
                short = self._received - self._told > STDIN_ROOM  # it may be waiting for room
                await self._fill(reply, min(request.credit_bytes, CREDIT_MAX), short=short)
        except TimeoutError:
            pass
        except ShoalError as error:
            reply.done, reply.error = True, to_status(error)
        reply.stdin_taken = self._told = self._received - self._input_size
        self.done = self.done or reply.done
        return reply

    # --- input -----------------------------------------------------------------------------------------------------------

    async def _take_input(self, request: SessionRequest) -> None:
        if self._terminal is None:
            return
        if request.resize is not None:
            with suppress(ShoalError):  # a process that has just ended has no window
                await self._terminal.resize(*request.resize)
        if self._input_size + len(request.stdin) > STDIN_WINDOW:
            raise Overloaded("more input was sent than the process has room for")
        if request.stdin:
            self._input.append(request.stdin)
            self._input_size += len(request.stdin)
            self._received += len(request.stdin)
        self._input_eof = self._input_eof or request.eof
        if (self._input or self._input_eof) and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(self._terminal), name="stdin")
        if self._input_size > STDIN_ROOM:
            self._input_room.clear()

    async def _write(self, terminal: Terminal) -> None:
        try:
            while self._input:
                piece = self._input.popleft()
                await terminal.write(piece)
                self._input_size -= len(piece)
                if self._input_size <= STDIN_ROOM:
                    self._input_room.set()
            if self._input_eof:
                self._input_eof = False
                await terminal.write_eof()
        except (ShoalError, RuntimeError):  # it ended: what it did not read is lost, its exit code tells
            self._input.clear()
            self._input_size = 0
            self._input_room.set()

    # --- output ----------------------------------------------------------------------------------------------------------

    async def _fill(self, reply: SessionReply, credit: int, *, short: bool) -> None:
        """Wait for the first piece, then take what is there without waiting.

        If the asker is `short` of room for input, go on until there is some, and no longer: the process may be one that
        writes before it reads, or that says nothing before it has read all.
        """
        while credit > 0:
            wait = not self._input_room.is_set() if short else not reply.chunks
            piece = await self._next(wait=wait, short=short)
            if piece is None:
                return
            stream, data = piece
            if not data:
                await self._finish(reply)
                return
            room = credit if self._left is None else min(credit, self._left)
            if len(data) > room:
                self._rest = (stream, data[room:])
                data = data[:room]
            if data:
                reply.chunks.append(Chunk(stream=stream, data=data))
            credit -= len(data)
            if self._left is not None:
                self._left -= len(data)
                if self._left <= 0:
                    await self._finish(reply)
                    return

    async def _next(self, *, wait: bool, short: bool) -> tuple[int, bytes] | None:
        """A piece; (0, b"") at the end; None: nothing is there now. A read that was begun is never broken off: what it
        has taken from the engine would be lost.
        """
        if self._rest is not None:
            rest, self._rest = self._rest, None
            return rest
        if self._reading is None:
            self._reading = asyncio.create_task(self._output.read(), name="read")
        if not wait and not self._reading.done():
            await asyncio.sleep(0)
            if not self._reading.done():
                return None
        if not self._reading.done():
            # More input must wait for room, so that the pull which brings it hurries nobody.
            enough = self._input_room if short else self._hurry
            other = asyncio.create_task(enough.wait(), name="enough")
            try:
                await asyncio.wait((self._reading, other), return_when=asyncio.FIRST_COMPLETED)
            finally:
                other.cancel()
            if not self._reading.done():
                return None
        reading, self._reading = self._reading, None
        found = reading.result()
        return (0, b"") if found is None else found

    async def _finish(self, reply: SessionReply) -> None:
        reply.done = True
        if self._terminal is None:
            return
        for _ in range(EXIT_TRIES):  # the stream ends a moment before the engine knows the code
            reply.exit_code = await self._terminal.exit_code()
            if reply.exit_code is not None:
                return
            await asyncio.sleep(EXIT_PAUSE_S)

    async def close(self) -> None:
        for task in (self._answer, self._reading, self._writing):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, ShoalError, RuntimeError):
                    await task
        with suppress(ShoalError, OSError):
            await self._output.close()
