"""Runs a set of processes: starts them in order, waits until they are ready, restarts what dies, stops them in order.

`python -m shoal.local.supervisor DIRECTORY` is a daemon without programs; they come over its control socket (see
`control.py`). Each program has a task; what it writes goes straight into its own log file, so that the supervisor
copies nothing and its death breaks no pipe. It notes its children in `children.json`, for whoever must clean up after
a supervisor that was killed.
"""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from shoal.local import cgroups, processes
from shoal.local.control import CHILDREN, LINE_BYTES_MAX, LOGS, PIDFILE, SOCKET, log_file
from shoal.local.processes import Identity
from shoal.local.program import Answer, Command, Program, Report, State
from shoal.local.readiness import Readiness
from shoal.local.spawn import Child, Spawner

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
HEALTHY_AFTER_S = 10.0  # ran this long: the next failure counts as the first
LOG_BYTES_MAX = 8 * 1024 * 1024  # twice this a program: the log and the one before
ROTATE_EVERY_S = 30.0
POLL_S = 0.01


def backoff_s(failures: int) -> float:
    """Before the start that follows the `failures`-th consecutive end (1-based): 0.1 s, doubled, 10 s at most."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20)))


class Runner:
    """One program from `add` to `remove`."""

    def __init__(self, program: Program, supervisor: "Supervisor", number: int) -> None:
        self.program = program
        self.state = State.WAITING
        self.changed = asyncio.Event()  # set and replaced at each change of state
        self.restarts = 0
        self.failures = 0
        self.exit: int | None = None
        self.since = time.time()
        self.child: Child | None = None
        self._supervisor = supervisor
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._poke = asyncio.Event()  # ends a backoff
        self._notify_path = supervisor.directory / "n" / str(number)
        self._task: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        return log_file(self._supervisor.directory, self.program.name)

    def report(self) -> Report:
        process = self.child.process if self.child else Identity()
        return Report(
            name=self.program.name,
            state=self.state,
            process=process,
            restarts=self.restarts,
            exit=self.exit,
            since=self.since,
            log=str(self.log),
        )

    def launch(self, tasks: asyncio.TaskGroup) -> None:
        self._task = tasks.create_task(self._run(), name=self.program.name)

    def start(self) -> None:
        self.failures = 0
        self._wanted.set()
        self._poke.set()

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it and keep it down; SIGKILL if it takes longer than it may."""
        self._wanted.clear()
        self._poke.set()
        child = self.child
        if child is None:
            self._set(State.STOPPED)
            return
        child.send(number)
        try:
            async with asyncio.timeout(self.program.stop_seconds):
                await asyncio.shield(child.ended)
        except TimeoutError:
            self._supervisor.say(f"{self.program.name} does not stop: killed")
            child.send(signal.SIGKILL)
            await asyncio.shield(child.ended)
        await self._until(State.STOPPED)

    async def kill(self, *, hold: bool) -> None:
        """SIGKILL; returns when the end is known, so that nobody is shown what was."""
        if hold:
            self._wanted.clear()
        if (child := self.child) is not None:
            child.send(signal.SIGKILL)
            await asyncio.shield(child.ended)
            while self.child is child:
                await self.changed.wait()
        elif hold:
            self._poke.set()

    async def close(self) -> None:
        await self.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _until(self, *states: State) -> None:
        while self.state not in states:
            await self.changed.wait()

    def _set(self, state: State) -> None:
        if self.state is not state:
            self.state, self.since = state, time.time()
            changed, self.changed = self.changed, asyncio.Event()
            changed.set()

    async def _run(self) -> None:
        await self._needs()
        while True:
            if not self._wanted.is_set():
                self._set(State.STOPPED)
                await self._wanted.wait()
                await self._needs()
                continue
            self._set(State.STARTING)
            self._poke.clear()
            began = time.monotonic()
            self.exit = await self._once()
            if not self._wanted.is_set():
                continue
            self.failures = 1 if time.monotonic() - began > HEALTHY_AFTER_S else self.failures + 1
            self._supervisor.say(f"{self.program.name} ended ({self.exit}), failure {self.failures} in a row")
            if not self.program.restart:
                self._wanted.clear()
                continue
            self.restarts += 1
            self._set(State.BACKOFF)
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff_s(self.failures)):
                    await self._poke.wait()

    async def _needs(self) -> None:
        """Wait until what it needs is ready, unless that was taken away."""
        self._set(State.WAITING)
        for name in self.program.needs:
            while (other := self._supervisor.runners.get(name)) is not None and other.state is not State.READY:
                await other.changed.wait()

    async def _once(self) -> int:
        """One life: prepared, started, ready, ended."""
        if self.program.kill_cgroup:
            await asyncio.to_thread(cgroups.kill, Path(self.program.kill_cgroup))
        if self.program.prepare:
            await self._supervisor.spawner.start(self.program.prepare, self.program.env, self.log).ended
        if not self._wanted.is_set():  # it was stopped meanwhile
            return 0
        with Readiness(self.program.ready, self._notify_path) as readiness:
            env = self.program.env | readiness.env
            try:
                self.child = self._supervisor.spawner.start(_argv(self.program), env, self.log)
            except OSError as error:
                self._supervisor.say(f"{self.program.name} cannot be started: {error}")
                return 127
            self._supervisor.note_children()
            ready = asyncio.create_task(self._ready(readiness), name=f"{self.program.name} ready")
            try:
                return await asyncio.shield(self.child.ended)
            finally:
                ready.cancel()
                await asyncio.wait([ready])
                if self.child.ended.done():
                    self.child = None

    async def _ready(self, readiness: Readiness) -> None:
        try:
            async with asyncio.timeout(self.program.ready_seconds):
                await readiness.wait()
        except TimeoutError:
            self._supervisor.say(f"{self.program.name} is not ready after {self.program.ready_seconds:.0f} s")
            await readiness.wait()
        self._set(State.READY)


def _argv(program: Program) -> list[str]:
    """The shell enters the cgroup, then becomes the program."""
    if not program.cgroup:
        return program.argv
    return ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"', program.cgroup, *program.argv]


class Supervisor:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runners: dict[str, Runner] = {}
        self.spawner = Spawner()
        self._numbers = iter(range(1, sys.maxsize))
        self._end = asyncio.Event()

    def say(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", flush=True)

    async def serve(self) -> None:
        """Until SIGTERM, SIGINT or `shutdown`; then everything is stopped, in order."""
        for name in ("n", LOGS):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        self.spawner.install()
        path = self.directory / SOCKET
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve_one, path, limit=LINE_BYTES_MAX)
        path.chmod(0o600)
        processes.write_pidfile(self.directory / PIDFILE, os.getpid())
        async with asyncio.TaskGroup() as self._tasks:
            rotate = self._tasks.create_task(self._rotate(), name="rotate logs")
            await self._end.wait()
            await self._stop(list(self.runners))
            for runner in list(self.runners.values()):
                await runner.close()
            rotate.cancel()
        server.close()
        for name in (SOCKET, CHILDREN, PIDFILE):
            (self.directory / name).unlink(missing_ok=True)

    def note_children(self) -> None:
        known = {name: r.child.process for name, r in self.runners.items() if r.child is not None}
        fresh = self.directory / f"{CHILDREN}.new"
        fresh.write_bytes(msgspec.json.encode(known))
        fresh.replace(self.directory / CHILDREN)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            line = await reader.readline()
            if line:
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            command = msgspec.json.decode(line, type=Command)
            await self._do(command)
        except (msgspec.MsgspecError, KeyError, OSError) as error:
            return Answer(error=f"{type(error).__name__}: {error}")
        return Answer(programs=[r.report() for r in self.runners.values()])

    async def _do(self, command: Command) -> None:
        names = command.names or list(self.runners)
        match command.do:
            case "add":
                await self._add(command.programs)
            case "remove":
                await self._stop(names)
                for name in names:
                    await self.runners.pop(name).close()
            case "start":
                for name in names:
                    self.runners[name].start()
            case "stop":
                await self._stop(names)
            case "kill":
                await asyncio.gather(*(self.runners[name].kill(hold=command.hold) for name in names))
            case "wait":
                await self._wait(names, command.seconds)
            case "shutdown":
                self._end.set()
            case _:
                pass

    async def _add(self, programs: list[Program]) -> None:
        known = [p.name for p in programs if p.name in self.runners]
        await self._stop(known)
        for name in known:
            await self.runners.pop(name).close()
        added = [Runner(program, self, next(self._numbers)) for program in programs]
        self.runners |= {r.program.name: r for r in added}
        for runner in added:
            runner.launch(self._tasks)

    async def _stop(self, names: list[str]) -> None:
        """What others need goes last."""
        left = set(names)
        while left:
            needed = {need for name in left for need in self.runners[name].program.needs}
            batch = sorted(left - needed) or sorted(left)
            await asyncio.gather(*(self.runners[name].stop() for name in batch))
            left -= set(batch)

    async def _wait(self, names: list[str], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for name in names:
                    while (runner := self.runners[name]).state is not State.READY:
                        await runner.changed.wait()

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_EVERY_S)
            for log in (self.directory / LOGS).glob("*.log"):
                await asyncio.to_thread(rotate, log)


def rotate(log: Path, limit: int = LOG_BYTES_MAX) -> None:
    """Copy, then cut: the process that appends to it keeps its file. A line between the two may be lost."""
    with suppress(OSError):
        if log.stat().st_size > limit:
            with log.open("rb") as source, log.with_suffix(".log.1").open("wb") as target:
                source.seek(-limit, os.SEEK_END)
                target.write(source.read())
            os.truncate(log, 0)


def main() -> None:
    import uvloop

    uvloop.run(Supervisor(Path(sys.argv[1])).serve())


if __name__ == "__main__":
    main()
