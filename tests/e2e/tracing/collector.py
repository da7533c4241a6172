"""A traced lab, and who collects: a real Jaeger where one can be had, else a receiver of the tests' own."""

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from tests.e2e.conftest import PREFIX, own
from tests.e2e.tracing.jaeger import Jaeger, jaeger_path
from tests.e2e.tracing.receiver import Receiver, SpanSeen, receiving

from shoal.local.lab import Lab

DEVICE, ADDRESS = "shoaltraces", "10.213.78.1"  # where a lab finds this machine, whatever its own addresses are
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(Protocol):
    kind: str

    def trace(self, trace_id: str) -> list[SpanSeen]: ...
    def everything(self) -> list[SpanSeen]: ...


class InJaeger:
    kind = "a real Jaeger"

    def __init__(self, jaeger: Jaeger) -> None:
        self.jaeger = jaeger

    def trace(self, trace_id: str) -> list[SpanSeen]:
        return self.jaeger.trace(trace_id)

    def everything(self) -> list[SpanSeen]:
        known = {s.span_id: s for name in self.jaeger.services() for t in self.jaeger.traces(name) for s in t}
        return list(known.values())


class InReceiver:
    kind = "the tests' own OTLP receiver, since there is no Go to install a Jaeger with"

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def trace(self, trace_id: str) -> list[SpanSeen]:
        return sorted((s for s in self.receiver.spans() if s.trace_id == trace_id), key=lambda s: s.start_ns)

    def everything(self) -> list[SpanSeen]:
        return self.receiver.spans()


@contextmanager
def traced_lab(hosts: int) -> Iterator[tuple[Lab, Collector]]:
    name = f"{PREFIX}traces-{secrets.token_hex(2)}"
    with ExitStack() as stack:
        receiver = None
        if jaeger_path() is None:
            stack.enter_context(_reachable_address())
            receiver = stack.enter_context(receiving(ADDRESS))
        env = {} if receiver is None else {ENDPOINT: receiver.endpoint}
        lab = asyncio.run(Lab.up(name, hosts=hosts, with_jaeger=receiver is None, env=env))
        stack.callback(lambda: asyncio.run(lab.down()))
        own(lab)
        if receiver is not None:
            yield lab, InReceiver(receiver)
            return
        made = lab.record.jaeger
        assert made is not None
        yield lab, InJaeger(Jaeger(made.otlp_endpoint, made.query_url))


@contextmanager
def _reachable_address() -> Iterator[None]:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=False, capture_output=True, timeout=10)

    ip("link", "add", DEVICE, "type", "dummy")
    ip("address", "add", f"{ADDRESS}/32", "dev", DEVICE)
    ip("link", "set", DEVICE, "up")
    try:
        yield
    finally:
        ip("link", "del", DEVICE)
