"""The adapter against a real engine: what it says of containers, its events, images and streams."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.integration.node_agent.host import IMAGE, EngineHost

from shoal.errors import Unavailable
from shoal.node_agent.runtime import pause
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner, labels_of
from shoal.node_agent.runtime.port import (
    CREATED,
    EXITED,
    Changed,
    EngineError,
    EngineEvent,
    EngineNotFound,
    Labels,
    Listed,
    Lost,
    Output,
)

pytestmark = pytest.mark.e2e

LABELS = Labels(uid="u1", namespace="default", pod="web-1", container="web", attempt=2, failures=1, generation=3)


async def make(
    engine: Engine, *command: str, name: str = "shag-web", tty: bool = False, owner: Owner | None = None
) -> str:
    labels = labels_of(LABELS, owner or engine.owner)
    body = {"Image": IMAGE, "Cmd": list(command), "Labels": labels, "Tty": tty, "HostConfig": {"NetworkMode": "none"}}
    return await engine.create(name, body)


async def read_all(output: Output) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    while (piece := await output.read()) is not None:
        found[piece[0]] += piece[1]
    await output.close()
    return found


async def next_of(events: AsyncIterator[EngineEvent], kind: type) -> EngineEvent:
    async with asyncio.timeout(30):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("events ended")


async def test_a_containers_life(engine: Engine) -> None:
    async with aclosing(engine.events()) as events:  # type: ignore[type-var]
        first = await next_of(events, Listed)
        assert first == Listed((), first.asked_at)  # type: ignore[union-attr]
        made = await make(engine, "sh", "-c", "exit 7")
        (fact,) = await engine.owned()
        assert (fact.id, fact.labels, fact.state, fact.image) == (made, LABELS, CREATED, IMAGE)
        await engine.start(made)
        heard = [await next_of(events, Changed) for _ in range(2)]
        assert [(e.what, e.uid, e.exit_code) for e in heard] == [("start", "u1", 0), ("die", "u1", 7)]  # type: ignore[union-attr]
        fact = await engine.inspect(made)
        assert (fact.state, fact.exit_code) == (EXITED, 7)
        assert 0 < fact.started_at <= fact.finished_at
        assert abs(fact.finished_at - heard[1].at) < 1, "the event's time serves as well"  # type: ignore[union-attr]
        await engine.remove(made)
        assert (await next_of(events, Changed)).what == "destroy"  # type: ignore[union-attr]
        await engine.remove(made)
        await engine.stop(made, 0)


async def test_only_what_carries_both_labels_is_ours(engine: Engine, host: EngineHost) -> None:
    others = [Owner("c1", "n2"), Owner("c2", "n1")]
    made = [await make(engine, "true", name=f"shag-other{i}", owner=o) for i, o in enumerate(others)]
    try:
        assert await engine.owned() == ()
    finally:
        for container in made:
            await engine.remove(container)


async def test_a_stop_asks_first_and_kills_then(engine: Engine) -> None:
    polite = await make(engine, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done", name="shag-polite")
    deaf = await make(engine, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", name="shag-deaf")
    for container in (polite, deaf):
        await engine.start(container)
    assert await engine.pid(polite) > 0
    await asyncio.gather(engine.stop(polite, 20), engine.stop(deaf, 1))
    assert (await engine.inspect(polite)).exit_code == 0
    assert (await engine.inspect(deaf)).exit_code == 137
    assert await engine.pid(deaf) == 0


async def test_what_the_engine_refuses(engine: Engine) -> None:
    await make(engine, "true")
    with pytest.raises(EngineError) as taken:
        await make(engine, "true")
    assert taken.value.status == 409
    with pytest.raises(EngineNotFound, match="No such image"):
        await engine.create("shag-x", {"Image": "shoal/none", "HostConfig": {}})
    with pytest.raises(EngineNotFound):
        await engine.start("none")
    nothing = await make(engine, "/nope", name="shag-nope")
    with pytest.raises(EngineError, match="/nope"):
        await engine.start(nothing)
    fact = await engine.inspect(nothing)
    assert fact.state == EXITED
    assert "/nope" in fact.error, "an agent that restarts still knows why"


async def test_out_of_memory_is_told(engine: Engine) -> None:
    async with aclosing(engine.events()) as events:  # type: ignore[type-var]
        await next_of(events, Listed)
        body = {
            "Image": IMAGE,
            "Cmd": ["sh", "-c", "x=x; while :; do x=$x$x; done"],
            "Labels": labels_of(LABELS, engine.owner),
            "HostConfig": {"NetworkMode": "none", "Memory": 16 << 20, "MemorySwap": 16 << 20},
        }
        made = await engine.create("shag-oom", body)
        await engine.start(made)
        said = set[str]()
        while "die" not in said:
            said.add((await next_of(events, Changed)).what)  # type: ignore[union-attr]
        assert "oom" in said
        assert (await engine.inspect(made)).oom_killed


async def test_images(engine: Engine) -> None:
    assert await engine.image("shoal/none") is None
    found = await engine.image(IMAGE)
    assert found is not None
    assert found.id.startswith("sha256:")
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:1"):
        await engine.pull("127.0.0.1:1/none:1", None)
    info = await engine.info()
    reference, archive = pause.image(info.architecture)
    await engine.import_image(
        reference, archive, platform="linux/amd64" if info.architecture == "x86_64" else "linux/arm64"
    )
    assert await engine.image(reference) is not None


async def test_logs_by_stream_tail_time_and_following(engine: Engine) -> None:
    made = await make(engine, "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three")
    await engine.start(made)
    followed = await read_all(await engine.logs(made, {"follow": "1"}))
    assert followed == {1: b"one\nthree\n", 2: b"two\n"}
    assert await read_all(await engine.logs(made, {"follow": "0", "tail": "1"})) == {1: b"three\n", 2: b""}
    stamped = (await read_all(await engine.logs(made, {"follow": "0", "timestamps": "1", "tail": "1"})))[1]
    assert stamped[:2] == b"20"
    assert stamped.endswith(b"Z three\n")


async def test_the_log_of_a_terminal_has_no_frames(engine: Engine) -> None:
    made = await make(engine, "sh", "-c", "echo one", tty=True)
    await engine.start(made)
    assert (await read_all(await engine.logs(made, {"follow": "1"})))[1] == b"one\r\n"


async def test_a_log_that_nobody_reads_stays_in_the_engine(engine: Engine) -> None:
    """64 MiB pass, or rather do not: what is read ahead is bounded."""
    made = await make(engine, "sh", "-c", "yes 0123456789abcdef | head -c 67108864")
    await engine.start(made)
    log = await engine.logs(made, {"follow": "1"})
    first = await log.read()
    assert first is not None
    before = resident_kib()
    await asyncio.sleep(1)  # time in which a careless reader would fill its memory
    assert resident_kib() - before < 4096
    await log.close()


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_exec_with_input_exit_code_and_terminal(engine: Engine) -> None:
    made = await make(engine, "sleep", "1000")
    await engine.start(made)
    cat = await engine.exec(made, ["sh", "-c", "cat; echo done >&2; exit 5"], stdin=True, tty=False)
    await cat.write(b"some ")
    await cat.write(b"input")
    await cat.write_eof()
    assert await read_all(cat) == {1: b"some input", 2: b"done\n"}
    assert await cat.exit_code() == 5
    shell = await engine.exec(made, ["sh"], stdin=True, tty=True)
    await shell.resize(99, 33)
    assert await shell.exit_code() is None
    await shell.write(b"stty size; exit 3\n")
    said = (await read_all(shell))[1]
    assert b"33 99" in said
    assert await shell.exit_code() == 3


async def test_an_engine_that_went_and_came_back(engine: Engine, host: EngineHost) -> None:
    made = await make(engine, "sleep", "1000")
    await engine.start(made)
    async with aclosing(engine.events()) as events:  # type: ignore[type-var]
        await next_of(events, Listed)
        host.stop_engine(signal.SIGKILL)
        assert isinstance(await next_of(events, Lost), Lost)
        with pytest.raises(Unavailable):
            await engine.inspect(made)
        host.start_engine()
        again = await next_of(events, Listed)
        assert isinstance(again, Listed)
        assert [f.state for f in again.facts] == [EXITED], "what vanished meanwhile is seen"


async def test_whether_the_engine_sees_the_agents_files(engine: Engine, host: EngineHost, tmp_path: Path) -> None:
    assert await engine.sees(tmp_path, IMAGE)
    with pytest.raises(EngineNotFound):
        await engine.sees(tmp_path, "shoal/none")
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    host.run("mount", "-t", "tmpfs", "elsewhere", "/dev/shm")  # there, the same path is another file system
    try:
        assert not await engine.sees(elsewhere, IMAGE)
    finally:
        host.run("umount", "/dev/shm")
        elsewhere.rmdir()
    assert host.containers() == {}
