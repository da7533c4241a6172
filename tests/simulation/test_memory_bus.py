"""The memory bus does what nats-server does: every case is asked of both, and their answers are the same."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.simulation.cases import CASES, Case
from tests.simulation.nats.network import Network

from shoal.bus.connecting import connect
from shoal.config import BusConfig
from shoal.local.nats_server import NatsServer
from shoal.names import Names
from shoal.store.streams import ensure_streams

STATE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


async def observe(case: Case, config: BusConfig) -> object:
    async with connect(config, name="case") as bus:
        await ensure_streams(bus, state_bytes=STATE_BYTES)
        return await case(bus)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_both_servers_say_the_same(case: Case, nats_server: NatsServer) -> None:
    names = Names(prefix=case.__name__.replace("_", "-"))
    real = asyncio.run(observe(case, BusConfig(servers=(nats_server.url,), names=names)))
    with Network(seed=1) as network:
        simulated = network.run("case", lambda: observe(case, BusConfig(names=names)))
    assert simulated == real
