"""One pod's worker on a simulated runtime: what it asks of the engine, in which order, and what it reports."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.unit.node_agent.made import a_pod
from tests.unit.node_agent.simulated import SimulatedRuntime

from shoal.errors import ShoalError, Unavailable
from shoal.model.pod import Pod, PodStatus
from shoal.names import ObjectKey
from shoal.node_agent.images import Images
from shoal.node_agent.kept import Kept
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.node import Node
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import EXITED, RUNNING, EngineError, EngineInfo, Image
from shoal.node_agent.turns import Turns
from shoal.node_agent.volumes import Volumes
from shoal.node_agent.worker import Worker

KEY = ObjectKey("pods", "default", "web-1")


class FakeNetwork:
    def __init__(self) -> None:
        self.connected: list[str] = []
        self.ports: dict[str, Any] = {}
        self.fail: list[Exception] = []

    async def connect(self, uid: str, pid: int, address: Any, sysctls: Any) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.connected.append(f"{uid} {pid} {address}")

    async def disconnect(self, uid: str) -> None:
        self.connected.append(f"not {uid}")

    async def set_ports(self, uid: str, ports: Any) -> None:
        self.ports[uid] = ports


class Heard:
    """A reporter that keeps everything, and wakes whoever waits for something."""

    def __init__(self) -> None:
        self.statuses: list[PodStatus] = []
        self.gone = False
        self.events: list[tuple[str, str]] = []
        self.paths: list[str] = []
        self._changed = asyncio.Event()

    def pod(self, key: Any, uid: str, status: Any, *, gone: bool, traceparent: str) -> None:
        self.statuses.append(status)
        self.gone = gone
        self._changed.set()

    def event(self, key: Any, uid: str, type_: str, reason: str, message: str, *, field_path: str) -> None:
        self.paths.append(field_path)
        self.events.append((reason, message))

    async def until(self, wanted: Callable[[PodStatus], bool]) -> PodStatus:
        async with asyncio.timeout(5):
            while not (self.statuses and wanted(self.statuses[-1])):
                self._changed.clear()
                await self._changed.wait()
        return self.statuses[-1]

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]


class Case:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = SimulatedRuntime()
        self.network = FakeNetwork()
        self.heard = Heard()
        self.node = Node(
            name="n1",
            address="192.0.2.1",
            owner=Owner("c1", "n1"),
            runtime=self.runtime,
            images=Images(self.runtime, self.runtime.monotonic),
            addresses=KeptAddresses(folder / "addresses", "10.208.0.0/24"),
            volumes=Volumes(folder / "pods", shared=True),
            network=self.network,
            engine_network="",
            sandbox_image="sandbox:1",
            engine=EngineInfo(memory_bytes=8 << 30),
            reporter=self.heard,
            kept=Kept(folder / "status"),
            turns=Turns(4),
            now=lambda: self.runtime.now,
            monotonic=self.runtime.monotonic,
        )
        self.node.engine_up.set()
        self.worker = Worker(self.node, KEY, "u1")
        self.runtime.listeners.append(self.worker.changed)
        self.task: asyncio.Task[None] | None = None

    def begin(self, pod: Pod | None) -> None:
        self.task = asyncio.create_task(self.worker.run())
        if pod is not None:
            self.want(pod)

    def want(self, pod: Pod, *, drained: bool = False) -> None:
        self.worker.wanted(pod, drained=drained, traceparent="")

    async def running(self, pod: Pod | None = None) -> PodStatus:
        self.begin(pod or a_pod())
        return await self.heard.until(ready)

    async def end(self) -> None:
        """As the agent's: what is kept is on disk then."""
        keeping = asyncio.create_task(self.node.kept.run())
        await asyncio.sleep(0)
        for task in (self.task, keeping):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def restart(self) -> None:
        """Another agent in its place, later, which has been told nothing yet."""
        await self.end()
        self.runtime.now += 1000
        self.runtime.listeners.clear()
        self.heard.statuses.clear()
        self.node.kept = Kept(self.folder / "status")
        self.node.images = Images(self.runtime, self.runtime.monotonic)
        self.worker = Worker(self.node, KEY, "u1")
        self.runtime.listeners.append(self.worker.changed)
        self.worker.listed(tuple(self.runtime.facts.values()))


def ready(status: PodStatus) -> bool:
    return bool(status.container_statuses) and all(c.ready for c in status.container_statuses)


def waiting(reason: str) -> Callable[[PodStatus], bool]:
    def look(status: PodStatus) -> bool:
        state = status.container_statuses[0].state
        return state.waiting is not None and state.waiting.reason == reason

    return look


def deleted(pod: Pod, grace: int = 30) -> Pod:
    metadata = msgspec.structs.replace(
        pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z", deletion_grace_period_seconds=grace
    )
    return msgspec.structs.replace(pod, metadata=metadata)


@pytest_asyncio.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    made = Case(tmp_path)
    yield made
    await made.end()


async def test_a_pod_starts_with_few_calls_in_the_right_order(case: Case) -> None:
    status = await case.running()
    calls = [c.partition(" ")[0] for c in case.runtime.calls]
    assert sorted(calls) == ["create", "create", "image", "pid", "start", "start"], "nothing is asked twice"
    assert calls.index("pid") < len(calls) - 1 - calls[::-1].index("start"), "plumbed before its container starts"
    assert case.network.connected == ["u1 4242 10.208.0.2/24"]
    assert (status.phase, status.pod_ip, status.host_ip) == ("Running", "10.208.0.2", "192.0.2.1")
    assert case.heard.reasons == ["Pulled", "Created", "Started"]


async def test_a_container_that_ends_is_back_at_once(case: Case) -> None:
    await case.running()
    case.runtime.die(case.runtime.of("web")[0], 1)
    status = await case.heard.until(lambda s: s.container_statuses[0].restart_count == 1 and ready(s))
    last = status.container_statuses[0].last_state.terminated
    assert last is not None
    assert (last.exit_code, last.reason) == (1, "Error")
    assert [f.state for f in case.runtime.of("web")] == [EXITED, RUNNING]
    assert len(case.runtime.of("")) == 1, "in the same sandbox"


async def test_the_second_restart_waits_and_says_so(case: Case) -> None:
    await case.running()
    case.runtime.die(case.runtime.of("web")[0], 1)
    await case.heard.until(lambda s: s.container_statuses[0].restart_count == 1 and ready(s))
    case.runtime.die(case.runtime.of("web")[1], 1)
    status = await case.heard.until(waiting("CrashLoopBackOff"))
    state = status.container_statuses[0].state.waiting
    assert state is not None
    assert state.message == "back-off 10s restarting failed container=web pod=web-1_default(u1)"
    assert status.container_statuses[0].last_state.terminated is not None
    assert "BackOff" in case.heard.reasons


async def test_out_of_memory_has_its_own_reason(case: Case) -> None:
    await case.running()
    case.runtime.die(case.runtime.of("web")[0], 137, oom=True)
    status = await case.heard.until(lambda s: s.container_statuses[0].last_state.terminated is not None)
    last = status.container_statuses[0].last_state.terminated
    assert last is not None
    assert last.reason == "OOMKilled"


async def test_what_cannot_start_says_why_and_is_tried_again(case: Case) -> None:
    refused = EngineError('exec: "/nope": no such file or directory', status=400)
    case.runtime.hang["start"] = asyncio.Event()
    case.begin(a_pod())
    case.runtime.hang.pop("start").set()
    await case.heard.until(ready)
    case.runtime.fail["start"] = [refused]
    case.runtime.die(case.runtime.of("web")[0], 1)
    status = await case.heard.until(waiting("CrashLoopBackOff"))
    last = status.container_statuses[0].last_state.terminated
    assert last is not None
    assert (last.reason, last.exit_code) == ("StartError", 128)
    assert "/nope" in last.message


async def test_an_image_that_cannot_be_had_and_then_can(case: Case) -> None:
    pod = a_pod(containers=[{"name": "web", "image": "r.example/x", "imagePullPolicy": "IfNotPresent"}])
    case.begin(pod)
    status = await case.heard.until(waiting("ErrImagePull"))
    assert status.phase == "Pending"
    assert case.worker.waits("web") == "ErrImagePull"
    case.runtime.registry["r.example/x"] = Image(id="sha256:x", digest="r.example/x@sha256:x")
    case.runtime.now += 10
    case.want(pod)
    status = await case.heard.until(ready)
    assert status.container_statuses[0].image_id == "docker-pullable://r.example/x@sha256:x"
    assert "Pulling" in case.heard.reasons


async def test_each_container_has_events_of_its_own(case: Case) -> None:
    broken = [{"name": n, "image": f"r.example/{n}", "imagePullPolicy": "IfNotPresent"} for n in ("a", "b")]
    case.begin(a_pod(containers=broken))
    await case.heard.until(lambda s: all(c.state.waiting and c.state.waiting.message for c in s.container_statuses))
    told = {
        (path, message)
        for path, (reason, message) in zip(case.heard.paths, case.heard.events, strict=True)
        if reason == "Failed"
    }
    assert told == {
        (f"spec.containers{{{n}}}", message)
        for n in ("a", "b")
        for message in (
            f'Failed to pull image "r.example/{n}": manifest for r.example/{n} not found',
            "Error: ErrImagePull",
        )
    }
    await case.end()
    case.worker = Worker(case.node, KEY, "u1")
    case.begin(a_pod(initContainers=[{"name": "init", "image": "shoal/web", "imagePullPolicy": "IfNotPresent"}]))
    await case.heard.until(
        lambda s: bool(s.init_container_statuses) and s.init_container_statuses[0].state.running is not None
    )
    assert "spec.initContainers{init}" in case.heard.paths


async def test_an_image_that_went_meanwhile_is_looked_for_again(case: Case) -> None:
    pod = a_pod(containers=[{"name": "web", "image": "shoal/web", "imagePullPolicy": "IfNotPresent"}])
    await case.running(pod)
    case.runtime.registry["shoal/web"] = case.runtime.images.pop("shoal/web")
    case.runtime.die(case.runtime.of("web")[0], 1)
    async with asyncio.timeout(5):
        while not case.worker.known.failures:
            await asyncio.sleep(0)
    case.runtime.now += 1
    case.want(pod)
    await case.heard.until(lambda s: ready(s) and s.container_statuses[0].restart_count == 1)
    assert "pull shoal/web" in case.runtime.calls


async def test_a_slow_pull_holds_no_deletion_up(case: Case) -> None:
    pod = a_pod(containers=[{"name": "web", "image": "r.example/x", "imagePullPolicy": "Always"}])
    case.runtime.hang["pull"] = asyncio.Event()
    case.begin(pod)
    async with asyncio.timeout(5):
        while "pull r.example/x" not in case.runtime.calls:
            await asyncio.sleep(0)
    case.want(deleted(pod), drained=True)
    assert case.task is not None
    await asyncio.wait_for(case.task, 5)
    assert case.heard.gone, "while the pull hangs still"
    assert case.node.addresses.of("u1") is None
    assert case.runtime.facts == {}
    case.runtime.registry["r.example/x"] = Image(id="sha256:x")
    case.runtime.hang["pull"].set()
    async with asyncio.timeout(5):
        while "r.example/x" not in case.runtime.images:  # it goes on for others
            await asyncio.sleep(0)
    await case.node.images.close()


async def test_a_shorter_grace_given_while_it_is_stopped_counts(case: Case) -> None:
    await case.running()
    case.runtime.hang["stop"] = asyncio.Event()
    case.want(deleted(a_pod(), grace=3600), drained=True)
    async with asyncio.timeout(5):
        while not any(c.startswith("stop") for c in case.runtime.calls):
            await asyncio.sleep(0)
    case.want(deleted(a_pod(), grace=5), drained=True)
    for _ in range(20):
        await asyncio.sleep(0)
    assert case.runtime.of("web"), "it has five seconds"
    case.runtime.now += 5
    case.want(deleted(a_pod(), grace=5), drained=True)
    async with asyncio.timeout(5):
        while case.runtime.facts:
            await asyncio.sleep(0)
    case.runtime.hang["stop"].set()
    assert case.task is not None
    await asyncio.wait_for(case.task, 5)
    assert case.heard.gone


async def test_a_file_system_that_hangs_holds_nobody_else_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow(of: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*arguments: Any) -> Any:
            assert gate.wait(5), "the loop was held up"
            return of(*arguments)

        return waits

    volumes = case.node.volumes
    monkeypatch.setattr(volumes, "prepare", slow(volumes.prepare))
    monkeypatch.setattr(volumes, "mounts", slow(volumes.mounts))
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await case.running()


async def test_a_sandbox_says_its_pods_address(case: Case) -> None:
    await case.running()
    (sandbox,) = case.runtime.of("")
    assert sandbox.labels.address == "10.208.0.2"
    assert case.runtime.of("web")[0].labels.address == ""


async def test_a_deleted_pod_leaves_nothing_and_says_so(case: Case, tmp_path: Path) -> None:
    await case.running()
    assert (tmp_path / "pods" / "u1" / "etc" / "hosts").exists()
    case.want(deleted(a_pod(), grace=7), drained=True)
    assert case.task is not None
    await asyncio.wait_for(case.task, 5)
    assert case.heard.gone
    assert case.runtime.facts == {}
    assert "stop id2 7" in case.runtime.calls or "stop id1 7" in case.runtime.calls
    assert case.node.addresses.of("u1") is None
    assert not (tmp_path / "pods" / "u1").exists()
    assert case.network.connected[-1] == "not u1"
    assert "Killing" in case.heard.reasons


async def test_what_has_no_record_goes_and_nothing_is_reported(case: Case) -> None:
    await case.running()
    said = len(case.heard.statuses)
    case.worker.unwanted()
    assert case.task is not None
    await asyncio.wait_for(case.task, 5)
    assert case.runtime.facts == {}
    assert not case.heard.gone
    assert all(s.phase == "Running" for s in case.heard.statuses[said:])


async def test_an_agent_that_restarts_adopts_and_starts_nothing(case: Case) -> None:
    await case.running()
    case.runtime.die(case.runtime.of("web")[0], 1)
    await case.heard.until(lambda s: s.container_statuses[0].restart_count == 1 and ready(s))
    await case.end()
    case.runtime.calls.clear()
    case.heard.statuses.clear()
    case.worker = Worker(case.node, KEY, "u1")
    case.worker.listed(tuple(case.runtime.facts.values()))
    status = await case.running()
    assert status.container_statuses[0].restart_count == 1, "counted on"
    assert [c for c in case.runtime.calls if c.startswith(("create", "start", "stop", "remove"))] == []


async def test_a_restart_changes_nothing_of_the_status_of_what_runs(case: Case) -> None:
    case.runtime.registry["r.example/x"] = Image(id="sha256:x", digest="r.example/x@sha256:x")
    pod = a_pod(containers=[{"name": "web", "image": "r.example/x", "imagePullPolicy": "IfNotPresent"}])
    before = await case.running(pod)
    await case.restart()
    await case.running(pod)
    await case.heard.until(lambda _: bool(case.worker.known.connected))
    assert case.heard.statuses == [before] * len(case.heard.statuses)


@pytest.mark.parametrize(("policy", "codes"), [("Never", [3]), ("OnFailure", [1, 1, 0])])
async def test_nor_of_what_has_finished(case: Case, policy: str, codes: list[int]) -> None:
    """Whose address and files are given back, and whose first containers are gone."""
    container = {"name": "web", "image": "shoal/web", "terminationMessagePolicy": "FallbackToLogsOnError"}
    pod = a_pod(containers=[container], restartPolicy=policy)
    first = await case.running(pod)
    for count, code in enumerate(codes):
        await case.heard.until(lambda s, n=count: ready(s) and s.container_statuses[0].restart_count == n)  # type: ignore[misc]
        case.runtime.now += 100
        web = case.runtime.of("web")[-1]
        case.runtime.log[web.id] = b"last words"
        case.runtime.die(web, code)
        await case.heard.until(lambda s: not ready(s))
        case.runtime.now += 100
        case.want(pod)

    def finished(status: PodStatus) -> bool:
        ended = status.container_statuses[0].state.terminated
        return case.worker.known.released and ended is not None and (ended.exit_code == 0 or bool(ended.message))

    before = await case.heard.until(finished)
    assert (before.start_time, before.pod_ip) == (first.start_time, "10.208.0.2")
    await case.restart()
    case.begin(pod)
    await case.heard.until(finished)
    assert case.heard.statuses == [before] * len(case.heard.statuses)


async def test_a_sandbox_that_died_meanwhile_is_not_called_connected(case: Case) -> None:
    pod = a_pod()
    await case.running(pod)
    await case.restart()
    case.network.fail = [ShoalError("no network")]
    case.runtime.die(case.runtime.of("")[0], 137)
    case.begin(pod)
    status = await case.heard.until(waiting("ContainerCreating"))
    conditions = {c.type: c.status for c in status.conditions}
    assert conditions["PodReadyToStartContainers"] == "False"
    assert status.pod_ip == "10.208.0.2", "it keeps its address"


async def test_a_sandbox_without_a_network_is_no_pod(case: Case) -> None:
    """Its container must not start: it would be in the host's network."""
    case.network.fail = [ShoalError("the sandbox did not leave the host's network")]
    case.begin(a_pod())
    await case.heard.until(waiting("ContainerCreating"))
    async with asyncio.timeout(5):
        while "FailedCreatePodSandBox" not in case.heard.reasons:
            await asyncio.sleep(0)
    assert all(f.state != RUNNING for f in case.runtime.of("web"))
    case.runtime.now += 10
    case.want(a_pod())
    await case.heard.until(ready)


async def test_while_the_engine_is_away_nothing_is_tried(case: Case) -> None:
    case.node.engine_up.clear()
    case.begin(a_pod())
    await asyncio.sleep(0.01)
    assert case.runtime.calls == []
    case.node.engine_up.set()
    case.worker.listed(())
    await case.heard.until(ready)


async def test_a_create_whose_answer_was_lost_does_not_double(case: Case) -> None:
    case.runtime.fail["create"] = [Unavailable("broke off")]
    case.begin(a_pod())
    async with asyncio.timeout(5):
        while not case.worker.known.failures:
            await asyncio.sleep(0)
    case.runtime.now += 1
    case.want(a_pod())
    await case.heard.until(ready)
    assert (len(case.runtime.of("")), len(case.runtime.of("web"))) == (1, 1)


async def test_a_name_that_is_taken_is_of_that_lost_create(case: Case) -> None:
    body = {"Image": "sandbox:1", "Labels": {}, "HostConfig": {"NetworkMode": "host"}}
    await case.runtime.create("shoal_POD_web-1_default_u1_0", body)
    await case.running()
    assert len(case.runtime.facts) == 2, "the old one went"


async def test_the_end_of_a_log_stands_for_a_missing_message(case: Case) -> None:
    container = {"name": "web", "image": "shoal/web", "terminationMessagePolicy": "FallbackToLogsOnError"}
    await case.running(a_pod(containers=[container], restartPolicy="Never"))
    web = case.runtime.of("web")[0]
    case.runtime.log[web.id] = b"x" * 3000 + b"last words"
    case.runtime.die(web, 3)

    def told(status: PodStatus) -> bool:
        ended = status.container_statuses[0].state.terminated
        return ended is not None and ended.message.endswith("last words") and len(ended.message) == 2048

    await case.heard.until(told)


async def test_a_pod_in_the_hosts_network_has_the_hosts_address(case: Case) -> None:
    status = await case.running(a_pod(hostNetwork=True))
    assert status.pod_ip == "192.0.2.1"
    assert case.network.connected == []
    modes = {case.runtime.bodies[f.id]["HostConfig"]["NetworkMode"] for f in case.runtime.facts.values()}
    assert modes == {"host"}
