"""What changes something is a wish: it begins a trace where spans are collected, and hands it to the api."""

from pathlib import Path

import msgspec
import pytest
from tests.e2e.tracing.receiver import receiving
from tests.unit.cli.fake import FakeCluster, a_pod, a_replica_set, shoal

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
WRITING = (
    "apply -f FILE",
    "create -f FILE",
    "delete pod web --wait=false",
    "scale rs/web --replicas=2",
    "patch pod web -p {}",
    "label pod web a=b",
    "annotate pod web a=b",
)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "web.json"
    path.write_bytes(msgspec.json.encode(a_pod("new")))
    return str(path)


def made() -> FakeCluster:
    return FakeCluster(a_pod(), a_replica_set())


def without_flags(cluster: FakeCluster) -> list[str]:
    return [traceparent.rpartition("-")[0] for traceparent in cluster.traceparents]


@pytest.mark.parametrize("command", WRITING)
async def test_a_verb_that_writes_begins_the_trace_of_its_wish(command: str, manifest: str) -> None:
    cluster = made()
    words = [manifest if word == "FILE" else word for word in command.split()]
    with receiving() as collector:
        await shoal(cluster, *words, env={ENDPOINT: collector.endpoint})
        (span,) = collector.spans(1)
    assert (span.service, span.name, span.parent_id) == ("shoal-cli", "publish", "")
    assert without_flags(cluster) == [f"00-{span.trace_id}-{span.span_id}"]


@pytest.mark.parametrize("command", WRITING)
async def test_where_nobody_collects_the_api_begins_it(command: str, manifest: str) -> None:
    cluster = made()
    await shoal(cluster, *(manifest if word == "FILE" else word for word in command.split()))
    assert cluster.traceparents == [""]


async def test_several_objects_of_a_command_are_one_wish() -> None:
    cluster = FakeCluster(a_pod("a"), a_pod("b"))
    with receiving() as collector:
        await shoal(cluster, "delete", "pods", "a", "b", "--wait=false", env={ENDPOINT: collector.endpoint})
        (span,) = collector.spans(1)
    assert without_flags(cluster) == [f"00-{span.trace_id}-{span.span_id}"] * 2
