"""The asker's end of a session (`shoal.client.session`) against the node's (`shoal.node_agent.flow`)."""

import asyncio
from collections import deque
from typing import Any

import pytest

from shoal.client.session import Session
from shoal.errors import BadRequest, Unavailable
from shoal.node_agent import flow as flows
from shoal.node_agent.flow import Flow
from shoal.wire import STDIN_WINDOW, SessionReply, SessionRequest

WISH = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shell:
    """A process that says back what it is told, and ends with 7 at the end of its input."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.ended = False

    async def read(self) -> tuple[int, bytes] | None:
        return await self.said.get() if not self.ended or not self.said.empty() else None

    async def write(self, data: bytes) -> None:
        self.said.put_nowait((1, data.upper()))

    async def write_eof(self) -> None:
        self.ended = True
        self.said.put_nowait(None)

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    async def exit_code(self) -> int | None:
        return 7

    async def close(self) -> None:
        pass


class Wire:
    """The bus and the relaying api: hands each pull to the node's flow. `late`: pulls that are held back for a moment,
    `lost`: pulls whose answer does not arrive.
    """

    def __init__(self, flow: Flow, *, late: tuple[int, ...] = (), lost: tuple[int, ...] = ()) -> None:
        self.flow = flow
        self.late = deque(late)
        self.lost = deque(lost)
        self.pulls: list[int] = []
        self.unread_most = 0  # bytes of input that waited at the node

        class Nc:
            is_closed = False

        self.nc = Nc()

    async def request(
        self, _subject: str, request: SessionRequest, _reply: Any, *, timeout: float, traceparent: str
    ) -> SessionReply:
        assert traceparent == WISH, "every message of a session carries it"
        if request.sequence in self.late:
            self.late.remove(request.sequence)
            await asyncio.sleep(0.05)
        self.pulls.append(request.sequence)
        reply = await self.flow.pull(request)
        self.unread_most = max(self.unread_most, self.flow.unread)
        if request.sequence in self.lost:
            self.lost.remove(request.sequence)
            raise Unavailable("no answer")
        return reply


def a_session(shell: Shell, **wire: Any) -> tuple[Session, Wire]:
    made = Wire(Flow(shell, terminal=shell), **wire)
    return Session(made, "subject", "node/1", traceparent=WISH), made  # type: ignore[arg-type]


async def take(session: Session, count: int) -> bytes:
    """So many bytes of output."""
    got = b""
    async with asyncio.timeout(5):
        async for chunk in session:
            got += chunk.data
            if len(got) >= count:
                break
    return got


async def test_what_is_typed_does_not_wait_for_output() -> None:
    session, wire = a_session(Shell())
    reader = asyncio.create_task(take(session, 4))
    await asyncio.sleep(0.02)  # the first pull waits for output now
    session.write(b"ab")
    await asyncio.sleep(0.02)
    session.write(b"cd")
    assert await reader == b"ABCD"
    assert wire.pulls == sorted(wire.pulls)
    await wire.flow.close()


async def test_a_session_outlives_the_restart_of_every_api() -> None:
    session, wire = a_session(Shell(), lost=[1] * 5)
    reader = asyncio.create_task(take(session, 2))
    session.write(b"ab")
    assert await reader == b"AB"
    await wire.flow.close()


async def test_pulls_that_arrive_out_of_order_are_done_in_order() -> None:
    session, wire = a_session(Shell(), late=(2,))
    reader = asyncio.create_task(take(session, 6))
    for word in (b"ab", b"cd", b"ef"):
        await asyncio.sleep(0.01)
        session.write(word)
    assert await reader == b"ABCDEF"
    await wire.flow.close()


async def test_an_answer_that_is_lost_is_given_again() -> None:
    session, wire = a_session(Shell(), lost=(1, 2, 3))
    session.write(b"once")
    session.close_stdin()
    assert await take(session, 99) == b"ONCE"
    assert session.exit_code == 7
    await wire.flow.close()


async def test_a_resize_goes_out_at_once() -> None:
    shell = Shell()
    session, wire = a_session(shell)
    reader = asyncio.create_task(take(session, 99))
    await asyncio.sleep(0.02)
    session.resize(120, 40)
    session.close_stdin()
    await reader
    assert shell.sizes == [(120, 40)]
    await wire.flow.close()


async def test_a_reader_that_rests_keeps_its_session() -> None:
    shell = Shell()
    session, wire = a_session(shell)
    shell.said.put_nowait((1, b"one"))
    async with asyncio.timeout(5):
        async for chunk in session:
            if chunk.data == b"two":
                break
            shell.said.put_nowait((1, b"two"))
            await session.keep()
    assert wire.pulls == [1, 2, 3]
    await wire.flow.close()


async def test_a_number_that_never_follows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "ORDER_S", 0.05)
    flow = Flow(Shell())
    with pytest.raises(BadRequest, match="pull 3 does not follow pull 0"):
        await flow.pull(SessionRequest(session="s", sequence=3))
    await flow.close()


class Counter(Shell):
    """Like `wc -c`: first writes `before` bytes, then reads all, and says how much at the end. Keeps what waits at most."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.before = before
        self.reads = asyncio.Event()
        self.counted = 0
        if not before:
            self.reads.set()

    async def read(self) -> tuple[int, bytes] | None:
        if self.before:
            piece = min(self.before, 65_536)
            self.before -= piece
            return 1, bytes(piece)
        self.reads.set()
        return await super().read()

    async def write(self, data: bytes) -> None:
        await self.reads.wait()
        for _ in range(50):  # slower than it is sent
            await asyncio.sleep(0)
        self.counted += len(data)

    async def write_eof(self) -> None:
        self.said.put_nowait((1, str(self.counted).encode()))
        await super().write_eof()


@pytest.mark.parametrize("before", [0, 28_000_000], ids=["a mute one", "one that writes before it reads"])
async def test_a_flood_of_input_goes_as_the_process_reads(before: int) -> None:
    """Neither refused nor piled up at the node, and no answer waits for output that only comes at the end."""
    shell = Counter(before)
    session, wire = a_session(shell)
    session.write(bytes(28_000_000))
    session.close_stdin()
    got = 0
    last = b""
    async with asyncio.timeout(8):  # a pull that waits in vain is answered after 9 s
        async for chunk in session:
            got += len(chunk.data)
            last = chunk.data
    assert last.endswith(b"28000000")
    assert got == before + len("28000000")
    assert 0 < wire.unread_most <= STDIN_WINDOW
    await wire.flow.close()


async def test_a_sender_that_heeds_no_window_is_refused() -> None:
    shell = Counter(1)
    flow = Flow(shell, terminal=shell)
    reply = await flow.pull(SessionRequest(session="s", sequence=1, stdin=bytes(STDIN_WINDOW + 1)))
    assert reply.error is not None
    assert reply.error.reason == "TooManyRequests"
    await flow.close()
