"""logs, exec, attach: which container, what is asked, how bytes and exit codes pass."""

import asyncio
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.fake import FakeCluster, FakeSession, a_pod, a_replica_set

from shoal import wire
from shoal.cli import terminal
from shoal.cli.context import Context
from shoal.cli.failure import Failed
from shoal.cli.loading import load
from shoal.cli.terminal import Output, feed
from shoal.cli.verbs.logs import Lines
from shoal.errors import BadRequest, NotFound, ShoalError
from shoal.wire import ExecRequest, LogsRequest


class Screen:
    """Files for stdout, stderr and stdin, as bytes go to their descriptors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "in").touch()
        self._files = ExitStack()
        self.out: Any = self._files.enter_context((folder / "out").open("w"))
        self.err: Any = self._files.enter_context((folder / "err").open("w"))
        self.stdin: Any = self._files.enter_context((folder / "in").open())

    def close(self) -> None:
        self._files.close()

    def wrote(self) -> bytes:
        return (self.folder / "out").read_bytes()

    def said(self) -> str:
        return (self.folder / "err").read_text()

    def give(self, data: bytes) -> None:
        (self.folder / "in").write_bytes(data)

    async def run(self, cluster: FakeCluster, *words: str) -> int:
        module_name = {"exec": "execute"}.get(words[0], words[0])
        parser, module = load(words[0], module_name)
        context = Context({}, cluster=cluster, out=self.out, err=self.err, stdin=self.stdin)
        code: int = await module.run(context, parser.parse(words[1:]))
        return code


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    made = Screen(tmp_path)
    yield made
    made.close()


TWO = {
    "containers": [{"name": "main", "image": "x"}, {"name": "side", "image": "x"}],
    "initContainers": [{"name": "init", "image": "x"}],
}


# --- logs ---------------------------------------------------------------------------------------------------------------


async def test_a_log_passes_as_it_is(screen: Screen) -> None:
    cluster = FakeCluster(a_pod())
    cluster.sessions["web/main"] = FakeSession((1, b"one\ntw"), (2, b"err\xff\n"), (1, b"o"))
    assert await screen.run(cluster, "logs", "web") == 0
    assert screen.wrote() == b"one\ntwerr\xff\no"
    assert cluster.requests("logs") == [LogsRequest(name="web", container="main")]


async def test_log_flags(screen: Screen) -> None:
    cluster = FakeCluster(a_pod(spec=TWO))
    cluster.sessions["web/side"] = FakeSession()
    await screen.run(
        cluster,
        "logs",
        "pod/web",
        "-c",
        "side",
        "-f",
        "-p",
        "--tail=5",
        "--since=2m",
        "--timestamps",
        "--limit-bytes=9",
    )
    assert cluster.requests("logs") == [
        LogsRequest(
            name="web", container="side", follow=True, previous=True, tail_lines=5, since_seconds=120,
            timestamps=True, limit_bytes=9,
        )
    ]  # fmt: skip


async def test_the_first_container_is_taken_and_said(screen: Screen) -> None:
    cluster = FakeCluster(a_pod(spec=TWO))
    cluster.sessions["web/main"] = FakeSession()
    with pytest.raises(BadRequest, match="has no container nope: it has main, side, init"):
        await screen.run(cluster, "logs", "web", "nope")
    parser, module = load("logs", "logs")
    assert screen.said() == ""
    assert module._containers(Context({}, err=screen.err), parser.parse(["web"]), _pod(a_pod(spec=TWO))) == ["main"]
    assert screen.said() == 'Defaulted container "main" out of: main, side, init (init)\n'


def _pod(obj: dict[str, Any]) -> Any:
    import msgspec

    from shoal.model.pod import Pod

    return msgspec.convert(obj, Pod)


async def test_logs_by_label_have_whole_lines_and_prefixes_if_asked(screen: Screen) -> None:
    cluster = FakeCluster(a_pod("a"), a_pod("b"), a_pod("c", labels={}))
    cluster.sessions["a/main"] = FakeSession((1, b"one\ntw"), (1, b"o\n"))
    cluster.sessions["b/main"] = FakeSession((1, b"three"))
    assert await screen.run(cluster, "logs", "-l", "app=web", "--prefix") == 0
    assert screen.wrote() == b"[pod/a/main] one\n[pod/a/main] two\n[pod/b/main] three\n"
    assert [r.tail_lines for r in cluster.requests("logs")] == [10, 10]


async def test_all_containers(screen: Screen) -> None:
    cluster = FakeCluster(a_pod(spec=TWO))
    for name in ("init", "main", "side"):
        cluster.sessions[f"web/{name}"] = FakeSession((1, name.encode() + b"\n"))
    await screen.run(cluster, "logs", "web", "--all-containers", "-f")
    assert sorted(screen.wrote().split()) == [b"init", b"main", b"side"]


async def test_one_that_cannot_be_read_does_not_stop_the_others(screen: Screen) -> None:
    class Partly(FakeCluster):
        async def logs(self, namespace: str, request: wire.LogsRequest, *, traceparent: str = "") -> FakeSession:
            if request.name == "a":
                raise BadRequest("container is waiting to start")
            return await super().logs(namespace, request)

    cluster = Partly(a_pod("a"), a_pod("b"))
    cluster.sessions["b/main"] = FakeSession((1, b"there\n"))
    with pytest.raises(Failed):
        await screen.run(cluster, "logs", "-l", "app=web")
    assert screen.wrote() == b"there\n"
    assert screen.said() == "error: pod/a, container main: container is waiting to start\n"
    assert await screen.run(cluster, "logs", "-l", "app=web", "--ignore-errors") == 0


async def test_every_followed_session_is_kept_while_the_reader_rests(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "STALL_S", 0.02)
    cluster = FakeCluster(a_pod("a"), a_pod("b"))
    line = b"x" * 200_000 + b"\n"
    sessions = [FakeSession((1, line)), FakeSession((1, line))]
    cluster.sessions = dict(zip(("a/main", "b/main"), sessions, strict=True))
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as screen.out:
        task = asyncio.create_task(screen.run(cluster, "logs", "-f", "-l", "app=web", "--prefix"))
        async with asyncio.timeout(5):
            while not all(session.kept > 1 for session in sessions):
                await asyncio.sleep(0.01)
        size = 2 * len(b"[pod/a/main] " + line)
        got = b""
        while len(got) < size:
            got += await asyncio.to_thread(os.read, reading, 65536)
        assert await asyncio.wait_for(task, 5) == 0
    os.close(reading)
    assert sorted(got.splitlines(keepends=True)) == [b"[pod/a/main] " + line, b"[pod/b/main] " + line]


async def test_logs_of_a_replica_set(screen: Screen) -> None:
    pods = [a_pod("web-a", owner="uid-rs-web", phase="Pending"), a_pod("web-b", owner="uid-rs-web")]
    cluster = FakeCluster(a_replica_set(), *pods, a_pod("other"))
    cluster.sessions = {f"web-{x}/main": FakeSession((1, x.encode() + b"\n")) for x in "ab"}
    await screen.run(cluster, "logs", "rs/web")
    assert (screen.wrote(), screen.said()) == (b"b\n", "Found 2 pods, using pod/web-b\n")
    await screen.run(cluster, "logs", "rs/web", "--all-pods")
    assert screen.wrote().endswith(b"[pod/web-b/main] b\n[pod/web-a/main] a\n")
    with pytest.raises(NotFound, match="replicaset/web has no pods now"):
        await screen.run(FakeCluster(a_replica_set()), "logs", "rs/web")


def test_lines() -> None:
    lines = Lines(b"> ")
    assert lines.feed(1, b"a\nb") == b"> a\n"
    assert lines.feed(2, b"c\n") == b"> c\n"
    assert lines.feed(1, b"\r\n\n") == b"> b\r\n> \n"
    assert lines.feed(1, b"50%\r100%") == b""
    assert lines.rest() == b"> 50%\r100%\n"
    assert lines.rest() == b""


# --- exec, attach -------------------------------------------------------------------------------------------------------


async def test_exec_passes_output_and_exit_code(screen: Screen) -> None:
    cluster = FakeCluster(a_pod())
    cluster.sessions["web/main"] = FakeSession((1, b"out\n"), (2, b"err\n"), exit_code=3)
    assert await screen.run(cluster, "exec", "web", "--", "sh", "-c", "exit 3") == 3
    assert screen.wrote() == b"out\n"
    assert screen.said() == "err\ncommand terminated with exit code 3\n"
    assert cluster.requests("exec") == [ExecRequest(name="web", container="main", command=["sh", "-c", "exit 3"])]


async def test_exec_feeds_a_file(screen: Screen) -> None:
    given = b"x" * 200_000
    screen.give(given)
    cluster = FakeCluster(a_pod())

    class Waits(FakeSession):
        """Ends when its stdin does."""

        async def __aiter__(self) -> AsyncIterator[wire.Chunk]:
            async with asyncio.timeout(5):
                while not self.closed:
                    await asyncio.sleep(0)
            self.exit_code = 0
            for chunk in self.chunks:
                yield wire.Chunk(stream=chunk[0], data=chunk[1])

    session = cluster.sessions["web/main"] = Waits()
    assert await screen.run(cluster, "exec", "-i", "web", "--", "cat") == 0
    assert session.typed == given


async def test_without_a_terminal_there_is_none_to_give(screen: Screen) -> None:
    cluster = FakeCluster(a_pod())
    cluster.sessions["web/main"] = FakeSession(exit_code=0)
    await screen.run(cluster, "exec", "-it", "web", "--", "sh")
    assert cluster.requests("exec")[0].tty is False
    assert screen.said() == "Unable to use a TTY - input is not a terminal or the right kind of file\n"


@pytest.fixture
def person(screen: Screen) -> Iterator[int]:
    """The screen is a terminal: the person's end of it."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as stream, os.fdopen(os.dup(theirs), "wb", buffering=0) as out:
        terminal_size(ours, 100, 30)
        screen.stdin, screen.out = stream, out
        yield ours
    os.close(ours)


def terminal_size(fd: int, width: int, height: int) -> None:
    termios.tcsetwinsize(fd, (height, width))


def echoes(fd: int) -> bool:
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


class Typed(FakeSession):
    """Says back what is typed, until that is ^D."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen
        self.events: asyncio.Queue[bytes] = asyncio.Queue()
        self.was_raw: list[bool] = []
        self.started = asyncio.Event()

    def write(self, data: bytes) -> None:
        super().write(data)
        self.events.put_nowait(data)

    async def __aiter__(self) -> AsyncIterator[wire.Chunk]:
        self.was_raw.append(not echoes(self.screen.stdin.fileno()))
        self.started.set()
        while (data := await self.events.get()) != b"\x04":
            yield wire.Chunk(stream=1, data=data.upper())
        self.exit_code = 42


async def test_a_terminal_is_raw_while_it_lasts(screen: Screen, person: int) -> None:
    cluster = FakeCluster(a_pod())
    session = Typed(screen)
    cluster.sessions["web/main"] = session
    running = asyncio.create_task(screen.run(cluster, "exec", "-it", "-q", "web", "--", "sh"))
    await asyncio.wait_for(session.started.wait(), 5)
    os.write(person, b"a\x03")  # ^C goes to the other side
    assert await asyncio.to_thread(os.read, person, 2) == b"A\x03"
    terminal_size(person, 90, 20)
    os.kill(os.getpid(), signal.SIGWINCH)
    await asyncio.sleep(0.05)
    os.write(person, b"\x04")
    assert await asyncio.wait_for(running, 5) == 42
    asked = cluster.requests("exec")[0]
    assert (asked.tty, asked.stdin, asked.stderr, asked.width, asked.height) == (True, True, False, 100, 30)
    assert session.was_raw == [True]
    assert session.sizes == [(90, 20)]
    assert echoes(screen.stdin.fileno())


async def test_a_terminal_is_put_right_after_a_failure(screen: Screen, person: int) -> None:
    class Broken(FakeSession):
        async def __aiter__(self) -> AsyncIterator[wire.Chunk]:
            for chunk in (wire.Chunk(stream=1, data=b"x"),):
                yield chunk
            raise ShoalError("the node is gone")

    cluster = FakeCluster(a_pod())
    cluster.sessions["web/main"] = Broken()
    with pytest.raises(ShoalError, match="the node is gone"):
        await screen.run(cluster, "exec", "-it", "web", "--", "sh")
    assert echoes(screen.stdin.fileno())


async def test_a_signal_that_ends_it_leaves_the_terminal_right(screen: Screen, person: int) -> None:
    cluster = FakeCluster(a_pod())
    session = Typed(screen)
    cluster.sessions["web/main"] = session

    async def running() -> int:
        try:
            return await screen.run(cluster, "exec", "-it", "web", "--", "sh")
        except SystemExit as e:  # a task must not raise it: it would end the loop
            return int(e.code or 0)

    task = asyncio.create_task(running())
    await asyncio.wait_for(session.started.wait(), 5)
    assert not echoes(screen.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, 5) == 128 + signal.SIGTERM
    assert echoes(screen.stdin.fileno())


async def test_attach(screen: Screen) -> None:
    cluster = FakeCluster(a_pod())
    cluster.sessions["web/main"] = FakeSession((1, b"hello"), exit_code=0)
    assert await screen.run(cluster, "attach", "web") == 0
    assert screen.wrote() == b"hello"
    assert cluster.requests("attach") == [ExecRequest(name="web", container="main")]


# --- bytes --------------------------------------------------------------------------------------------------------------


async def test_a_slow_reader_holds_up_nothing_and_the_session_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "STALL_S", 0.02)
    reading, writing = os.pipe()
    kept = asyncio.Event()

    async def keep() -> None:
        kept.set()

    data = os.urandom(300_000)
    task = asyncio.create_task(Output(writing, keep).write(data))
    await asyncio.wait_for(kept.wait(), 5)  # the loop is not blocked by the full pipe
    got = b""
    while len(got) < len(data):
        got += await asyncio.to_thread(os.read, reading, 65536)
    await asyncio.wait_for(task, 5)
    assert got == data
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        await Output(writing).write(b"x")
    os.close(writing)


async def test_what_is_fed_waits_for_room() -> None:
    reading, writing = os.pipe()
    session = FakeSession()
    session.backlog = 1 << 20
    os.write(writing, b"one")
    task = asyncio.create_task(feed(reading, session))
    await asyncio.sleep(0.05)
    os.write(writing, b"two")
    await asyncio.sleep(0.05)
    assert session.typed == b"one"
    session.backlog = 0
    os.close(writing)
    await asyncio.wait_for(task, 5)
    assert (session.typed, session.closed) == (b"onetwo", True)
    os.close(reading)
