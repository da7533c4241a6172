"""The other end of a supervisor's control socket, and how a supervisor is started as a daemon."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from shoal.errors import Unavailable
from shoal.local import processes
from shoal.local.processes import Identity
from shoal.local.program import Answer, Command, Program, Report, State

SOCKET = "control.sock"
PIDFILE = "supervisor.pid"
CHILDREN = "children.json"
LOGS = "logs"
LINE_BYTES_MAX = 4 * 1024 * 1024


class Control:
    """Talks to the supervisor whose state lies in `directory`. One connection a request; nothing to close."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def process(self) -> Identity | None:
        """The supervisor, if it runs."""
        return processes.read_pidfile(self.directory / PIDFILE)

    def log(self, name: str) -> Path:
        return log_file(self.directory, name)

    async def status(self) -> dict[str, Report]:
        return {r.name: r for r in await self._ask(Command(do="status"))}

    async def add(self, programs: Iterable[Program]) -> None:
        """Add, or replace what has the same names, and start."""
        await self._ask(Command(do="add", programs=list(programs)))

    async def remove(self, names: Iterable[str]) -> None:
        await self._ask(Command(do="remove", names=list(names)))

    async def start(self, names: Iterable[str]) -> None:
        await self._ask(Command(do="start", names=list(names)))

    async def stop(self, names: Iterable[str]) -> None:
        """SIGTERM, in order, and keep down."""
        await self._ask(Command(do="stop", names=list(names)), seconds=120)

    async def kill(self, names: Iterable[str], *, hold: bool = False) -> None:
        """SIGKILL at once. Without `hold` the supervisor starts it again."""
        await self._ask(Command(do="kill", names=list(names), hold=hold))

    async def wait(self, names: Iterable[str] = (), *, seconds: float = 60.0) -> dict[str, Report]:
        """Until these (or all) are ready.

        Raises: Unavailable naming what is not, with the end of its log.
        """
        reports = await self._ask(Command(do="wait", names=list(names), seconds=seconds), seconds=seconds + 10)
        wanted = set(names) or {r.name for r in reports}
        for report in reports:
            if report.name in wanted and report.state is not State.READY:
                raise Unavailable(
                    f"{report.name} is {report.state} after {seconds:.0f} s: {last_words(Path(report.log))}"
                )
        return {r.name: r for r in reports}

    async def shutdown(self) -> None:
        """Stop all, in order, and the supervisor. Returns when it has ended; done already is fine."""
        found = self.process()
        if found is None:
            return
        with suppress(Unavailable):
            await self._ask(Command(do="shutdown"), seconds=120)
        if not await asyncio.to_thread(processes.wait_gone, found, 30.0):
            processes.send(found, 9)
            await asyncio.to_thread(processes.wait_gone, found, 5.0)

    async def _ask(self, command: Command, *, seconds: float = 30.0) -> list[Report]:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(self.directory / SOCKET, limit=LINE_BYTES_MAX)
                try:
                    writer.write(msgspec.json.encode(command) + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the supervisor of {self.directory} does not answer ({error})") from error
        if not line:
            raise Unavailable(f"the supervisor of {self.directory} went away")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise Unavailable(answer.error)
        return answer.programs


def log_file(directory: Path, name: str) -> Path:
    return directory / LOGS / f"{name.replace('/', '-')}.log"


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for an error's sentence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return f"it wrote no log ({log})"
    return " | ".join(text[-lines:]) or f"its log is empty ({log})"


async def launch(directory: Path, *, env: Mapping[str, str] | None = None, argv: Sequence[str] = ()) -> Control:
    """Start a supervisor without programs as a daemon; returns when it answers.

    Raises: Unavailable if it ends, with why.
    """
    (directory / LOGS).mkdir(parents=True, exist_ok=True)
    log = log_file(directory, "supervisor")
    with log.open("ab") as out:
        child = subprocess.Popen(  # noqa: ASYNC220  (a daemon: it outlives this loop)
            argv or [sys.executable, "-m", "shoal.local.supervisor", str(directory)],
            env=dict(os.environ if env is None else env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            start_new_session=True,
        )
    control = Control(directory)
    deadline = time.monotonic() + 20
    while True:
        with suppress(Unavailable):
            await control.status()
            child.returncode = 0  # not ours to wait for
            return control
        if child.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"the supervisor did not start: {last_words(log)}")
        await asyncio.sleep(0.01)


def leftovers(directory: Path) -> dict[str, Identity]:
    """Processes of a supervisor that died without stopping them, by program."""
    try:
        known = msgspec.json.decode((directory / CHILDREN).read_bytes(), type=dict[str, Identity])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {name: process for name, process in known.items() if processes.alive(process)}
