"""One trace a wish: from the publish to *container started*, as a collector sees it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import msgspec
import nats
import pytest
from tests.e2e.composed.waiting import until as arrives
from tests.e2e.conftest import require_lab
from tests.e2e.tracing.collector import Collector, InJaeger, traced_lab
from tests.e2e.tracing.receiver import SpanSeen
from tests.e2e.tracing.shape import ORDER, SLACK_NS, by_pod, faults, way_up
from tests.e2e.world import count_running, manifest, pod, replicaset, until

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
