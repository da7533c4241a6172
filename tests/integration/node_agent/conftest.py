"""One real engine for all tests of a module, in a host of their own; skipped with the reason where there can be none."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.integration.node_agent.host import EngineHost, why_not

from shoal import names
from shoal.api.service import Settings
from shoal.api.service import serve as serve_api
from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.local.nats_server import NatsServer
from shoal.model.node import Node
from shoal.model.pod import BoundPod, Pod, PodStatus
from shoal.model.registry import encode
from shoal.names import Names, ObjectKey
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.store.records import Delete, Put
from shoal.store.store import Store
from shoal.store.stored import Observed
from shoal.store.streams import ensure_streams, stream_configs


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    if reason := why_not():
        pytest.skip(reason)
    made = EngineHost(tmp_path_factory.mktemp("host"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest_asyncio.fixture
async def engine(host: EngineHost) -> AsyncIterator[Engine]:
    """The adapter, for containers of cluster c1 and node n1; what it made is removed."""
    made = Engine(host.docker_host, Owner("c1", "n1"))
    yield made
    for fact in await made.owned():
        await made.remove(fact.id)
    await made.close()


# --- a whole agent, with a real api and nats-server ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def reachable_nats(host: EngineHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server on the machine's end of the host's link."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), host=host.outside)
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


class Agent:
    """The agent of node n1 as a process inside the host, and what the control plane would tell it."""

    def __init__(self, host: EngineHost, bus: Bus, state: Path) -> None:
        self.host = host
        self.bus = bus
        self.state = state
        self.store = Store(bus)
        self.env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = state.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "NATS_URL": ",".join(self.bus.config.servers),
            "SHOAL_PREFIX": self.bus.names.prefix,
            "SHOAL_NODE": "n1",
            "SHOAL_STATE_DIR": str(self.state),
            "SHOAL_LOG": "json",
            "DOCKER_HOST": self.host.docker_host,
            "HOME": str(self.state),
            **self.env,
        }

    def _argv(self, *arguments: str) -> list[str]:
        return self.host.enter([sys.executable, "-m", "shoal.node_agent", *arguments])

    async def start(self, **env: str) -> None:
        """Returns when it says `ready`."""
        self.env = env
        self.log.touch()
        said = self.log.read_text().count('"event":"ready"')
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv(), stderr=log, env=self._environment())  # noqa: ASYNC220
        async with asyncio.timeout(60):
            while self.log.read_text().count('"event":"ready"') == said:
                assert self._process.poll() is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.05)  # its log is a file

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(30)

    def clean(self) -> None:
        done = subprocess.run(self._argv("clean"), env=self._environment(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    # --- the control plane's part ----------------------------------------------------------------------------------------

    @property
    def node(self) -> ObjectKey:
        return ObjectKey("nodes", "", "n1")

    async def node_record(self) -> Node:
        entry = await self.store.get(names.desired(self.node))
        assert entry is not None
        assert entry.value is not None
        return msgspec.json.decode(entry.value, type=Node)

    async def bind(self, pod: Pod, *, drained: bool = False) -> None:
        """As the scheduler does: the pod with its node, and the node's copy, in one batch."""
        key = ObjectKey("pods", pod.metadata.namespace, pod.metadata.name)
        bound = msgspec.json.encode(BoundPod(pod=pod, drained=drained))
        await self.store.commit(
            [
                Put(names.desired(key), encode(pod), await self._revision(names.desired(key))),
                Put(names.bound("n1", key), bound, await self._revision(names.bound("n1", key))),
            ]
        )

    async def delete(self, pod: Pod, *, grace: int = 0) -> None:
        """As the api and delivery do: a deletion time, and nothing routes to it any more."""
        metadata = msgspec.structs.replace(
            pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z", deletion_grace_period_seconds=grace
        )
        await self.bind(msgspec.structs.replace(pod, metadata=metadata), drained=True)

    async def erase(self, pod: Pod) -> None:
        """As a forced deletion does: no record is left."""
        key = ObjectKey("pods", pod.metadata.namespace, pod.metadata.name)
        entries = (names.desired(key), names.bound("n1", key))
        await self.store.commit([Delete(e, await self._revision(e)) for e in entries])

    async def _revision(self, key: str) -> int:
        entry = await self.store.get(key)
        return entry.revision if entry is not None else 0

    async def observed(self, key: ObjectKey) -> Observed | None:
        entry = await self.store.get(names.observed("n1", key))
        return msgspec.json.decode(entry.value, type=Observed) if entry is not None and entry.value else None

    async def status(self, pod: Pod, wanted: Callable[[PodStatus], bool], *, within: float = 60) -> PodStatus:
        """The pod's reported status, once it is as wanted."""
        key = ObjectKey("pods", pod.metadata.namespace, pod.metadata.name)
        found: PodStatus | None = None

        async def look() -> bool:
            nonlocal found
            if (seen := await self.observed(key)) is None or seen.uid != pod.metadata.uid:
                return False
            found = msgspec.json.decode(seen.status, type=PodStatus)
            return wanted(found)

        try:
            await until(look, within=within)
        except TimeoutError:
            raise AssertionError(f"{found}\n{self.log.read_text()[-2000:]}") from None
        assert found is not None
        return found

    async def gone(self, pod: Pod) -> None:
        key = ObjectKey("pods", pod.metadata.namespace, pod.metadata.name)

        async def look() -> bool:
            seen = await self.observed(key)
            return seen is not None and seen.gone

        await until(look)


async def until(look: Callable[[], Awaitable[bool]], *, within: float = 60) -> None:
    async with asyncio.timeout(within):
        while not await look():
            await asyncio.sleep(0.05)  # it is another process's to do, and it tells a store that is read


def ready(status: PodStatus) -> bool:
    return bool(status.container_statuses) and all(c.ready for c in status.container_statuses)


_prefixes = iter(range(1, 1000))


@pytest_asyncio.fixture
async def control(reachable_nats: NatsServer) -> AsyncIterator[Bus]:
    """A cluster of the test's own: streams and an api."""
    config = BusConfig(servers=(reachable_nats.url,), names=Names(prefix=f"a{next(_prefixes)}"))
    async with connect(config, name="test") as bus:
        await ensure_streams(bus, state_bytes=64 << 20)
        answering = asyncio.Event()
        api = asyncio.create_task(serve_api(config, Settings(), on_ready=answering.set), name="api")
        await answering.wait()
        yield bus
        api.cancel()
        with suppress(asyncio.CancelledError):
            await api
        for stream in stream_configs(bus.names):
            await js.api(bus, f"STREAM.DELETE.{stream['name']}")


@pytest_asyncio.fixture
async def agent(host: EngineHost, control: Bus, tmp_path: Path) -> AsyncIterator[Agent]:
    """Started; at the end it is stopped and its node taken off the host, and nothing must be left of it."""
    made = Agent(host, control, tmp_path / "state")
    await made.start()
    yield made
    made.end()
    if registered := (made.state / "registration.json").exists():  # else the test has cleaned up itself
        for destination in ("10.208.66.0/23", "10.64.0.0/23"):  # a proxy's, and another cluster's
            host.run("ip", "route", "add", destination, "via", host.outside, "proto", "83")
    made.clean()
    routes = host.run("ip", "route", "show", "proto", "83")
    host.run("ip", "route", "flush", "proto", "83")
    assert ("10.208." in routes, "10.64.0.0/23" in routes) == (False, registered)
    left: dict[str, Any] = {
        "containers": host.containers(),
        "links": [line for line in host.run("ip", "-br", "link").splitlines() if line.startswith(("sv", "shoal"))],
        "tables": [line for line in host.run("nft", "list", "tables").splitlines() if "shoal" in line],
        "rules": [line for line in host.run("iptables", "-S").splitlines() if "shoal" in line.lower()],
        "mounts": [line for line in host.run("cat", "/proc/mounts").splitlines() if str(made.state) in line],
        "files": list(made.state.iterdir()) if made.state.exists() else [],
    }
    assert {k: v for k, v in left.items() if v} == {}
