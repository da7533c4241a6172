"""One trace a wish: from the publish to *container started*, as a collector sees it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiodocker
import msgspec
import nats
import pytest
from tests.e2e import registry
from tests.e2e.composed.waiting import until as arrives
from tests.e2e.conftest import require_lab
from tests.e2e.tracing.collector import Collector, InJaeger, traced_lab
from tests.e2e.tracing.receiver import SpanSeen
from tests.e2e.tracing.shape import ORDER, SLACK_NS, by_pod, faults, way_up
from tests.e2e.world import container, count_running, manifest, pod, replicaset, until

from shoal import wire
from shoal.bus.connecting import connect
from shoal.client import Client
from shoal.config import BusConfig
from shoal.local.lab import Lab
from shoal.names import MESSAGE_ID, TRACEPARENT
from shoal.telemetry.traceparent import new_traceparent, trace_id

pytestmark = [pytest.mark.xdist_group("traces"), pytest.mark.timeout(300)]
ARRIVES_S = 20.0
OF_A_POD = {"bind", "sandbox", "create", "start"}
REGISTRY_HOST = "h1"


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[Lab, Collector]]:
    require_lab()
    with traced_lab(hosts=2) as made:
        yield made


@pytest.fixture
def lab(traced: tuple[Lab, Collector]) -> Lab:
    return traced[0]


@pytest.fixture
def collector(traced: tuple[Lab, Collector]) -> Collector:
    return traced[1]


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[Client]:
    async with connect(BusConfig(servers=(lab.nats_url,)), name="traces") as bus:
        yield Client(bus)


async def publish(lab: Lab, text: str, message_id: str, traceparent: str = "") -> wire.ApplyReply:
    """As any NATS client would; the outcome, as it is told to the sender."""
    headers = {MESSAGE_ID: message_id} | ({TRACEPARENT: traceparent} if traceparent else {})
    async with await nats.connect(lab.nats_url) as stock:
        told = await stock.subscribe(f"shoal.outcome.admin.{message_id}")
        await stock.flush()
        await stock.jetstream().publish("shoal.manifests.admin._", text.encode(), headers=headers)
        outcome = msgspec.json.decode((await told.next_msg(20)).data, type=wire.ApplyReply)
    assert outcome.error is None, outcome.error
    return outcome


async def complete(collector: Collector, wanted: str, pods: set[str], root_parent: str = "") -> list[SpanSeen]:
    """The trace, once every pod's spans are there and all of it hangs together (processes export in their own time).

    Raises: AssertionError with what is missing.
    """
    for _ in range(int(ARRIVES_S / 0.2)):
        spans = await asyncio.to_thread(collector.trace, wanted)
        told = {uid: {s.name for s in of} for uid, of in by_pod(spans).items()}
        missing = {uid: OF_A_POD - told.get(uid, set()) for uid in pods if OF_A_POD - told.get(uid, set())}
        wrong = faults(spans, root_parent)
        if not missing and not wrong:
            return spans
        await asyncio.sleep(0.2)
    raise AssertionError(f"not told of: {missing}; {wrong}; told of: {sorted({(s.service, s.name) for s in spans})}")


async def test_a_publish_with_a_trace_of_its_own_goes_on_in_it(lab: Lab, collector: Collector, client: Client) -> None:
    wish = new_traceparent()
    await publish(lab, manifest(pod("one", "default")), "trace-one", wish)
    [up] = await until(client, "default", count_running(1), selector="app=one")

    spans = await complete(collector, trace_id(wish), {up.metadata.uid}, root_parent=wish.split("-")[2])
    assert {s.service for s in spans} >= {"shoal-api", "shoal-scheduler", "shoal-node-agent"}
    (start,) = (s for s in by_pod(spans)[up.metadata.uid] if s.name == "start")
    assert start.attributes["k8s.pod.name"] == "one"
    assert start.attributes["k8s.namespace.name"] == "default"
    assert start.attributes["k8s.node.name"] == up.spec.node_name


async def test_every_pod_of_a_run_of_30_has_one_connected_trace_from_publish_to_started(
    lab: Lab, collector: Collector, client: Client
) -> None:
    outcome = await publish(lab, manifest(replicaset("thirty", "default", 30)), "trace-thirty")
    up = await until(client, "default", count_running(30), selector="app=thirty", patience_s=120)

    spans = await complete(collector, trace_id(outcome.traceparent), {p.metadata.uid for p in up})
    pods = by_pod(spans)
    for p in up:
        began_to_run = {s.parent_id for s in pods[p.metadata.uid] if s.name == "started"}
        (start,) = (s for s in pods[p.metadata.uid] if s.name == "start")
        assert start.span_id in began_to_run
        above = way_up(start, spans)
        assert above[0] == "publish"
        assert {"admit", "write", "reconcile", "bind"} <= set(above), above
        own = [s for s in spans if s.attributes.get("k8s.pod.uid") in (None, p.metadata.uid)]
        began = {s.name: s.start_ns for s in sorted(own, key=lambda s: -s.start_ns)}  # the first of each name
        for earlier, later in ORDER:
            assert began[earlier] <= began[later] + SLACK_NS, f"{later} of {p.metadata.name} began before {earlier}"


async def test_a_pull_is_a_span_between_the_binding_and_the_container(
    lab: Lab, collector: Collector, client: Client, tmp_path: Path
) -> None:
    if not registry.found():
        pytest.skip(f"{registry.PROGRAM} is not installed")
    image = f"{registry.ADDRESS}/nets/traced:1"
    registry.write_login(tmp_path)
    wish = new_traceparent()
    here = {"kubernetes.io/hostname": REGISTRY_HOST}
    async with (
        registry.registry(lab, REGISTRY_HOST, tmp_path),
        aiodocker.Docker(url=f"unix://{lab.docker_socket(REGISTRY_HOST)}") as docker,
    ):
        await lab.restart(REGISTRY_HOST, "agent", env={"DOCKER_CONFIG": str(tmp_path)})
        try:
            await registry.push(docker, image, "one")
            await docker.images.delete(image, force=True)
            await publish(
                lab, manifest(pod("pulled", "default", container(image=image), nodeSelector=here)), "trace-pull", wish
            )
            [up] = await until(client, "default", count_running(1), selector="app=pulled")
            spans = await complete(collector, trace_id(wish), {up.metadata.uid}, root_parent=wish.split("-")[2])
        finally:
            await lab.restart(REGISTRY_HOST, "agent", env={})

    own = by_pod(spans)[up.metadata.uid]
    (bind,), (pull,), (create,) = ([s for s in own if s.name == name] for name in ("bind", "pull", "create"))
    assert pull.parent_id == bind.span_id
    assert bind.start_ns <= pull.start_ns + SLACK_NS
    assert pull.end_ns <= create.start_ns + SLACK_NS, "the container is made of what was pulled"
    assert (pull.service, pull.failed) == ("shoal-node-agent", False)
    assert (pull.attributes["container.image.name"], pull.attributes["k8s.container.name"]) == (image, "main")


async def test_what_heals_is_a_trace_of_its_own_linked_to_the_wish(
    lab: Lab, collector: Collector, client: Client
) -> None:
    outcome = await publish(lab, manifest(replicaset("healed", "default", 1)), "trace-healed")
    [first] = await until(client, "default", count_running(1), selector="app=healed")
    await client.delete("pods", "default", wire.DeleteRequest(name=first.metadata.name))
    [second] = await until(
        client,
        "default",
        lambda ps: count_running(1)(ps) and ps[0].metadata.uid != first.metadata.uid,
        selector="app=healed",
    )
    wish, healing = trace_id(outcome.traceparent), ""
    for _ in range(int(ARRIVES_S / 0.2)):
        spans = await asyncio.to_thread(collector.everything)
        starts = [s for s in by_pod(spans).get(second.metadata.uid, ()) if s.name == "start"]
        if starts:
            healing = starts[0].trace_id
            break
        await asyncio.sleep(0.2)
    assert healing not in ("", wish)
    healed = await complete(collector, healing, {second.metadata.uid})
    assert wish in {link for s in healed for link in s.links}


async def test_the_logs_of_all_processes_tell_a_wish_by_its_trace_id(lab: Lab, client: Client) -> None:
    """One grep over the files: admitted, written, reconciled, bound, started; each line with key and revision."""
    outcome = await publish(lab, manifest(replicaset("logged", "default", 2)), "trace-logged")
    up = await until(client, "default", count_running(2), selector="app=logged")
    wish = trace_id(outcome.traceparent)
    pods = {f"pods/default/{p.metadata.name}" for p in up}

    def told(program: str, event: str, **more: str) -> list[dict[str, Any]]:
        found = [line for line in lines(lab, program) if line.get("trace_id") == wish and line["event"] == event]
        return [line for line in found if more.items() <= line.items()]

    def started() -> list[dict[str, Any]]:
        return [line for host in lab.hosts for line in told(f"{host}/agent", "container.started")]

    arrives(lambda: len(started()) == 2, "both containers in the agents' logs", ARRIVES_S)
    arrives(lambda: told("api", "manifests.applied"), "the admission in the api's log", ARRIVES_S)
    (admitted,) = told("api", "manifests.applied")
    (written,) = told("api", "api.written")
    (reconciled,) = told("replica-controller", "controller.committed", what="reconcile")
    bound = told("scheduler", "controller.committed", what="bind")
    assert (admitted["id"], admitted["written"]) == ("trace-logged", 1)
    assert written["key"] == reconciled["key"] == "replicasets/default/logged"
    assert {line["key"] for line in bound} == {line["key"] for line in started()} == pods
    assert outcome.results[0].revision == written["revision"] < reconciled["revision"]
    for line in started():
        (binding,) = (b for b in bound if b["key"] == line["key"])
        assert reconciled["revision"] < binding["revision"] <= line["revision"]
        assert line["container"] == "main"

    [first, _] = sorted(pods)
    await client.delete(
        "pods", "default", wire.DeleteRequest(name=first.rpartition("/")[2]), traceparent=outcome.traceparent
    )
    arrives(
        lambda: any(told(f"{h}/agent", "container.ended", key=first) for h in lab.hosts), "the end in a log", ARRIVES_S
    )


def lines(lab: Lab, program: str) -> list[dict[str, Any]]:
    """Those of a process's log that are whole."""
    whole = lab.log(program).read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line) for line in whole.splitlines() if line.startswith(b"{")]


def test_an_apply_of_the_command_line_begins_the_trace(lab: Lab, collector: Collector) -> None:
    env = lab.environment() | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "shoal.cli", "apply", "-f", "-"],
        input=manifest(replicaset("said", "default", 1)),
        env=env | ({} if "OTEL_EXPORTER_OTLP_ENDPOINT" in env else lab.record.env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def told() -> bool:
        spans = collector.everything()
        roots = {s.trace_id for s in spans if s.service == "shoal-cli" and not s.parent_id}
        return any(s.name == "start" and s.trace_id in roots for s in spans)

    arrives(told, "a trace from the command line to the container", ARRIVES_S)

    # A real Jaeger counts the services itself; where there is none, the summary of the run says so.
    if isinstance(collector, InJaeger):
        jaeger = collector.jaeger
        expected = {"shoal-api", "shoal-scheduler", "shoal-replica-controller", "shoal-node-agent", "shoal-cli"}
        arrives(lambda: jaeger.services() >= expected, f"{expected}", ARRIVES_S)
