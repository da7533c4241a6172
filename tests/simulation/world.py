"""The whole cluster in one process: the real code of every process, on a loop whose clock is ours, with a server, engines
and links that do as they are told.
"""

import asyncio
import contextvars
import os
import random
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from tests.simulation import agent, proxy
from tests.simulation.engine import Engine, Wires
from tests.simulation.invariants import Always, State, Violation, at_rest, ghosts
from tests.simulation.loop import EPOCH, Process, this_process
from tests.simulation.nats.client import NOTICED_AFTER_S, Weather
from tests.simulation.nats.network import Network
from tests.simulation.nats.stream import Refused, Stored
from tests.simulation.steps import CONTROL, NODES, USER, AnyStep
from tests.simulation.wishes import Person, Wanted

from shoal.api import manifests as manifests_module
from shoal.api import service as api
from shoal.bus.connecting import connect
from shoal.config import BusConfig
from shoal.names import Names
from shoal.replica_controller import service as replica_controller
from shoal.scheduler import service as scheduler
from shoal.store.view import View

REST_WITHIN_S = 90.0  # after the last fault: leases, backoffs and pauses of pods that died are over by then
REST_FOR_S = 3.0
LOOK_EVERY_S = 0.25
MEMORY = Path("/dev/shm")  # fsync costs nothing there
Main = Callable[[], Coroutine[Any, Any, Any]]


class World:
    """One run. `history`: what was done to it, with the time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.config = BusConfig(names=Names())
        self.network = Network(seed)
        self.loop = self.network.loop
        self.server = self.network.server
        self.chance = random.Random(self.network.chance.random())
        self.root = Path(tempfile.mkdtemp(prefix="shoal-simulation-", dir=MEMORY if MEMORY.is_dir() else None))
        self.engines = {n: Engine(self.loop, n, random.Random(self.chance.random())) for n in NODES}
        self.wires = {n: Wires() for n in NODES}
        self.processes: dict[str, Process] = {}
        self.wanted = Wanted()
        self.person = Person(self.wanted)
        self.always: Always | None = None
        self.ended_badly: list[str] = []
        self._down: set[str] = set()
        self._views: list[tuple[Process, View]] = []
        self._offsets: dict[str, float] = {}
        self._stack = ExitStack()
        self._refuse = 0

    # --- the ground -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        enter(self.network)
        random_state = random.getstate()
        self._stack.callback(random.setstate, random_state)
        random.seed(self.seed)
        enter(patch.object(View, "__init__", self._seen(View.__init__)))
        enter(patch.object(time, "monotonic", self.loop.time))
        enter(patch.object(time, "monotonic_ns", lambda: int(self.loop.time() * 1e9)))
        enter(patch.object(time, "time", self._wall))
        enter(patch.object(time, "time_ns", lambda: int(self._wall() * 1e9)))
        enter(patch.object(os, "urandom", self.chance.randbytes))
        enter(patch.object(os, "getpid", lambda: 1))
        enter(patch.object(uuid, "uuid4", lambda: uuid.UUID(int=self.chance.getrandbits(128), version=4)))
        enter(patch.object(secrets, "token_hex", lambda n=16: f"{self.chance.getrandbits(8 * n):0{2 * n}x}"))
        enter(patch.object(manifests_module, "SUSPECT_AFTER", 1 << 30))  # no processes in here to try messages in
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes.values():
            process.kill()
        self._stack.close()

    def _seen(self, real: Callable[[View], None]) -> Callable[[View], None]:
        def made(view: View) -> None:
            real(view)
            if (process := this_process()) is not None:
                self._views.append((process, view))

        return made

    def _wall(self) -> float:
        process = this_process()
        return EPOCH + self.loop.time() + (self._offsets.get(process.name, 0.0) if process else 0.0)

    # --- processes ------------------------------------------------------------------------------------------------------

    def _main(self, name: str) -> Main:
        kind, _, which = name.partition("-")
        match kind:
            case "api":
                return partial(api.serve, self.config, api.Settings())
            case "scheduler":
                return partial(scheduler.serve, self.config)
            case "controller":
                return partial(replica_controller.serve, self.config)
            case "agent":
                return partial(
                    agent.serve, self.config, which, self.root / which, self.engines[which], self.wires[which]
                )
            case "proxy":
                return partial(proxy.serve, self.config, which, self.root / which)
        return self._user

    async def _user(self) -> None:
        async with connect(self.config, name=USER) as bus:
            await self.person.live(bus)

    def start(self, name: str) -> None:
        self._down.discard(name)
        process = self.processes[name] = Process(self.loop, name)
        process.run(self._main(name))
        assert process.task is not None
        process.task.add_done_callback(partial(self._ended, process))

    def _ended(self, process: Process, task: "asyncio.Task[Any]") -> None:
        """By itself: as a supervisor does, start it again, and remember why."""
        if not process.alive or task.cancelled():
            return
        process.kill()
        self.ended_badly.append(f"{process.name} ended: {task.exception()!r}")
        self.later(1.0, self.start, process.name)

    def kill(self, name: str, down_s: float) -> None:
        if name in self._down:
            return
        self._down.add(name)
        self.processes[name].kill()
        self.later(down_s, self.start, name)

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(seconds, partial(call, *args), context=contextvars.Context())

    # --- a run ----------------------------------------------------------------------------------------------------------

    def run(self, steps: list[AnyStep]) -> list[Violation]:
        """What was violated, in order; empty if all held and everything came to rest."""
        return self.loop.run_until_complete(self._run(steps))

    async def _run(self, steps: list[AnyStep]) -> list[Violation]:
        for name in (*CONTROL, *(f"{kind}-{n}" for n in NODES for kind in ("agent", "proxy")), USER):
            self.start(name)
        await self._until_streams()
        stream = self.server.streams[self.config.names.state_stream]
        prefix = self.config.names.state_subject("")
        state = State(stream, prefix)
        always = self.always = Always(state, self.wanted, list(self.engines.values()))
        stream.heard.append(lambda m: always.stored(m.subject[len(prefix) :], m))
        looking = asyncio.create_task(self._look(always))
        for step in steps:
            await asyncio.sleep(step.after_s)
            if always.found:
                break
            self.do(step)
        if not always.found:
            self._mend()
            missing = await self._rest(state, always)
            always.found += [Violation("at rest", what) for what in missing]
        looking.cancel()
        return [*always.found, *(Violation("no unhandled error", u) for u in self.loop.unhandled)]

    async def _until_streams(self) -> None:
        while self.config.names.outcomes_stream not in self.server.streams:
            await asyncio.sleep(0.01)

    async def _look(self, always: Always) -> None:
        while True:
            always.addresses()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _rest(self, state: State, always: Always) -> list[str]:
        """What is missing in the end."""
        until, calm_since, missing = self.loop.time() + REST_WITHIN_S, None, ["nothing was looked at"]
        while self.loop.time() < until and not always.found:
            missing = [] if self.person.idle else ["the last wish is not acknowledged"]
            missing += at_rest(state, self.wanted, self.engines)
            missing += ghosts(state, ((p.name, v) for p, v in self._views if p.alive))
            if missing:
                calm_since = None
            elif calm_since is None:
                calm_since = self.loop.time()
            elif self.loop.time() - calm_since >= REST_FOR_S:
                return []
            await asyncio.sleep(LOOK_EVERY_S)
        return missing

    # --- faults -----------------------------------------------------------------------------------------------------------

    def do(self, step: AnyStep) -> None:
        from tests.simulation import steps as s

        match step:
            case s.Scale() | s.Run() | s.Delete():
                self.person.ask(step)
            case s.Die(pick=pick, exit_code=code):
                running = [(e, f) for e in self.engines.values() for f in e.running]
                if running:
                    engine, fact = running[pick % len(running)]
                    engine.die(fact, code)
            case s.Kill(process=name, down_s=down_s):
                self.kill(name, down_s)
            case s.Pause(process=name, for_s=for_s):
                process = self.processes[name]
                process.pause()
                self.later(for_s, process.resume)
            case s.Cut(process=name, for_s=for_s):
                self.cut(name, for_s)
            case s.Break(process=name):
                self._broken(name)
            case s.Storm(process=name, weather=weather, for_s=for_s):
                link = self.network.link(name)
                link.weather = weather
                self.later(for_s, setattr, link, "weather", Weather())
            case s.Restart(down_s=down_s):
                self._restart(down_s)
            case s.Jump(process=name, by_s=by_s):
                self._offsets[name] = by_s
            case s.Refuse(batches=batches):
                self._refuse_batches(batches)
            case s.Lose(count=count, of=of):
                self.server.lose[of] = count
            case s.Forget(pick=pick):
                self._forget(pick)
            case s.Stall(node=node, for_s=for_s):
                engine = self.engines[node]
                engine.stall(stalled=True)
                self.later(for_s, partial(engine.stall, stalled=False))

    def cut(self, name: str, for_s: float) -> None:
        link = self.network.link(name)
        link.cut = True
        if for_s > NOTICED_AFTER_S:
            self.later(NOTICED_AFTER_S, self._broken, name)
        self.later(for_s, link.mend)

    def _broken(self, name: str) -> None:
        client = self.network.clients.get(name)
        if client is not None:
            client.broken()

    def _restart(self, down_s: float) -> None:
        self.server.up = False
        self.server.restart()
        for client in self.network.clients.values():
            client.broken()

        def up() -> None:
            self.server.up = True

        self.later(down_s, up)

    def _refuse_batches(self, count: int) -> None:
        stream = self.server.streams[self.config.names.state_stream]
        real = type(stream)._batch_entry

        def refuse(subject: str, data: bytes, headers: dict[str, str]) -> int | None:
            if self._refuse and headers["Nats-Batch-Sequence"] == "1":
                self._refuse -= 1
                raise Refused(10210, "atomic publish too many inflight", 429)
            return real(stream, subject, data, headers)

        self._refuse = count
        stream._batch_entry = refuse  # type: ignore[method-assign]

    def _forget(self, pick: int | None) -> None:
        keys = [k for k, c in self.server.consumers.items() if c.config.get("mem_storage")]
        for key in keys if pick is None else keys[pick % len(keys) :][:1] if keys else []:
            self.server.consumers.pop(key).end()

    def _mend(self) -> None:
        """Everything is whole again."""
        self.server.up = True
        self._refuse = 0
        self.server.lose = dict.fromkeys(self.server.lose, 0)
        for link in self.network.links.values():
            link.weather = Weather()
            if link.cut:
                link.mend()
        for process in self.processes.values():
            if process.paused:
                process.resume()
        for engine in self.engines.values():
            engine.stall(stalled=False)


def stored_key(message: Stored, prefix: str) -> str:
    return message.subject[len(prefix) :]
