"""A session's flow: credit, repeats, input, the end."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node_agent.simulated import Pieces

from shoal.errors import BadRequest, Unavailable
from shoal.node_agent.flow import STDIN_ROOM, Flow
from shoal.wire import SessionReply, SessionRequest


class Process(Pieces):
    """Echoes what it reads; `blocked` keeps it from reading. Ends when its input ends."""

    def __init__(self) -> None:
        super().__init__([])
        self.input: list[bytes] = []
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.said: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []

    async def read(self) -> tuple[int, bytes] | None:
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        await self.blocked.wait()
        self.input.append(data)
        self.said.put_nowait((1, data))

    async def write_eof(self) -> None:
        self.said.put_nowait(None)

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    async def exit_code(self) -> int | None:
        return 7


def ask(sequence: int, **how: object) -> SessionRequest:
    return SessionRequest(session="s", sequence=sequence, **how)  # type: ignore[arg-type]


def data(*replies: SessionReply) -> bytes:
    return b"".join(c.data for r in replies for c in r.chunks)


async def drain(flow: Flow, credit: int) -> list[SessionReply]:
    replies = []
    for sequence in range(1, 10_000):
        replies.append(await flow.pull(ask(sequence, credit_bytes=credit)))
        if replies[-1].done:
            return replies
    raise AssertionError("it never ends")


@given(
    st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(min_size=1, max_size=50)), max_size=20), st.integers(1, 60)
)
def test_all_arrives_in_order_and_never_more_than_was_asked_for(pieces: list[tuple[int, bytes]], credit: int) -> None:
    replies = asyncio.run(drain(Flow(Pieces(list(pieces))), credit))
    assert data(*replies) == b"".join(d for _, d in pieces)
    assert all(sum(len(c.data) for c in r.chunks) <= credit for r in replies)
    said = [(c.stream, bytes((b,))) for r in replies for c in r.chunks for b in c.data]
    assert said == [(s, bytes((b,))) for s, d in pieces for b in d], "each byte under its own stream"


async def test_between_pulls_at_most_one_piece_is_read_ahead() -> None:
    """A reader that stops reading stops the flow."""
    source = Pieces([(1, b"x" * 1000)] * 1000)
    flow = Flow(source)
    await flow.pull(ask(1, credit_bytes=2500))
    for _ in range(100):
        await asyncio.sleep(0)
    assert source.read_bytes <= 4000


async def test_the_same_pull_again_gets_the_same_answer() -> None:
    source = Pieces([(1, b"one"), (1, b"two")])
    flow = Flow(source)
    first = await flow.pull(ask(1, credit_bytes=3))
    assert await flow.pull(ask(1, credit_bytes=3)) == first
    assert data(await flow.pull(ask(2, credit_bytes=3))) == b"two"


async def test_a_pull_that_is_repeated_while_it_waits_is_one_pull() -> None:
    process = Process()
    flow = Flow(process, terminal=process)
    asked = [asyncio.create_task(flow.pull(ask(1, stdin=b"hello"))) for _ in range(2)]
    replies = await asyncio.gather(*asked)
    assert replies[0] == replies[1]
    assert process.input == [b"hello"], "typed once"
    await flow.close()


async def test_a_pull_that_nothing_comes_before_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.node_agent.flow.ORDER_S", 0.01)
    flow = Flow(Pieces([(1, b"x")]))
    with pytest.raises(BadRequest, match="pull 3 does not follow pull 0"):
        await flow.pull(ask(3))


async def test_pulls_that_overtook_each_other_are_put_in_order() -> None:
    """Several apis relay them."""
    flow = Flow(Pieces([(1, b"one"), (1, b"two")]))
    second = asyncio.create_task(flow.pull(ask(2, credit_bytes=3)))
    await asyncio.sleep(0)
    first = await flow.pull(ask(1, credit_bytes=3))
    assert (data(first), data(await second)) == (b"one", b"two")


async def test_a_pull_that_waits_for_output_makes_way_for_the_next() -> None:
    """What is typed must not wait until the process says something."""
    process = Process()
    flow = Flow(process, terminal=process)
    waiting = asyncio.create_task(flow.pull(ask(1)))
    await until(lambda: flow._reading is not None)
    typed = await asyncio.wait_for(flow.pull(ask(2, stdin=b"x")), 5)
    assert data(await waiting) == b""
    assert data(typed) == b"x"
    await flow.close()


async def test_an_old_pull_is_not_answered_again() -> None:
    flow = Flow(Pieces([(1, b"one"), (1, b"two")]))
    await flow.pull(ask(1, credit_bytes=3))
    await flow.pull(ask(2, credit_bytes=3))
    with pytest.raises(BadRequest, match="pull 1 does not follow pull 2"):
        await flow.pull(ask(1))


async def test_a_limit_ends_it() -> None:
    replies = await drain(Flow(Pieces([(1, b"0123456789")]), limit=4), 3)
    assert data(*replies) == b"0123"


async def test_input_output_and_exit_code() -> None:
    process = Process()
    flow = Flow(process, terminal=process)
    first = await flow.pull(ask(1, stdin=b"a", resize=(100, 40)))
    second = await flow.pull(ask(2, stdin=b"b"))
    last = await flow.pull(ask(3, eof=True))
    assert data(first, second, last) == b"ab"
    assert (last.done, last.exit_code) == (True, 7)
    assert process.sizes == [(100, 40)]


async def test_output_flows_though_input_is_stuck() -> None:
    """A process that writes before it reads would otherwise wait for its reader, who waits for it."""
    process = Process()
    process.blocked.clear()
    process.said.put_nowait((1, b"first I talk"))
    flow = Flow(process, terminal=process)
    reply = await asyncio.wait_for(flow.pull(ask(1, stdin=b"x" * 100_000)), 5)
    assert data(reply) == b"first I talk"
    await flow.close()


async def test_output_flows_though_more_than_a_message_of_input_is_stuck() -> None:
    """A process that writes all before it reads waits for its reader, who must not wait for it."""
    process = Process()
    process.blocked.clear()
    for _ in range(4):
        process.said.put_nowait((1, b"y" * 1000))
    flow = Flow(process, terminal=process)
    first = await asyncio.wait_for(flow.pull(ask(1, stdin=b"x" * (STDIN_ROOM + 1), credit_bytes=3000)), 5)
    assert len(data(first)) == 3000, "not before the input, and as far as the credit goes"
    second = asyncio.create_task(flow.pull(ask(2, stdin=b"z")))
    third = asyncio.create_task(flow.pull(ask(3, stdin=b"z")))
    await until(flow._hurry.is_set)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done(), "whoever brings input waits for room"
    process.blocked.set()
    assert data(await asyncio.wait_for(second, 5)).startswith(b"y" * 1000)
    await asyncio.wait_for(third, 5)
    await flow.close()


async def test_a_process_that_ends_before_it_has_read_makes_room() -> None:
    class Ended(Process):
        async def write(self, data: bytes) -> None:
            await self.blocked.wait()
            raise Unavailable("broken pipe")

    process = Ended()
    process.blocked.clear()
    flow = Flow(process, terminal=process)
    first = asyncio.create_task(flow.pull(ask(1, stdin=b"x" * (STDIN_ROOM + 1))))
    await until(lambda: flow._reading is not None)
    process.blocked.set()
    assert data(await asyncio.wait_for(first, 5)) == b""
    process.said.put_nowait(None)
    last = await asyncio.wait_for(flow.pull(ask(2)), 5)
    assert (last.done, last.exit_code) == (True, 7)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0)


async def test_what_breaks_ends_the_session_with_its_error() -> None:
    class Broken(Pieces):
        async def read(self) -> tuple[int, bytes] | None:
            if self.pieces:
                return self.pieces.pop(0)
            raise Unavailable("the engine went")

    flow = Flow(Broken([(1, b"some")]))
    replies = await drain(flow, 100)
    assert data(*replies) == b"some"
    assert replies[-1].error is not None
    assert replies[-1].error.message == "the engine went"


async def test_closing_ends_what_waits() -> None:
    process = Process()
    flow = Flow(process, terminal=process)
    waiting = asyncio.create_task(flow.pull(ask(1)))
    await until(lambda: flow._reading is not None)
    await flow.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert process.closed
