"""Docker's engine behind `port.Runtime`, by aiodocker. Its exceptions become ours here, and nowhere else.

Streams are read by `Output.read` alone: what nobody asks for stays in the engine (aiohttp stops reading the socket at
`READ_AHEAD_BYTES`), so that a log of any size passes in bounded memory.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import aiodocker
import aiohttp
import msgspec
from aiodocker.stream import Stream

from shoal import names
from shoal.errors import Unavailable
from shoal.node_agent.runtime.frames import Frames
from shoal.node_agent.runtime.port import (
    CREATED,
    EXITED,
    RUNNING,
    Changed,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineNotFound,
    Fact,
    Image,
    ImagesChanged,
    Labels,
    Listed,
    Lost,
)

READ_AHEAD_BYTES = 65_536
RECONNECT_S = 0.5
ANSWER_S = 120.0  # an engine that takes longer for a call that does no waiting of its own hangs
PULL_STALL_S = 60.0  # a pull may take as long as it likes, while it moves
API_VERSION = "v1.41"  # Docker Engine 20.10

_CONTAINER_EVENTS = ("start", "die", "oom", "destroy")
_IMAGE_EVENTS = ("delete", "untag", "tag", "pull", "import", "load")


class Owner(msgspec.Struct, frozen=True):
    """Whose containers: an agent touches only those that carry both."""

    cluster: str
    node: str


def labels_of(labels: Labels, owner: Owner) -> dict[str, str]:
    made = {
        names.CONTAINER_CLUSTER: owner.cluster,
        names.CONTAINER_NODE: owner.node,
        names.CONTAINER_POD_NAMESPACE: labels.namespace,
        names.CONTAINER_POD_NAME: labels.pod,
        names.CONTAINER_POD_UID: labels.uid,
        names.CONTAINER_NAME: labels.container or "POD",
        names.CONTAINER_ATTEMPT: str(labels.attempt),
        names.CONTAINER_FAILURES: str(labels.failures),
        names.CONTAINER_GENERATION: str(labels.generation),
    }
    return {**made, names.CONTAINER_ADDRESS: labels.address} if labels.address else made


def read_labels(raw: Mapping[str, str]) -> Labels:
    """Total: a label that is missing or no number counts as 0."""

    def number(name: str) -> int:
        text = raw.get(name, "")
        return int(text) if text.isdigit() else 0

    container = raw.get(names.CONTAINER_NAME, "")
    return Labels(
        uid=raw.get(names.CONTAINER_POD_UID, ""),
        namespace=raw.get(names.CONTAINER_POD_NAMESPACE, ""),
        pod=raw.get(names.CONTAINER_POD_NAME, ""),
        container="" if container == "POD" else container,
        attempt=number(names.CONTAINER_ATTEMPT),
        failures=number(names.CONTAINER_FAILURES),
        generation=number(names.CONTAINER_GENERATION),
        address=raw.get(names.CONTAINER_ADDRESS, ""),
    )


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == 900:  # aiodocker's own: it could not connect
            raise Unavailable(error.message) from error
        kind = EngineNotFound if error.status == 404 else EngineError
        raise kind(str(error.message).strip(), status=error.status) from error
    except TimeoutError as error:
        raise Unavailable("the engine does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"the connection to the engine broke: {error}") from error


class Engine:
    """See port.Runtime. `host`: as DOCKER_HOST; "" finds the engine as every Docker client does."""

    def __init__(self, host: str, owner: Owner) -> None:
        self.owner = owner
        connector = None
        if host.startswith("unix://"):
            # More than aiohttp's 100 connections: each container that is being stopped holds one.
            connector = aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0)
            host = "unix://localhost"
        self._docker = aiodocker.Docker(url=host or None, connector=connector, api_version=API_VERSION)
        self._connector = connector

    async def close(self) -> None:
        await self._docker.close()
        if self._connector is not None:
            await self._connector.close()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        data: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One call, its answer open. aiodocker's `_query` is the one door that every call of it passes."""
        payload = data if data is None or isinstance(data, bytes) else msgspec.json.encode(data)
        kind = "application/x-tar" if isinstance(data, bytes) else "application/json"
        with translated():
            async with self._docker._query(  # noqa: SLF001
                path,
                method,
                params=dict(params) if params else None,
                data=payload,
                headers={"Content-Type": kind, **(headers or {})},
            ) as response:
                try:
                    yield response
                finally:
                    response.close() if not response.content.is_eof() else response.release()

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        data: object = None,
        *,
        limit_s: float = ANSWER_S,
    ) -> bytes:
        with translated():
            async with asyncio.timeout(limit_s), self._open(method, path, params, data) as response:
                return await response.read()

    # --- containers --------------------------------------------------------------------------------------------------

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        raw = await self._call("POST", "containers/create", {"name": name}, body)
        made: str = msgspec.json.decode(raw)["Id"]
        return made

    async def start(self, container: str) -> None:
        await self._call("POST", f"containers/{container}/start")

    async def stop(self, container: str, grace_s: int) -> None:
        try:
            await self._call("POST", f"containers/{container}/stop", {"t": str(grace_s)}, limit_s=grace_s + ANSWER_S)
        except EngineNotFound:
            return

    async def remove(self, container: str) -> None:
        try:
            await self._call("DELETE", f"containers/{container}", {"force": "1", "v": "1"})
        except EngineNotFound:
            return
        except EngineError as error:
            if error.status != 409 or "in progress" not in error.message:
                raise

    async def pid(self, container: str) -> int:
        state = msgspec.json.decode(await self._call("GET", f"containers/{container}/json"), type=_Inspected).State
        return state.Pid if state.Running else 0

    async def inspect(self, container: str) -> Fact:
        return _fact(msgspec.json.decode(await self._call("GET", f"containers/{container}/json"), type=_Inspected))

    async def owned(self) -> tuple[Fact, ...]:
        """All that carries both labels; each looked at, since a list tells no times and no exit codes."""
        wanted = [f"{names.CONTAINER_CLUSTER}={self.owner.cluster}", f"{names.CONTAINER_NODE}={self.owner.node}"]
        filters = msgspec.json.encode({"label": wanted}).decode()
        raw = await self._call("GET", "containers/json", {"all": "1", "filters": filters})
        limit = asyncio.Semaphore(8)

        async def one(container: str) -> Fact | None:
            async with limit:
                try:
                    return await self.inspect(container)
                except EngineNotFound:
                    return None

        ids: list[str] = [c["Id"] for c in msgspec.json.decode(raw)]
        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(one(i)) for i in ids]
        return tuple(fact for look in looks if (fact := look.result()) is not None)

    # --- events ------------------------------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[EngineEvent]:
        filters = msgspec.json.encode(
            {"type": ["container", "image"], "event": [*_CONTAINER_EVENTS, *_IMAGE_EVENTS]}
        ).decode()
        while True:
            try:
                async with self._open("GET", "events", {"filters": filters}) as response:
                    # Open first, then list: what happens between the two is heard.
                    yield ImagesChanged()
                    asked_at = time.time()
                    yield Listed(await self.owned(), asked_at)
                    async for line in _lines(response.content):
                        if (event := self._event(line)) is not None:
                            yield event
                why = "it closed the stream of events"
            except (Unavailable, EngineError, ExceptionGroup) as error:
                why = str(error)
            yield Lost(why)
            await asyncio.sleep(RECONNECT_S)

    def _event(self, line: bytes) -> EngineEvent | None:
        event = msgspec.json.decode(line, type=_Event)
        if event.Type == "image":
            return ImagesChanged()
        said = event.Actor.Attributes
        if said.get(names.CONTAINER_CLUSTER) != self.owner.cluster or said.get(names.CONTAINER_NODE) != self.owner.node:
            return None
        code = said.get("exitCode", "0")
        return Changed(
            id=event.Actor.ID,
            uid=said.get(names.CONTAINER_POD_UID, ""),
            what=event.Action,
            at=event.timeNano / 1e9,
            exit_code=int(code) if code.isdigit() else 0,
        )

    # --- images ------------------------------------------------------------------------------------------------------

    async def image(self, reference: str) -> Image | None:
        try:
            raw = await self._call("GET", f"images/{reference}/json")
        except EngineNotFound:
            return None
        found = msgspec.json.decode(raw, type=_Image)
        return Image(
            id=found.Id,
            digest=found.RepoDigests[0] if found.RepoDigests else "",
            user=found.Config.User if found.Config else "",
        )

    async def pull(self, reference: str, auth: Mapping[str, str] | None) -> None:
        import base64

        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(auth)).decode()} if auth else {}
        repository, tag = split_reference(reference)
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(PULL_STALL_S) as stalled,
                self._open("POST", "images/create", {"fromImage": repository, "tag": tag}, headers=headers) as response,
            ):
                async for line in _lines(response.content):
                    stalled.reschedule(loop.time() + PULL_STALL_S)
                    if error := msgspec.json.decode(line, type=_Progress).error:
                        raise EngineError(error)
        except TimeoutError as error:
            raise EngineError(f"no progress for {PULL_STALL_S:.0f} s") from error

    async def import_image(self, reference: str, archive: bytes, *, platform: str) -> None:
        repository, _, tag = reference.rpartition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "platform": platform}
        await self._call("POST", "images/create", query, archive)

    # --- networks and volumes (the engine's own sandbox) -----------------------------------------------------------

    async def ensure_network(self, name: str, body: Mapping[str, Any]) -> None:
        """One with that name and that subnet; of another subnet (the node registered anew) it is made anew."""
        try:
            found = msgspec.json.decode(await self._call("GET", f"networks/{name}"))
        except EngineNotFound:
            pass
        else:
            subnets = [c.get("Subnet") for c in found.get("IPAM", {}).get("Config") or []]
            if subnets == [c["Subnet"] for c in body["IPAM"]["Config"]]:
                return
            await self.remove_network(name)
        await self._call("POST", "networks/create", data={**body, "Name": name, "CheckDuplicate": True})

    async def remove_network(self, name: str) -> None:
        try:
            await self._call("DELETE", f"networks/{name}")
        except EngineNotFound:
            return

    async def remove_volumes(self, uid: str) -> None:
        """Those that were made for a pod: they are named by its uid."""
        filters = msgspec.json.encode({"name": [f"shoal_{uid}_"]}).decode()
        raw = await self._call("GET", "volumes", {"filters": filters})
        for volume in msgspec.json.decode(raw).get("Volumes") or []:
            await self._call("DELETE", f"volumes/{volume['Name']}", {"force": "1"})

    # --- streams -----------------------------------------------------------------------------------------------------

    async def logs(self, container: str, query: Mapping[str, str]) -> "EngineLog":
        tty = bool(msgspec.json.decode(await self._call("GET", f"containers/{container}/json"))["Config"]["Tty"])
        opened = self._open("GET", f"containers/{container}/logs", {"stdout": "1", "stderr": "1", **query})
        return EngineLog(opened, await opened.__aenter__(), raw=tty)

    async def exec(self, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> "EngineTerminal":
        with translated():
            made = await self._docker.containers.container(container).exec(
                command, stdin=stdin, stdout=True, stderr=not tty, tty=tty
            )
            stream = made.start(detach=False)
            await stream.__aenter__()
        return EngineTerminal(self, stream, f"exec/{made.id}")

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> "EngineTerminal":  # noqa: ARG002
        with translated():
            stream = self._docker.containers.container(container).attach(
                stdin=stdin, stdout=True, stderr=True, logs=False
            )
            await stream.__aenter__()
        return EngineTerminal(self, stream, f"containers/{container}")

    async def info(self) -> EngineInfo:
        found = msgspec.json.decode(await self._call("GET", "info"))
        options = found.get("SecurityOptions") or []
        return EngineInfo(
            version=found.get("ServerVersion", ""),
            architecture=found.get("Architecture", ""),
            kernel=found.get("KernelVersion", ""),
            os=found.get("OperatingSystem", ""),
            cpus=found.get("NCPU", 0),
            memory_bytes=found.get("MemTotal", 0),
            root=found.get("DockerRootDir", ""),
            selinux=any("name=selinux" in o for o in options),
            rootless=any("name=rootless" in o for o in options),
            remapped=any("name=userns" in o for o in options),
        )


class EngineLog:
    """A container's log; a terminal's has no frames."""

    def __init__(
        self, opened: AbstractAsyncContextManager[object], response: aiohttp.ClientResponse, *, raw: bool
    ) -> None:
        self._opened = opened
        self._response = response
        self._frames = None if raw else Frames()
        self._pieces: deque[tuple[int, bytes]] = deque()

    async def read(self) -> tuple[int, bytes] | None:
        while not self._pieces:
            with translated():
                data = await self._response.content.readany()  # READ_AHEAD_BYTES bound it
            if not data:
                return None
            self._pieces += self._frames.feed(data) if self._frames else [(1, data)]
        return self._pieces.popleft()

    async def close(self) -> None:
        await self._opened.__aexit__(None, None, None)


class EngineTerminal:
    """An exec's or a container's streams. `path`: what the engine calls it."""

    def __init__(self, engine: Engine, stream: Stream, path: str) -> None:
        self._engine = engine
        self._stream = stream
        self._path = path

    async def read(self) -> tuple[int, bytes] | None:
        with translated():
            message = await self._stream.read_out()
        return None if message is None else (message.stream, message.data)

    async def write(self, data: bytes) -> None:
        with translated():
            await self._stream.write_in(data)

    async def write_eof(self) -> None:
        """End its input and go on reading; aiodocker's own `close` ends both."""
        response = self._stream._resp  # noqa: SLF001
        transport = response.connection.transport if response is not None and response.connection else None
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    async def resize(self, width: int, height: int) -> None:
        await self._engine._call("POST", f"{self._path}/resize", {"w": str(width), "h": str(height)})  # noqa: SLF001

    async def exit_code(self) -> int | None:
        found = await self._look()
        code = found.get("ExitCode", found.get("State", {}).get("ExitCode"))
        running = found.get("Running", found.get("State", {}).get("Running", False))
        return None if running or code is None else int(code)

    async def pid(self) -> int:
        found = await self._look()
        return int(found.get("Pid", 0)) if found.get("Running") else 0

    async def close(self) -> None:
        with translated():
            await self._stream.close()

    async def _look(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(await self._engine._call("GET", f"{self._path}/json"))  # noqa: SLF001
        return found


# --- what the engine's answers hold ------------------------------------------------------------------------------------


class _State(msgspec.Struct):
    Status: str = ""
    Running: bool = False
    OOMKilled: bool = False
    Pid: int = 0
    ExitCode: int = 0
    Error: str = ""
    StartedAt: str = ""
    FinishedAt: str = ""


class _Config(msgspec.Struct):
    Labels: dict[str, str] | None = None
    Image: str = ""
    User: str = ""


class _Inspected(msgspec.Struct):
    Id: str
    Created: str = ""
    Image: str = ""
    State: _State = msgspec.field(default_factory=_State)
    Config: _Config = msgspec.field(default_factory=_Config)


class _Image(msgspec.Struct):
    Id: str
    RepoDigests: list[str] | None = None
    Config: _Config | None = None


class _Actor(msgspec.Struct):
    ID: str = ""
    Attributes: dict[str, str] = {}


class _Event(msgspec.Struct):
    Type: str = ""
    Action: str = ""
    Actor: _Actor = msgspec.field(default_factory=_Actor)
    timeNano: int = 0  # noqa: N815  (the engine's name)


class _Progress(msgspec.Struct):
    error: str = ""


def _fact(found: _Inspected) -> Fact:
    state = found.State
    started = _time(state.StartedAt)
    if state.Running or state.Status in {"paused", "restarting"}:
        known = RUNNING
    else:
        # One that could not be started stays "created", and the engine keeps why.
        known = CREATED if not started and not state.Error else EXITED
    finished = _time(state.FinishedAt) if known == EXITED else 0.0
    if known == EXITED and not started:
        finished = finished or _time(found.Created)  # it never began: what waits, waits from its making
    return Fact(
        id=found.Id,
        labels=read_labels(found.Config.Labels or {}),
        state=known,
        exit_code=state.ExitCode,
        oom_killed=state.OOMKilled,
        error=state.Error if not started else "",
        created_at=_time(found.Created),
        started_at=min(started, finished)
        if known == EXITED
        else started,  # the engine's two clocks differ by a millisecond
        finished_at=finished,
        image=found.Config.Image,
        image_id=found.Image,
        pid=state.Pid,
    )


def _time(text: str) -> float:
    """Unix seconds of the engine's RFC 3339 with nanoseconds; 0 for its year 1."""
    if not text or text.startswith("0001"):
        return 0.0
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00").timestamp()


def split_reference(reference: str) -> tuple[str, str]:
    """(repository, tag or digest) as the engine's pull wants them; a missing tag is `latest`, never every tag."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository, digest
    head, _, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return f"{head}/{name}" if head else name, tag if colon else "latest"


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """One JSON document a line. Not `readline`: a line may be longer than the reader's limit."""
    rest = b""
    while piece := await content.readany():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        yield rest
