"""Logs, exec and attach through the api, to a node that is nothing but its answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.api.conftest import StartApi
from tests.integration.api.manifests import apply, pod
from tests.integration.api.test_nodes import FakeNode, a_bound_pod

from shoal import wire
from shoal.api import sessions
from shoal.bus import rpc
from shoal.bus.connection import Bus
from shoal.client import Client
from shoal.errors import BadRequest, NotFound, Status, Unavailable
from shoal.names import token
from shoal.store.store import Store


class Echo:
    """A shell that says back what it is told, ends at the end of its input, and remembers who asked."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.opened: list[wire.NodeSessionRequest] = []
        self.pulls: list[wire.SessionRequest] = []
        self.ended = asyncio.Event()
        self._turn = asyncio.Event()
        self._own = b""

    async def open(self, request: rpc.Request) -> wire.SessionOpened:
        self.opened.append(rpc.decode(request, wire.NodeSessionRequest))
        return wire.SessionOpened(session=f"{token(self.node)}/s1")

    async def session(self, request: rpc.Request) -> wire.SessionReply:
        asked: wire.SessionRequest = rpc.decode(request, wire.SessionRequest)
        self.pulls.append(asked)
        before, self._turn = self._turn, asyncio.Event()
        before.set()
        if asked.end:
            self.ended.set()
            return wire.SessionReply(sequence=asked.sequence, done=True)
        if asked.eof:
            return wire.SessionReply(sequence=asked.sequence, done=True, exit_code=3)
        if asked.resize:
            return self._says(asked, 2, b"%dx%d" % asked.resize)
        if asked.stdin:
            return self._says(asked, 1, asked.stdin)
        await self._turn.wait()
        return self._says(asked, 1, self._own) if self._own else wire.SessionReply(sequence=asked.sequence)

    def says(self, data: bytes) -> None:
        """By itself, to the pull that waits."""
        self._own = data
        self._turn.set()

    def _says(self, asked: wire.SessionRequest, stream: int, data: bytes) -> wire.SessionReply:
        return wire.SessionReply(sequence=asked.sequence, chunks=[wire.Chunk(stream=stream, data=data)])


@pytest_asyncio.fixture
async def echo(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> AsyncIterator[Echo]:
    """Node n.1 with the pod web."""
    node = Echo("n.1")
    await FakeNode(bus, "n.1").register()
    await a_bound_pod(client, store, "web", "n.1")
    served = [await rpc.serve(bus, bus.names.node("n.1", verb), node.open) for verb in ("logs", "exec", "attach")]
    served.append(await rpc.serve(bus, bus.names.node("n.1", "session"), node.session))
    yield node
    for subscription in served:
        await subscription.stop()


async def test_what_is_typed_comes_back_at_once(client: Client, echo: Echo) -> None:
    session = await client.exec("", wire.ExecRequest(name="web", command=["sh"], stdin=True, tty=True))
    (opened,) = echo.opened
    assert (opened.user, opened.namespace, opened.pod, opened.container) == ("admin", "default", "web", "c")
    assert opened.exec is not None
    assert opened.exec.command == ["sh"]
    said: list[tuple[int, bytes]] = []
    async with asyncio.timeout(5), session:
        session.write(b"one")
        async for chunk in session:
            said.append((chunk.stream, chunk.data))
            if len(said) == 1:
                await asyncio.sleep(0.05)  # the next pull waits by now
                session.resize(100, 30)
            if len(said) == 2:
                await asyncio.sleep(0.05)
                session.write(b"two")
            if len(said) == 3:
                session.close_stdin()
    assert said == [(1, b"one"), (2, b"100x30"), (1, b"two")]
    assert session.exit_code == 3
    assert [p.sequence for p in echo.pulls] == list(range(1, len(echo.pulls) + 1))
    assert {p.user for p in echo.pulls} == {"admin"}


async def test_who_leaves_ends_the_session(client: Client, echo: Echo) -> None:
    async with await client.logs("", wire.LogsRequest(name="web", follow=True)):
        pass
    await asyncio.wait_for(echo.ended.wait(), 5)


async def test_an_api_that_stops_waits_for_no_pull_and_nothing_is_lost(
    client: Client, echo: Echo, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    """The node is asked again for the same pull, by another api."""
    stays = await client.logs("", wire.LogsRequest(name="web", follow=True))

    async def first_chunk() -> wire.Chunk:
        return await anext(aiter(stays))

    first = asyncio.create_task(first_chunk())
    async with asyncio.timeout(5):
        while not echo.pulls:
            await asyncio.sleep(0.001)
        await start_api()
        api.cancel()
        await asyncio.gather(api, return_exceptions=True)  # the pull waits at the node for ever
        while len(echo.pulls) < 2:
            await asyncio.sleep(0.001)
        assert [p.sequence for p in echo.pulls] == [1, 1]
        echo.says(b"line")
        chunk = await first
    assert chunk.data == b"line"


async def test_the_user_is_the_subjects_not_the_bodys(bus: Bus, client: Client, echo: Echo) -> None:
    await client.attach("", wire.ExecRequest(name="web"))
    lie = wire.SessionRequest(session="n=2E1/s1", user="alice", sequence=1, end=True)
    await bus.request(bus.names.api("bob", "session", "pods", "default"), lie, wire.SessionReply)
    assert echo.pulls[-1].user == "bob"


@pytest.mark.parametrize("session", ["", "n1", "/x", "*/x", "a.b/x", ">/x"])
async def test_what_is_no_session_goes_nowhere(bus: Bus, api: "asyncio.Task[None]", session: str) -> None:
    with pytest.raises(BadRequest):
        await bus.request(
            bus.names.api("admin", "session", "pods", ""),
            wire.SessionRequest(session=session, sequence=1),
            wire.SessionReply,
        )


async def test_which_container_is_said_or_asked(client: Client, store: Store, echo: Echo, bus: Bus) -> None:
    two = pod("two").replace("  containers:\n", '  containers:\n  - {name: d, image: "shoal/busybox:1"}\n')
    await apply(client, two)
    with pytest.raises(BadRequest, match=r"a container name must be specified for pod two, choose one of: \[d c\]"):
        await client.logs("", wire.LogsRequest(name="two"))
    with pytest.raises(BadRequest, match="container x is not valid for pod two"):
        await client.logs("", wire.LogsRequest(name="two", container="x"))
    with pytest.raises(BadRequest, match="does not have a host assigned"):
        await client.logs("", wire.LogsRequest(name="two", container="d"))
    with pytest.raises(NotFound):
        await client.logs("", wire.LogsRequest(name="none"))


async def test_a_node_that_does_not_answer_is_named(
    client: Client, store: Store, bus: Bus, api: "asyncio.Task[None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    await FakeNode(bus, "dead").register()
    await a_bound_pod(client, store, "web", "dead")
    with pytest.raises(Unavailable, match="node dead does not answer"):
        await client.logs("", wire.LogsRequest(name="web"))
    monkeypatch.setattr(sessions, "OPEN_TIMEOUT_S", 0.2)

    async def silence(_: object) -> None:
        return

    frozen = await bus.subscribe(bus.names.node("dead", "exec"), silence)
    with pytest.raises(Unavailable, match="node dead does not answer"):
        await client.exec("", wire.ExecRequest(name="web", command=["x"]))
    await frozen.stop()


async def test_a_nodes_own_refusal_comes_through(
    client: Client, store: Store, bus: Bus, api: "asyncio.Task[None]"
) -> None:
    await FakeNode(bus, "n1").register()
    await a_bound_pod(client, store, "web", "n1")

    async def refuse(_: rpc.Request) -> wire.SessionOpened:
        raise BadRequest("container c is waiting to start: ImagePullBackOff")

    served = await rpc.serve(bus, bus.names.node("n1", "logs"), refuse)
    with pytest.raises(BadRequest, match="waiting to start"):
        await client.logs("", wire.LogsRequest(name="web"))
    await served.stop()


async def test_an_error_ends_a_session_as_itself(
    client: Client, store: Store, bus: Bus, api: "asyncio.Task[None]"
) -> None:
    await FakeNode(bus, "n1").register()
    await a_bound_pod(client, store, "web", "n1")

    async def opens(_: rpc.Request) -> wire.SessionOpened:
        return wire.SessionOpened(session="n1/s")

    async def fails(request: rpc.Request) -> wire.SessionReply:
        error = Status(message="the container is gone", reason="NotFound", code=404)
        return wire.SessionReply(sequence=1, chunks=[wire.Chunk(stream=1, data=b"last")], done=True, error=error)

    served = [
        await rpc.serve(bus, bus.names.node("n1", "logs"), opens),
        await rpc.serve(bus, bus.names.node("n1", "session"), fails),
    ]
    said: list[bytes] = []

    async def read() -> None:
        async for chunk in await client.logs("", wire.LogsRequest(name="web")):
            said.append(chunk.data)  # noqa: PERF401  (what came before the error counts)

    with pytest.raises(NotFound, match="the container is gone"):
        await read()
    assert said == [b"last"]
    for subscription in served:
        await subscription.stop()
