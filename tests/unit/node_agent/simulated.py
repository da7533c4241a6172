"""A runtime without an engine: containers are records, time stands still, and whatever is asked for can be made to fail."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from shoal.node_agent.runtime.ownership import read_labels
from shoal.node_agent.runtime.port import (
    EXITED,
    RUNNING,
    Changed,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineNotFound,
    Fact,
    Image,
    Output,
    Terminal,
)


class SimulatedRuntime:
    """`fail[call]`: errors to raise, first come first served. `calls`: what was asked, in order."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.jumped = 0.0
        self.facts: dict[str, Fact] = {}
        self.names: dict[str, str] = {}
        self.bodies: dict[str, Mapping[str, Any]] = {}
        self.images: dict[str, Image] = {"shoal/web": Image(id="sha256:web")}
        self.registry: dict[str, Image] = {}
        self.fail: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        self.hang: dict[str, asyncio.Event] = {}
        self.listeners: list[Any] = []
        self.log: dict[str, bytes] = {}
        self.ignores_sigterm: set[str] = set()
        self._count = 0

    async def _call(self, call: str, what: str = "") -> None:
        self.calls.append(f"{call} {what}".strip())
        if (gate := self.hang.get(call)) is not None:
            await gate.wait()
        else:
            await asyncio.sleep(0)
        if errors := self.fail.get(call):
            raise errors.pop(0)

    def monotonic(self) -> float:
        return self.now - self.jumped

    def set_clock(self, by: float) -> None:
        """Somebody sets the wall clock, the engine's and the agent's; no time passes."""
        self.now += by
        self.jumped += by

    def find(self, container: str) -> Fact:
        i = self.names.get(container, container)
        if i not in self.facts:
            raise EngineNotFound(f"No such container: {container}", status=404)
        return self.facts[i]

    def of(self, name: str) -> list[Fact]:
        return [f for f in self.facts.values() if f.labels.container == name]

    def tell(self, fact: Fact, what: str, code: int = 0) -> None:
        for listener in self.listeners:
            listener(Changed(fact.id, fact.labels.uid, what, self.now, code))

    def die(self, fact: Fact, code: int, *, oom: bool = False) -> None:
        """The container ends by itself."""
        self.facts[fact.id] = msgspec.structs.replace(fact, state=EXITED, exit_code=code, finished_at=self.now)
        if oom:
            self.tell(fact, "oom")
        self.tell(fact, "die", code)

    # --- the port --------------------------------------------------------------------------------------------------------

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        await self._call("create", name)
        if name in self.names:
            raise EngineError(f"The container name {name} is already in use", status=409)
        if body["Image"] not in self.images and not body["Image"].startswith("sandbox"):
            raise EngineNotFound(f"No such image: {body['Image']}", status=404)
        self._count += 1
        i = f"id{self._count}"
        self.names[name] = i
        self.bodies[i] = body
        self.facts[i] = Fact(id=i, labels=read_labels(body["Labels"]), created_at=self.now, image=body["Image"])
        return i

    async def start(self, container: str) -> None:
        await self._call("start", container)
        fact = self.find(container)
        network = self.bodies[fact.id]["HostConfig"]["NetworkMode"]
        if network.startswith("container:"):
            assert self.find(network.partition(":")[2]).state == RUNNING, "joined a sandbox that does not run"
        self.facts[fact.id] = msgspec.structs.replace(fact, state=RUNNING, started_at=self.now)
        self.tell(fact, "start")

    async def stop(self, container: str, grace_s: int) -> None:
        await self._call("stop", f"{container} {grace_s}")
        if container in self.facts and self.facts[container].state == RUNNING:
            self.die(self.facts[container], 137)

    async def remove(self, container: str) -> None:
        await self._call("remove", container)
        try:
            fact = self.find(container)
        except EngineNotFound:
            return
        if fact.state == RUNNING:
            self.die(fact, 137)
        del self.facts[fact.id]
        self.names = {n: i for n, i in self.names.items() if i != fact.id}
        self.tell(fact, "destroy")

    async def pid(self, container: str) -> int:
        await self._call("pid", container)
        return 4242 if self.find(container).state == RUNNING else 0

    async def inspect(self, container: str) -> Fact:
        return self.find(container)

    async def image(self, reference: str) -> Image | None:
        await self._call("image", reference)
        return self.images.get(reference)

    async def pull(self, reference: str, auth: Mapping[str, str] | None) -> None:
        await self._call("pull", reference)
        if reference not in self.registry:
            raise EngineError(f"manifest for {reference} not found", status=404)
        self.images[reference] = self.registry[reference]

    async def info(self) -> EngineInfo:
        return EngineInfo(version="20.10", architecture="x86_64", cpus=2, memory_bytes=8 << 30)

    async def ensure_network(self, name: str, body: Mapping[str, Any]) -> None:
        await self._call("ensure_network", name)

    async def remove_volumes(self, uid: str) -> None:
        await self._call("remove_volumes", uid)

    async def import_image(self, reference: str, archive: bytes, *, platform: str) -> None:
        await self._call("import_image", reference)

    async def logs(self, container: str, query: Mapping[str, str]) -> Output:
        return Pieces([(1, self.log.get(container, b""))])

    async def exec(
        self, container: str, command: Sequence[str], *, stdin: bool, tty: bool, env: Mapping[str, str]
    ) -> Terminal:
        raise NotImplementedError

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> Terminal:
        raise NotImplementedError

    def events(self) -> AsyncIterator[EngineEvent]:
        raise NotImplementedError

    async def close(self) -> None: ...


class Pieces:
    """Output that was there before, then the end."""

    def __init__(self, pieces: list[tuple[int, bytes]]) -> None:
        self.pieces = [p for p in pieces if p[1]]
        self.read_bytes = 0
        self.closed = False

    async def read(self) -> tuple[int, bytes] | None:
        await asyncio.sleep(0)
        if not self.pieces:
            return None
        piece = self.pieces.pop(0)
        self.read_bytes += len(piece[1])
        return piece

    async def close(self) -> None:
        self.closed = True
