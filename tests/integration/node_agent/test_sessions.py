"""A session's end on a real engine: nothing of what it began is left in the container, wherever that has gone."""

import asyncio
import json

import msgspec
import pytest
from tests.integration.node_agent.conftest import until
from tests.integration.node_agent.host import EngineHost
from tests.integration.node_agent.test_engine import make

from shoal.bus.rpc import Request
from shoal.node_agent import exec_processes, sessions
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.sessions import Sessions
from shoal.wire import ExecRequest, NodeSessionRequest, SessionOpened, SessionReply, SessionRequest

pytestmark = pytest.mark.e2e

FLED = "setsid sh -c 'while :; do sleep 71; done' &"
ORPHANED = "setsid sh -c 'setsid sleep 72 &' &"
FORGETFUL = "env -i setsid sleep 73 &"
DETACHED = "setsid sleep 74 </dev/null >/dev/null 2>&1 &"


async def opened(made: Sessions, container: str, *command: str) -> str:
    asked = NodeSessionRequest(
        user="u", namespace="default", pod="web-1", uid="u1", container="web",
        exec=ExecRequest(name="web-1", command=list(command), stdin=True),
    )  # fmt: skip
    reply = await made.handle(Request("exec", msgspec.json.encode(asked), ("node", "n1", "exec")))
    assert isinstance(reply, SessionOpened)
    return reply.session


async def pull(made: Sessions, session: str, sequence: int, **how: object) -> SessionReply:
    asked = SessionRequest(session=session, user="u", sequence=sequence, **how)  # type: ignore[arg-type]
    reply = await made.handle(Request("session", msgspec.json.encode(asked), ("node", "n1", "session")))
    assert isinstance(reply, SessionReply)
    return reply


def processes(host: EngineHost, container: str) -> set[str]:
    titles = json.loads(host.engine("GET", f"/containers/{container}/top?ps_args=-o%20pid,args"))["Processes"]
    return {line[-1] for line in titles}


async def all_began(host: EngineHost, container: str) -> None:
    """What was sent into the background may begin after its parent has spoken."""

    async def began() -> bool:
        return {"sleep 71", "sleep 72", "sleep 74"} <= processes(host, container)

    await until(began, within=20)


@pytest.mark.parametrize(
    "script",
    [f"{FORGETFUL} echo begun; exec sleep 75", "echo begun; exec setsid sleep 75", "echo begun; exit 0"],
    ids=["the first process runs", "it has fled", "it has ended"],
)
async def test_nothing_of_an_exec_outlives_its_session(
    engine: Engine, host: EngineHost, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(sessions, "IDLE_S", 0.5)  # its asker was killed: nobody pulls any more
    container = await make(engine, "sleep", "1000")
    await engine.start(container)
    before = processes(host, container)
    made = Sessions("n1", engine, lambda uid, name: (fact,))
    fact = await engine.inspect(container)
    sweeping = asyncio.create_task(made.sweep())
    try:
        session = await opened(made, container, "sh", "-c", f"{FLED} {ORPHANED} {DETACHED} {script}")
        reply = await pull(made, session, 1)
        assert b"".join(c.data for c in reply.chunks) == b"begun\n"
        await all_began(host, container)

        async def only_its_own() -> bool:
            return processes(host, container) == before

        try:
            await until(only_its_own, within=20)
        except TimeoutError:
            raise AssertionError(f"left: {processes(host, container) - before}") from None
    finally:
        sweeping.cancel()
        await made.close()


async def test_another_exec_in_the_same_container_goes_on(engine: Engine, host: EngineHost) -> None:
    container = await make(engine, "sleep", "1000")
    await engine.start(container)
    made = Sessions("n1", engine, lambda uid, name: (fact,))
    fact = await engine.inspect(container)
    kept = await opened(made, container, "cat")
    ended = await opened(made, container, "sh", "-c", "echo begun; exec sleep 76")
    await pull(made, ended, 1)
    await pull(made, ended, 2, end=True)
    assert "sleep 76" not in processes(host, container)
    reply = await pull(made, kept, 1, stdin=b"here")
    assert b"".join(c.data for c in reply.chunks) == b"here"
    last = await pull(made, kept, 2, eof=True)
    while not last.done:
        last = await pull(made, kept, last.sequence + 1)
    assert last.exit_code == 0
    await made.close()


async def test_an_agent_that_does_not_see_the_containers_processes_ends_them_too(
    engine: Engine, host: EngineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without root, or with its engine elsewhere."""
    monkeypatch.setattr(exec_processes, "end_marked", lambda _: 0)
    container = await make(engine, "sleep", "1000")
    await engine.start(container)
    before = processes(host, container)
    made = Sessions("n1", engine, lambda uid, name: (fact,))
    fact = await engine.inspect(container)
    try:
        session = await opened(made, container, "sh", "-c", f"{FLED} {ORPHANED} {DETACHED} echo begun; exec sleep 75")
        await pull(made, session, 1)
        await all_began(host, container)
        await pull(made, session, 2, end=True)
        assert processes(host, container) == before
    finally:
        await made.close()
