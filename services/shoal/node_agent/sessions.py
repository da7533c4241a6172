"""Logs, exec and attach of this node's pods, as sessions that their asker pulls (`flow.py`).

A session belongs to the user who opened it. 30 s without a pull end it, and whatever was started for it
(`exec_processes.py`).
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import msgspec

from shoal import names
from shoal.bus.rpc import Request, decode
from shoal.errors import BadRequest, NotFound, Overloaded, ShoalError
from shoal.node_agent import exec_processes
from shoal.node_agent.flow import Flow
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, EngineError, Fact, Runtime, Terminal
from shoal.telemetry.logs import log
from shoal.wire import (
    ExecRequest,
    LogsRequest,
    NodeSessionRequest,
    SessionOpened,
    SessionReply,
    SessionRequest,
)

IDLE_S = 30.0
SESSIONS_MAX = 256
RESIZE_TRIES = 20
RESIZE_PAUSE_S = 0.02

Facts = Callable[[str, str], tuple[Fact, ...]]  # (pod uid, container) -> its containers, the newest last
Waits = Callable[[str, str], str]  # (pod uid, container) -> the reason in its status why it has not begun
_WAITS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}  # in the kubelet's words


class _Session:
    """`mark`: of the processes that are the session's own; "": it has none."""

    def __init__(self, user: str, flow: Flow, container: str, mark: str = "") -> None:
        self.user = user
        self.flow = flow
        self.container = container
        self.mark = mark
        self.touched = time.monotonic()


class Sessions:
    """`sweep` ends what nobody pulls any more; run it beside `handle`."""

    def __init__(self, node: str, runtime: Runtime, facts: Facts, waits: Waits = lambda *_: "") -> None:
        self._node = node
        self._runtime = runtime
        self._facts = facts
        self._waits = waits
        self._open: dict[str, _Session] = {}
        self._changed = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    async def handle(self, request: Request) -> msgspec.Struct:
        """A request on shoal.node.<node>.<verb>."""
        match request.verb:
            case "session":
                return await self._pull(decode(request, SessionRequest))
            case "logs" | "exec" | "attach":
                return await self._begin(request.verb, decode(request, NodeSessionRequest))
            case verb:
                raise BadRequest(f"a node does not serve {verb}")

    # --- opening ---------------------------------------------------------------------------------------------------------

    async def _begin(self, verb: str, asked: NodeSessionRequest) -> SessionOpened:
        if len(self._open) >= SESSIONS_MAX:
            raise Overloaded(f"{SESSIONS_MAX} sessions are open on node {self._node}")
        found = self._facts(asked.uid, asked.container)
        try:
            if verb == "logs":
                session = await self._logs(asked, asked.logs or LogsRequest(name=asked.pod), found)
            else:
                session = await self._terminal(verb, asked, asked.exec or ExecRequest(name=asked.pod), found)
        except EngineError as error:
            raise (BadRequest(error.message) if error.status in {400, 404, 409} else error) from error
        name = secrets.token_urlsafe(12)
        self._open[name] = session
        self._changed.set()
        return SessionOpened(session=f"{names.token(self._node)}/{name}")

    async def _logs(self, asked: NodeSessionRequest, logs: LogsRequest, found: tuple[Fact, ...]) -> _Session:
        fact = _logged(asked, found, self._waits(asked.uid, asked.container), previous=logs.previous)
        output = await self._runtime.logs(fact.id, log_query(logs))
        return _Session(asked.user, Flow(output, limit=logs.limit_bytes), fact.id)

    async def _terminal(
        self, verb: str, asked: NodeSessionRequest, wanted: ExecRequest, found: tuple[Fact, ...]
    ) -> _Session:
        if not found or found[-1].state != RUNNING:
            raise BadRequest(f"container {asked.container} of pod {asked.pod} does not run")
        container, mark = found[-1].id, ""
        if verb == "exec":
            mark = exec_processes.new_mark()
            terminal = await self._runtime.exec(
                container, wanted.command, stdin=wanted.stdin, tty=wanted.tty, env={exec_processes.MARK: mark}
            )
        else:
            terminal = await self._runtime.attach(container, stdin=wanted.stdin, tty=wanted.tty)
        if wanted.tty:
            self._spawn(_first_size(terminal, wanted.width, wanted.height))
        return _Session(asked.user, Flow(terminal, terminal=terminal), container, mark)

    # --- pulling and ending ----------------------------------------------------------------------------------------------

    async def _pull(self, request: SessionRequest) -> SessionReply:
        name = request.session.partition("/")[2]
        session = self._open.get(name)
        if session is None or session.user != request.user:
            raise NotFound("there is no such session (any more)")
        session.touched = time.monotonic()
        if request.end:
            self._open.pop(name, None)
            await self._end(session)
            return SessionReply(sequence=request.sequence, done=True)
        try:
            return await session.flow.pull(request)
        finally:
            session.touched = time.monotonic()

    async def sweep(self) -> None:
        """Sleeps while no session is open."""
        while True:
            if not self._open:
                self._changed.clear()
                await self._changed.wait()
            now = time.monotonic()
            oldest = min((s.touched for s in self._open.values()), default=now)
            await asyncio.sleep(max(0.1, oldest + IDLE_S - now))
            limit = time.monotonic() - IDLE_S
            for name, session in list(self._open.items()):
                if session.touched <= limit:
                    del self._open[name]
                    if not session.flow.done:
                        log.info("session.abandoned", user=session.user, container=session.container[:12])
                    await self._end(session)

    async def close(self) -> None:
        """End all of them, their processes included."""
        sessions = list(self._open.values())
        self._open.clear()
        for session in sessions:
            await self._end(session)

    async def _end(self, session: _Session) -> None:
        try:
            if session.mark and not session.flow.done:
                await exec_processes.end(self._runtime, session.container, session.mark)
        finally:
            await session.flow.close()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _first_size(terminal: Terminal, width: int, height: int) -> None:
    """The process may not run yet when its stream opens."""
    for _ in range(RESIZE_TRIES):
        with suppress(ShoalError):
            await terminal.resize(width, height)
            return
        await asyncio.sleep(RESIZE_PAUSE_S)


def _logged(asked: NodeSessionRequest, found: tuple[Fact, ...], waits: str, *, previous: bool) -> Fact:
    """The container whose log is meant. Raises: BadRequest in Kubernetes' words."""
    if previous:
        newest = found[-1] if found else None
        ended = [f for f in found if f.state == EXITED and f is not newest]
        if newest is not None and newest.state == EXITED and newest.labels.attempt > 0 and not ended:
            ended = [newest]  # it waits for its restart: the one that crashed is the previous one
        if not ended:
            raise BadRequest(f'previous terminated container "{asked.container}" in pod "{asked.pod}" not found')
        return ended[-1]
    begun = [f for f in found if f.state != CREATED]
    if not begun:
        why = _WAITS.get(waits, waits) or "ContainerCreating"
        raise BadRequest(f'container "{asked.container}" in pod "{asked.pod}" is waiting to start: {why}')
    return begun[-1]


def log_query(logs: LogsRequest) -> dict[str, str]:
    """As the engine wants it. Raises: BadRequest for a time that is none."""
    query = {"follow": "1" if logs.follow else "0", "timestamps": "1" if logs.timestamps else "0"}
    query["tail"] = "all" if logs.tail_lines is None else str(max(0, logs.tail_lines))
    if logs.since_time:
        try:
            since = datetime.fromisoformat(logs.since_time)
        except ValueError:
            raise BadRequest(f"{logs.since_time!r} is no RFC 3339 time", path="sinceTime") from None
        query["since"] = f"{since.timestamp():.6f}"
    elif logs.since_seconds is not None:
        query["since"] = f"{time.time() - logs.since_seconds:.6f}"
    return query
