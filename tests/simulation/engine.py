"""A container engine of the simulation: it outlives the agent that drives it, takes time, and goes on with what it was
asked for when its asker is killed.
"""

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
from tests.simulation.loop import EPOCH, Loop, Process, this_process

from shoal.errors import Unavailable
from shoal.node_agent.runtime.ownership import read_labels
from shoal.node_agent.runtime.port import (
    EXITED,
    RUNNING,
    SANDBOX,
    Changed,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineNotFound,
    Fact,
    Image,
    Listed,
    Output,
    Terminal,
)

CALL_S = (0.005, 0.08)
KILLED = 137


class Engine:
    """One host's. `stalled`: it takes requests and answers none until that ends."""

    def __init__(self, loop: Loop, node: str, chance: random.Random) -> None:
        self.node = node
        self.facts: dict[str, Fact] = {}
        self.stalled = False
        self.stopped_by_us: list[Callable[[Fact], None]] = []
        self._loop = loop
        self._chance = chance
        self._names: dict[str, str] = {}
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._count = 0
        self._listeners: list[tuple[Process, Callable[[EngineEvent], None]]] = []
        self._waiting: list[Callable[[], None]] = []

    @property
    def running(self) -> list[Fact]:
        return [f for f in self.facts.values() if f.state == RUNNING]

    def now(self) -> float:
        return EPOCH + self._loop.time()

    # --- what happens by itself ---

    def die(self, fact: Fact, code: int) -> None:
        """The container ends. With a sandbox its network goes; its containers run on without."""
        self.facts[fact.id] = msgspec.structs.replace(fact, state=EXITED, exit_code=code, finished_at=self.now())
        self._tell(fact, "die", code)

    def stall(self, *, stalled: bool) -> None:
        self.stalled = stalled
        if not stalled:
            waiting, self._waiting = self._waiting, []
            for go in waiting:
                go()

    def _tell(self, fact: Fact, what: str, code: int = 0) -> None:
        event = Changed(fact.id, fact.labels.uid, what, self.now(), code)
        self._listeners = [(p, told) for p, told in self._listeners if p.alive]
        for process, told in self._listeners:
            process.call(told, event, after_s=self._chance.uniform(0.001, 0.02))

    def listen(self, process: Process, told: Callable[[EngineEvent], None]) -> None:
        self._listeners.append((process, told))

    # --- being asked ---

    async def ask(self, work: Callable[[], Any]) -> Any:
        """`work` is done here after a while, whatever becomes of the asker. Raises what it raises."""
        process = this_process()
        assert process is not None
        answer = self._loop.create_future()

        def do() -> None:
            if self.stalled:
                self._waiting.append(do)
                return
            try:
                result, error = work(), None
            except EngineError as e:
                result, error = None, e
            process.call(_answer, answer, result, error, after_s=self._chance.uniform(*CALL_S) / 4)

        self._loop.call_later(self._chance.uniform(*CALL_S), do, context=contextvars.Context())
        return await answer

    def find(self, container: str) -> Fact:
        i = self._names.get(container, container)
        if i not in self.facts:
            raise EngineNotFound(f"No such container: {container}", status=404)
        return self.facts[i]

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        if name in self._names:
            raise EngineError(f"The container name {name} is already in use", status=409)
        self._count += 1
        i = f"{self.node}-{self._count}"
        self._names[name] = i
        self._bodies[i] = body
        labels = read_labels(body["Labels"])
        self.facts[i] = Fact(id=i, labels=labels, created_at=self.now(), image=body["Image"])
        return i

    def start(self, container: str) -> None:
        fact = self.find(container)
        network = self._bodies[fact.id]["HostConfig"].get("NetworkMode", "")
        if network.startswith("container:") and self.find(network.partition(":")[2]).state != RUNNING:
            raise EngineError("cannot join the network of a container that does not run", status=409)
        if fact.state != RUNNING:
            self.facts[fact.id] = msgspec.structs.replace(fact, state=RUNNING, started_at=self.now(), pid=self._count)
            self._tell(fact, "start")

    def stop(self, container: str) -> None:
        try:
            fact = self.find(container)
        except EngineNotFound:
            return
        if fact.state == RUNNING:
            self._we_end(fact)
            self.die(fact, KILLED)

    def remove(self, container: str) -> None:
        try:
            fact = self.find(container)
        except EngineNotFound:
            return
        if fact.state == RUNNING:
            self._we_end(fact)
            self.die(fact, KILLED)
        del self.facts[fact.id]
        self._names = {n: i for n, i in self._names.items() if i != fact.id}
        self._tell(fact, "destroy")

    def _we_end(self, fact: Fact) -> None:
        for told in self.stopped_by_us:
            told(fact)


def _answer(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Runtime:
    """The agent's side: the port, for one life of the agent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def events(self) -> AsyncIterator[EngineEvent]:
        process = this_process()
        assert process is not None
        queue: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self._engine.listen(process, queue.put_nowait)
        asked_at = self._engine.now()
        facts = await self._engine.ask(lambda: tuple(self._engine.facts.values()))
        yield Listed(facts, asked_at)
        while True:
            yield await queue.get()

    async def info(self) -> EngineInfo:
        if self._engine.stalled:
            raise Unavailable("the engine does not answer")
        return EngineInfo(version="20.10", architecture="x86_64", cpus=4, memory_bytes=8 << 30)

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        return str(await self._engine.ask(lambda: self._engine.create(name, body)))

    async def start(self, container: str) -> None:
        await self._engine.ask(lambda: self._engine.start(container))

    async def inspect(self, container: str) -> Fact:
        fact: Fact = await self._engine.ask(lambda: self._engine.find(container))
        return fact

    async def pid(self, container: str) -> int:
        return int(await self._engine.ask(lambda: self._engine.find(container).pid))

    async def stop(self, container: str, grace_s: int) -> None:
        await self._engine.ask(lambda: self._engine.stop(container))

    async def remove(self, container: str) -> None:
        await self._engine.ask(lambda: self._engine.remove(container))

    async def ensure_network(self, name: str, body: Mapping[str, Any]) -> None: ...

    async def remove_network(self, name: str) -> None: ...

    async def remove_volumes(self, uid: str) -> None: ...

    async def image(self, reference: str) -> Image | None:
        return Image(id=f"sha256:{reference}")

    async def pull(self, reference: str, auth: Mapping[str, str] | None) -> None: ...

    async def import_image(self, reference: str, archive: bytes, *, platform: str) -> None: ...

    async def logs(self, container: str, query: Mapping[str, str]) -> Output:
        raise NotImplementedError

    async def exec(self, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Terminal:
        raise NotImplementedError

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> Terminal:
        raise NotImplementedError

    async def close(self) -> None: ...


class Wires:
    """The network of a host's sandboxes: which address is where."""

    def __init__(self) -> None:
        self.connected: dict[str, str] = {}

    async def connect(self, uid: str, pid: int, address: Any, sysctls: Mapping[str, str]) -> None:
        self.connected[uid] = str(address.ip)

    async def disconnect(self, uid: str) -> None:
        self.connected.pop(uid, None)

    async def set_ports(self, uid: str, ports: tuple[Any, ...]) -> None: ...

    def remember_ports(self, uid: str, ports: tuple[Any, ...]) -> None: ...

    def links(self) -> set[str]:
        return set()

    async def remove_links(self, names: set[str]) -> None: ...

    async def hold(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def program(self) -> None: ...

    def close(self) -> None: ...


__all__ = ["SANDBOX", "Engine", "Runtime", "Wires"]
