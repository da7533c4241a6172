"""A real nats-server for all tests of a module, and for each test a connection, and a store under a prefix of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio

from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.local.nats_server import NatsServer
from shoal.names import Names
from shoal.store.store import Store
from shoal.store.streams import ensure_streams, stream_configs

STATE_BYTES = 128 << 20
_prefixes = itertools.count(1)


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the module's tests. It lives outside of any test's event loop."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


@pytest.fixture
def bus_config(nats_server: NatsServer) -> BusConfig:
    return BusConfig(servers=(nats_server.url,), names=Names(prefix=f"t{next(_prefixes)}"))


@pytest_asyncio.fixture
async def bus(bus_config: BusConfig) -> AsyncIterator[Bus]:
    """Connected, under a prefix of the test's own, the streams made; they are removed again."""
    async with connect(bus_config, name="test") as bus:
        await ensure_streams(bus, state_bytes=STATE_BYTES)
        yield bus
        for config in stream_configs(bus.names):
            await js.api(bus, f"STREAM.DELETE.{config['name']}")


@pytest.fixture
def store(bus: Bus) -> Store:
    return Store(bus)


@pytest_asyncio.fixture
async def another(bus: Bus) -> AsyncIterator[Callable[[], Awaitable[Bus]]]:
    """Further connections, as other processes have."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(connect(bus.config, name="another"))


@pytest_asyncio.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that the test may kill."""
    async with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest_asyncio.fixture
async def own_bus(own_server: NatsServer) -> AsyncIterator[Bus]:
    async with connect(BusConfig(servers=(own_server.url,)), name="test") as bus:
        await ensure_streams(bus)
        yield bus


class Cable:
    """A TCP relay between a client and a server: it can be cut (both sides hear it) or swallow what passes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def swallow(self) -> None:
        """Nothing passes any more, and nobody is told: also not of new connections."""
        self._open.clear()

    def heal(self) -> None:
        """New connections pass; the old ones stay dead."""
        self.cut()
        self._open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, server_writer}
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.create_task(self._relay(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest_asyncio.fixture
async def cable(nats_server: NatsServer) -> AsyncIterator[Cable]:
    async with Cable(nats_server.port) as cable:
        yield cable


@pytest.fixture
def cable_class() -> type[Cable]:
    return Cable
