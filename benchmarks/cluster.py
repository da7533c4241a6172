"""A lab to measure on, and the few things that every benchmark does with it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import aiodocker
import msgspec

from shoal import names, wire
from shoal.bus.connecting import connect
from shoal.client import Client
from shoal.config import BusConfig
from shoal.errors import NotFound
from shoal.local.lab import Lab
from shoal.model.pod import Pod

IMAGE = "shoal/busybox"
COMMAND = ("sleep", "3600")
MAIN = "main"
_SPEC = {
    "containers": [{"name": MAIN, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(COMMAND)}],
    "terminationGracePeriodSeconds": 0,
}


class Cluster:
    """`client` talks to the lab's api; everything lies in one namespace, which `clear()` empties."""

    def __init__(self, lab: Lab, client: Client) -> None:
        self.lab, self.client = lab, client
        self.namespace = "default"

    async def apply(self, *documents: Mapping[str, Any]) -> None:
        text = "\n---\n".join(msgspec.json.encode(d).decode() for d in documents)
        reply = await self.client.apply(wire.ApplyRequest(manifest=text))
        failed = [r.error for r in reply.results if r.error] + ([reply.error] if reply.error else [])
        if failed:
            raise RuntimeError(failed[0].message)

    async def publish(self, document: Mapping[str, Any]) -> None:
        """Returns when JetStream has acknowledged it."""
        await self.client.publish(msgspec.json.encode(document))

    def replicaset(self, name: str, replicas: int) -> dict[str, Any]:
        """Of pods that end at once when they are deleted."""
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": _SPEC,
                },
            },
        }

    def pod(self, name: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": _SPEC,
        }

    async def clear(self) -> None:
        for resource in ("replicasets", "pods"):
            for item in (await self.client.list(resource, self.namespace)).items:
                name = msgspec.json.decode(item)["metadata"]["name"]
                with suppress(NotFound):  # a set's pods go with it
                    await self.client.delete(
                        resource, self.namespace, wire.DeleteRequest(name=name, grace_period_seconds=0)
                    )
        async for pods in self.pods():
            if not pods:
                return

    async def pods(self) -> AsyncIterator[list[Pod]]:
        """The pods of the namespace, again at each change."""
        reply = await self.client.list("pods", self.namespace)
        known = {p.metadata.uid: p for p in (msgspec.json.decode(i, type=Pod) for i in reply.items)}
        yield list(known.values())
        async for event in self.client.watch("pods", self.namespace, since=reply.metadata["resourceVersion"]):
            pod = msgspec.json.decode(event.object, type=Pod)
            known[pod.metadata.uid] = pod
            if event.type == "DELETED":
                del known[pod.metadata.uid]
            yield list(known.values())

    async def until_running(self, count: int) -> None:
        async for pods in self.pods():
            if len(pods) == count and all(p.status.phase == "Running" for p in pods):
                return


@asynccontextmanager
async def cluster(hosts: int) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(Lab.started(f"bench-{secrets.token_hex(2)}", hosts=hosts))
        bus = await stack.enter_async_context(connect(BusConfig(servers=(lab.nats_url,)), name="bench"))
        yield Cluster(lab, Client(bus))


@asynccontextmanager
async def engines(lab: Lab) -> AsyncIterator[list[aiodocker.Docker]]:
    """A client for each host's engine."""
    async with AsyncExitStack() as stack:
        made = (aiodocker.Docker(url=f"unix://{lab.docker_socket(host)}") for host in lab.hosts)
        yield [await stack.enter_async_context(docker) for docker in made]


class Starts:
    """When each container started, as its engine told, by this process' clock. Pods by name, plain ones by id."""

    def __init__(self, engines: Sequence[aiodocker.Docker]) -> None:
        self._engines = engines
        self._at: dict[str, float] = {}
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for engine in self._engines:
            events = engine.events.subscribe(filters=msgspec.json.encode({"event": ["start"]}).decode())  # type: ignore[no-untyped-call]
            self._tasks.append(asyncio.create_task(self._listen(events)))
        await asyncio.sleep(0.5)  # an engine does not say when it began to tell
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for engine in self._engines:
            await engine.events.stop()  # type: ignore[no-untyped-call]

    async def _listen(self, events: Any) -> None:
        while (event := await events.get()) is not None:
            actor = event["Actor"]
            if actor["Attributes"].get(names.CONTAINER_NAME, "") not in ("", MAIN):
                continue  # a sandbox
            async with self._news:
                self._at[actor["Attributes"].get(names.CONTAINER_POD_NAME, actor["ID"])] = time.perf_counter()
                self._news.notify_all()

    async def of(self, name: str, *, after: float = 0.0) -> float:
        """The clock's reading at the newest start of `name` that is later than `after`; awaited."""
        async with self._news:
            await self._news.wait_for(lambda: self._at.get(name, -1.0) > after)
        return self._at[name]

    async def count(self, total: int) -> float:
        """The clock's reading when the last of `total` containers started."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._at) >= total)
        return max(self._at.values())

    def forget(self) -> None:
        self._at.clear()
