"""The agent's shell without a bus: whom it adopts, confirms and forgets."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.unit.node_agent.made import a_fact, a_pod, a_sandbox
from tests.unit.node_agent.simulated import SimulatedRuntime

from shoal import names
from shoal.config import BusConfig
from shoal.model.node import NodeStatus
from shoal.model.pod import BoundPod
from shoal.names import Names, ObjectKey
from shoal.node_agent import service
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.host import Host
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import EngineInfo
from shoal.node_agent.self_report import SelfReport
from shoal.node_agent.service import Agent
from shoal.node_agent.status import time_of
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


def of_node(agent: Agent) -> NodeStatus:
    """What is told of the node next."""
    report = agent.reporter._waiting[ObjectKey("nodes", "", "n1"), "n"]
    return msgspec.json.decode(report.status, type=NodeStatus)


async def listed(agent: Agent) -> NodeStatus:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        agent._tasks = tasks
        agent._engine_listed((), 0.0)
    return of_node(agent)


async def test_ready_tells_since_when_it_is_so_over_restarts_too(agent: Agent, tmp_path: Path) -> None:
    now = 1_000_000.0
    agent.node.now = lambda: now
    since = (await listed(agent)).conditions[0].last_transition_time
    now += 60
    assert (await listed(agent)).conditions[0].last_transition_time == since
    again = SelfReport(agent.node, agent.host, "n", sandbox="fast", file=tmp_path / "ready.json")
    again.tell()
    assert of_node(agent).conditions[0].last_transition_time == since
    again.tell("it broke off")
    lost = of_node(agent).conditions[0]
    assert (lost.status, lost.last_transition_time) == ("False", time_of(now))
    now += 60
    again.tell("it is still away")
    still = of_node(agent).conditions[0]
    assert (still.last_transition_time, still.message) == (
        time_of(now - 60),
        "the container engine does not answer: it is still away",
    )


async def test_an_engine_that_comes_back_another_is_described_anew(agent: Agent) -> None:
    before = await listed(agent)
    assert before.node_info is not None
    assert (before.node_info.container_runtime_version, before.capacity["cpu"]) == ("docker://20.10", "2")

    async def info() -> EngineInfo:
        return EngineInfo(version="29.0", architecture="x86_64", cpus=8, memory_bytes=16 << 30)

    agent.runtime.info = info  # type: ignore[method-assign]
    after = await listed(agent)
    assert after.node_info is not None
    assert (after.node_info.container_runtime_version, after.capacity["cpu"]) == ("docker://29.0", "8")
    assert (after.capacity["memory"], agent.node.engine.version) == ("16Gi", "29.0")


async def test_a_description_that_comes_late_does_not_say_that_the_engine_answers(agent: Agent) -> None:
    await listed(agent)
    agent.node.engine_up.clear()
    agent.report.tell("it broke off")
    await agent.report.look()
    assert of_node(agent).conditions[0].status == "False"


async def test_what_is_left_over_is_collected_with_every_list_and_one_that_stays_keeps_nothing_back(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[str] = []
    release = agent.node.volumes.release

    def stubborn(uid: str) -> None:
        rounds.append(uid)
        if uid == "a-busy":
            raise OSError(errno.EBUSY, "device or resource busy")
        release(uid)

    def left(*uids: str) -> None:
        for uid in uids:
            (tmp_path / "pods" / uid / "etc").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(agent.node.volumes, "release", stubborn)
    monkeypatch.setattr(service, "NODE_TOLD_S", 0.0)
    left("a-busy", "b")
    await agent.node.addresses.give("b")
    agent._synced.set()
    agent._listed.set()
    ended: asyncio.Queue[None] = asyncio.Queue()
    collect = agent.collector.collect

    async def told() -> None:
        await collect()
        ended.put_nowait(None)

    monkeypatch.setattr(agent.collector, "collect", told)
    collecting = asyncio.create_task(agent._collect())
    try:
        await asyncio.wait_for(ended.get(), 5)
        assert (agent.node.volumes.uids(), agent.node.addresses.of("b")) == ({"a-busy"}, None)
        left("c")
        agent._listed.set()
        await asyncio.wait_for(ended.get(), 5)
        assert rounds == ["a-busy", "b", "a-busy", "c"]
        assert not collecting.done()
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
