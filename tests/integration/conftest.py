"""A real nats-server for all tests of a module, and for each test a connection, and a store under a prefix of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus, connect
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
    """A server that a test may kill."""
    async with NatsServer(tmp_path / "nats") as server:
        yield server
