"""Traces: W3C contexts without an SDK, OTLP with one, and a collector that fails in every way."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.e2e.tracing.receiver import Receiver, receiving

from shoal.telemetry import export, trace, traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of W3C Trace Context, section 3.2


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        trace.setup("api", {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20"})
        yield receiver
        trace.shutdown()


def in_a_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout


def test_without_an_endpoint_opentelemetry_is_not_imported() -> None:
    code = (
        "import sys; from shoal.telemetry import logs, trace, watchdog; logs.configure('api', {}); trace.setup('api', {})\n"
        "with trace.span('write', key='x') as s: s.set(revision=1); s.error('no')\n"
        "trace.shutdown(); print([m for m in sys.modules if m.partition('.')[0] in ('opentelemetry', 'requests', 'rich')])"
    )
    assert in_a_process(code) == "[]\n"


def test_with_an_endpoint_it_is() -> None:
    code = (
        "import sys; from shoal.telemetry import trace\n"
        "trace.setup('api', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'}); print('opentelemetry.sdk' in sys.modules)"
    )
    assert in_a_process(code) == "True\n"


def test_without_an_sdk_the_parent_is_handed_on() -> None:
    with trace.span("admit", parent=PARENT) as s:
        assert s.traceparent == PARENT
        assert traceparent.current() == PARENT
    assert traceparent.current() == ""


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "x",
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(parent: str) -> None:
    first, second = trace.span("admit", parent=parent), trace.span("admit", parent=parent)
    assert len(traceparent.trace_id(first.traceparent)) == 32
    assert traceparent.trace_id(first.traceparent) != traceparent.trace_id(second.traceparent)
    assert first.traceparent.endswith("-01")


def test_a_later_version_of_traceparent_is_understood() -> None:
    assert trace.span("admit", parent="cc" + PARENT[2:] + "-more").traceparent == PARENT


def test_spans_arrive_with_parent_times_attributes_links_and_errors(collector: Receiver) -> None:
    wish = traceparent.new_traceparent()
    began = time.time_ns() - 3_000_000_000
    publish = trace.span("publish", parent=PARENT, start_ns=began, namespace="default", key="desired.pods.default.a")
    with (
        suppress(ValueError),
        trace.span("admit", parent=publish.traceparent, links=[wish, "junk"], revision=7, uid=None) as s,
    ):
        s.set(revision=int("no"))
    publish.end()
    publish.end()

    seen = {s.name: s for s in collector.spans(2)}
    assert len(collector.spans()) == 2
    assert seen["publish"].service == "shoal-api"
    assert seen["publish"].parent_id == PARENT[36:52]
    assert seen["publish"].start_ns == began
    assert seen["publish"].attributes == {"k8s.namespace.name": "default", "shoal.key": "desired.pods.default.a"}
    assert seen["admit"].parent_id == seen["publish"].span_id
    assert seen["admit"].trace_id == seen["publish"].trace_id == PARENT[3:35]
    assert seen["admit"].attributes == {"shoal.revision": 7}  # None is left out
    assert seen["admit"].links == (traceparent.trace_id(wish),)
    assert seen["admit"].events == ("exception",)
    assert seen["admit"].failed
    assert not seen["publish"].failed


def test_what_is_under_way_arrives_at_shutdown(collector: Receiver) -> None:
    for i in range(600):
        trace.span("write", revision=i).end()
    trace.shutdown()
    assert len(collector.spans()) == 600
    assert trace.span("write", parent=PARENT).traceparent == PARENT


@pytest.fixture(params=["refuses", "is silent"])
def broken_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Port 1 refuses; a listener that accepts nothing leaves a client waiting for an answer."""
    if request.param == "refuses":
        yield "http://127.0.0.1:1"
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_collector_that_fails_slows_nothing(broken_endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    trace.setup("api", {"OTEL_EXPORTER_OTLP_ENDPOINT": broken_endpoint, "OTEL_BSP_SCHEDULE_DELAY": "5"})
    began = time.perf_counter()
    for _ in range(export.QUEUE_SPANS + 2000):  # more than the queue holds
        with trace.span("write", parent=PARENT):
            pass
    took_s = time.perf_counter() - began
    stopping = time.perf_counter()
    trace.shutdown()
    stopped_s = time.perf_counter() - stopping

    assert took_s / (export.QUEUE_SPANS + 2000) < 0.001
    assert stopped_s < trace.SHUTDOWN_S + 0.5
    assert capfd.readouterr().err.count("traces.lost") <= 1


def test_a_failing_collector_is_told_of_once() -> None:
    """In a process of its own: the broken collectors above left threads that still try."""
    code = (
        "import sys, time; from shoal.telemetry import trace\n"
        "trace.setup('api', {'OTEL_EXPORTER_OTLP_ENDPOINT': sys.argv[1], 'OTEL_BSP_SCHEDULE_DELAY': '20'})\n"
        "for _ in range(10): trace.span('write').end(); time.sleep(0.05)\n"
        "trace.shutdown()"
    )
    with receiving() as collector:
        collector.answer = 400
        done = subprocess.run(
            [sys.executable, "-c", code, collector.endpoint], check=True, capture_output=True, text=True, timeout=60
        )
        assert collector.requests >= 3
        assert done.stderr.count("traces.lost") == 1
