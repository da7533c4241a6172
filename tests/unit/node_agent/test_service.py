"""The agent's shell without a bus: whom it adopts, confirms and forgets."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio
from tests.unit.node_agent.made import a_fact, a_pod, a_sandbox
from tests.unit.node_agent.simulated import SimulatedRuntime

from shoal import names
from shoal.config import BusConfig
from shoal.model.pod import BoundPod
from shoal.names import Names, ObjectKey
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.host import Host
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import EngineInfo
from shoal.node_agent.service import Agent
from shoal.store.records import Entry
from shoal.wire import RegisterReply

KEY = ObjectKey("pods", "default", "web-1")


class Bus:
    def __init__(self) -> None:
        self.names = Names()
        self.connected = asyncio.Event()


class NoRecords:
    """A store in which nothing is bound."""

    async def get(self, _key: str) -> None:
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def agent(tmp_path: Path) -> Agent:
    runtime: Any = SimulatedRuntime()
    runtime.owner = Owner("c1", "n1")
    bus: Any = Bus()
    addresses = KeptAddresses(tmp_path / "addresses", "10.208.0.0/24")
    registered = RegisterReply(node_uid="n", cluster_uid="c1", pod_cidr="10.208.0.0/24", cluster_cidr="10.208.0.0/12")
    config = AgentConfig(bus=BusConfig(), node="n1", state=tmp_path)
    host = Host(name="n1", address="192.0.2.1")
    made = Agent(config, bus, runtime, EngineInfo(), host, registered, addresses, None, "net")
    made.store = NoRecords()  # type: ignore[assignment]
    made.node.sandbox_image = "sandbox:1"
    return made


async def test_what_runs_keeps_its_address_though_the_file_is_lost(agent: Agent) -> None:
    sandbox = a_sandbox()
    labels = msgspec.structs.replace(sandbox.labels, address="10.208.0.2")
    async with asyncio.TaskGroup() as tasks:
        agent._tasks = tasks
        agent._engine_listed((msgspec.structs.replace(sandbox, labels=labels), a_fact()), 0.0)
        assert str(agent.node.addresses.of("u1")) == "10.208.0.2"
        assert str(await agent.node.addresses.give("new")) != "10.208.0.2"
        agent.workers["u1"].unwanted()


async def test_a_container_that_comes_back_without_a_record_goes(agent: Agent) -> None:
    """Also one that the engine lists long after the agent's start."""
    agent._synced.set()
    fact = a_fact()
    agent.runtime.facts[fact.id] = fact  # type: ignore[attr-defined]
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        agent._tasks = tasks
        agent._engine_listed((fact,), 0.0)
    assert agent.runtime.facts == {}  # type: ignore[attr-defined]
    assert agent.workers == {}


async def test_nothing_is_kept_of_pods_that_ended(agent: Agent) -> None:
    """Whether the record goes before the last container or after it."""
    agent.node.engine_up.set()
    for number in range(10):
        uid = f"u{number}"
        pod = a_pod(deleted=True, grace=0, metadata={"uid": uid})
        key = names.bound("n1", KEY)
        entry = Entry(key, msgspec.json.encode(BoundPod(pod=pod, drained=True)), 1)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            agent._tasks = tasks
            agent._entry(entry)
            while number % 2 and agent.workers:
                await asyncio.sleep(0)
            agent._entry(Entry(key, None, 2))
    reporter = agent.reporter
    assert (agent.workers, agent._uids) == ({}, {})
    assert (reporter._waiting, reporter._asked, reporter._sent, reporter._revisions) == ({}, {}, {}, {})
