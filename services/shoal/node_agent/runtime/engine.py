"""Docker's engine behind `port.Runtime`."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from shoal import names
from shoal.errors import Unavailable, first_sentence
from shoal.node_agent.runtime.answers import Event, FoundImage, Inspected, Progress, fact_of, split_reference
from shoal.node_agent.runtime.calls import ANSWER_S, Calls, lines, translated
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import (
    Changed,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineNotFound,
    Fact,
    Image,
    ImagesChanged,
    Listed,
    Lost,
)
from shoal.node_agent.runtime.streams import EngineLog, EngineTerminal

RECONNECT_S = 0.5
PULL_STALL_S = 60.0  # a pull may take as long as it likes, while it moves

_CONTAINER_EVENTS = ("start", "die", "oom", "destroy")
_IMAGE_EVENTS = ("delete", "untag", "tag", "pull", "import", "load")


class Engine:
    """See port.Runtime. `host`: as DOCKER_HOST; "" finds the engine as every Docker client does."""

    def __init__(self, host: str, owner: Owner) -> None:
        self.owner = owner
        self._calls = Calls(host)

    async def close(self) -> None:
        await self._calls.close()

    # --- containers --------------------------------------------------------------------------------------------------

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        raw = await self._calls.call("POST", "containers/create", {"name": name}, body)
        made: str = msgspec.json.decode(raw)["Id"]
        return made

    async def start(self, container: str) -> None:
        await self._calls.call("POST", f"containers/{container}/start")

    async def stop(self, container: str, grace_s: int) -> None:
        try:
            await self._calls.call(
                "POST", f"containers/{container}/stop", {"t": str(grace_s)}, limit_s=grace_s + ANSWER_S
            )
        except EngineNotFound:
            return

    async def remove(self, container: str) -> None:
        try:
            await self._calls.call("DELETE", f"containers/{container}", {"force": "1", "v": "1"})
        except EngineNotFound:
            return
        except EngineError as error:
            if error.status != 409 or "in progress" not in error.message:
                raise

    async def pid(self, container: str) -> int:
        state = msgspec.json.decode(await self._calls.call("GET", f"containers/{container}/json"), type=Inspected).State
        return state.Pid if state.Running else 0

    async def inspect(self, container: str) -> Fact:
        return fact_of(
            msgspec.json.decode(await self._calls.call("GET", f"containers/{container}/json"), type=Inspected)
        )

    async def owned(self) -> tuple[Fact, ...]:
        """All that carries both labels; each looked at, since a list tells no times and no exit codes."""
        wanted = [f"{names.CONTAINER_CLUSTER}={self.owner.cluster}", f"{names.CONTAINER_NODE}={self.owner.node}"]
        filters = msgspec.json.encode({"label": wanted}).decode()
        raw = await self._calls.call("GET", "containers/json", {"all": "1", "filters": filters})
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

    async def sees(self, folder: Path, image: str) -> bool:
        """Whether the agent's files in `folder` are the engine's too, at the same path: it binds nothing that is not there."""
        with TemporaryDirectory(dir=folder, prefix="seen-") as probe:
            mount = {"Type": "bind", "Source": probe, "Target": "/probe", "ReadOnly": True}
            body = {"Image": image, "HostConfig": {"NetworkMode": "none", "Mounts": [mount]}, "Entrypoint": ["/probe"]}
            try:
                made = await self.create(f"shoal_{Path(probe).name}", body)
            except EngineNotFound:
                raise
            except EngineError:
                return False
            await self.remove(made)
            return True

    # --- events ------------------------------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[EngineEvent]:
        filters = msgspec.json.encode(
            {"type": ["container", "image"], "event": [*_CONTAINER_EVENTS, *_IMAGE_EVENTS]}
        ).decode()
        while True:
            try:
                async with self._calls.open("GET", "events", {"filters": filters}) as response:
                    # Open first, then list: what happens between the two is heard.
                    yield ImagesChanged()
                    asked_at = time.time()
                    yield Listed(await self.owned(), asked_at)
                    async for line in lines(response.content):
                        if (event := self._event(line)) is not None:
                            yield event
                why = "it closed the stream of events"
            except (Unavailable, EngineError, msgspec.MsgspecError, UnicodeDecodeError, ExceptionGroup) as error:
                why = first_sentence(error)
            yield Lost(why)
            await asyncio.sleep(RECONNECT_S)

    def _event(self, line: bytes) -> EngineEvent | None:
        event = msgspec.json.decode(line, type=Event)
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
            raw = await self._calls.call("GET", f"images/{reference}/json")
        except EngineNotFound:
            return None
        found = msgspec.json.decode(raw, type=FoundImage)
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
                self._calls.open(
                    "POST", "images/create", {"fromImage": repository, "tag": tag}, headers=headers
                ) as response,
            ):
                async for line in lines(response.content):
                    stalled.reschedule(loop.time() + PULL_STALL_S)
                    if error := msgspec.json.decode(line, type=Progress).error:
                        raise EngineError(error)
        except TimeoutError as error:
            raise EngineError(f"no progress for {PULL_STALL_S:.0f} s") from error

    async def import_image(self, reference: str, archive: bytes, *, platform: str) -> None:
        repository, _, tag = reference.rpartition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "platform": platform}
        await self._calls.call("POST", "images/create", query, archive)

    # --- networks and volumes (the engine's own sandbox) -----------------------------------------------------------

    async def ensure_network(self, name: str, body: Mapping[str, Any]) -> None:
        """One with that name and that subnet; of another subnet (the node registered anew) it is made anew."""
        try:
            found = msgspec.json.decode(await self._calls.call("GET", f"networks/{name}"))
        except EngineNotFound:
            pass
        else:
            subnets = [c.get("Subnet") for c in found.get("IPAM", {}).get("Config") or []]
            if subnets == [c["Subnet"] for c in body["IPAM"]["Config"]]:
                return
            await self.remove_network(name)
        await self._calls.call("POST", "networks/create", data={**body, "Name": name, "CheckDuplicate": True})

    async def has_network(self, name: str) -> bool:
        try:
            await self._calls.call("GET", f"networks/{name}")
        except EngineNotFound:
            return False
        return True

    async def remove_network(self, name: str) -> None:
        try:
            await self._calls.call("DELETE", f"networks/{name}")
        except EngineNotFound:
            return

    async def remove_volumes(self, uid: str) -> None:
        """Those that were made for a pod: they are named by its uid."""
        filters = msgspec.json.encode({"name": [f"shoal_{uid}_"]}).decode()
        raw = await self._calls.call("GET", "volumes", {"filters": filters})
        for volume in msgspec.json.decode(raw).get("Volumes") or []:
            await self._calls.call("DELETE", f"volumes/{volume['Name']}", {"force": "1"})

    # --- streams -----------------------------------------------------------------------------------------------------

    async def logs(self, container: str, query: Mapping[str, str]) -> "EngineLog":
        tty = bool(msgspec.json.decode(await self._calls.call("GET", f"containers/{container}/json"))["Config"]["Tty"])
        opened = self._calls.open("GET", f"containers/{container}/logs", {"stdout": "1", "stderr": "1", **query})
        return EngineLog(opened, await opened.__aenter__(), raw=tty)

    async def exec(
        self, container: str, command: Sequence[str], *, stdin: bool, tty: bool, env: Mapping[str, str] | None = None
    ) -> EngineTerminal:
        with translated():
            made = await self._calls.docker.containers.container(container).exec(
                command, stdin=stdin, stdout=True, stderr=not tty, tty=tty, environment=env
            )
            stream = made.start(detach=False)
            await stream.__aenter__()
        return EngineTerminal(self._calls, stream, f"exec/{made.id}")

    async def attach(self, container: str, *, stdin: bool, tty: bool) -> "EngineTerminal":  # noqa: ARG002
        with translated():
            stream = self._calls.docker.containers.container(container).attach(
                stdin=stdin, stdout=True, stderr=True, logs=False
            )
            await stream.__aenter__()
        return EngineTerminal(self._calls, stream, f"containers/{container}")

    async def info(self) -> EngineInfo:
        found = msgspec.json.decode(await self._calls.call("GET", "info"))
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
