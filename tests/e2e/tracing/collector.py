"""A traced lab, and who collects: a real Jaeger where one can be had, else a receiver of the tests' own.

It is a lab of its own: with a collector every process imports OpenTelemetry as it starts, and holds it. In the run's one
lab that would slow each test that kills and restarts, and add to what each test of memory measures.
"""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import msgspec
from tests.e2e.conftest import PREFIX, owned
from tests.e2e.tracing.jaeger import Jaeger, jaeger_path
from tests.e2e.tracing.receiver import Receiver, SpanSeen, receiving

from shoal.local import cluster
from shoal.local.lab import Lab
from shoal.local.lab_places import KEEPER

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(Protocol):
    kind: str  # "" for the real thing, else why it is not

    def trace(self, trace_id: str) -> list[SpanSeen]: ...
    def everything(self) -> list[SpanSeen]: ...


class InJaeger:
    kind = ""

    def __init__(self, jaeger: Jaeger) -> None:
        self.jaeger = jaeger

    def trace(self, trace_id: str) -> list[SpanSeen]:
        return self.jaeger.trace(trace_id)

    def everything(self) -> list[SpanSeen]:
        known = {s.span_id: s for name in self.jaeger.services() for t in self.jaeger.traces(name) for s in t}
        return list(known.values())


class InReceiver:
    kind = "there is no Go to install a Jaeger with: the tests' own OTLP receiver took the spans"

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def trace(self, trace_id: str) -> list[SpanSeen]:
        return sorted((s for s in self.receiver.spans() if s.trace_id == trace_id), key=lambda s: s.start_ns)

    def everything(self) -> list[SpanSeen]:
        return self.receiver.spans()


@contextmanager
def traced_lab(hosts: int) -> Iterator[tuple[Lab, Collector]]:
    name = f"{PREFIX}traces-{secrets.token_hex(2)}"
    real = jaeger_path() is not None
    with ExitStack() as stack:
        with owned(name):
            lab = asyncio.run(Lab.up(name, hosts=hosts, with_jaeger=real))
        stack.callback(lambda: asyncio.run(lab.down()))
        if real:
            made = lab.record.jaeger
            assert made is not None
            yield lab, InJaeger(Jaeger(made.otlp_endpoint, made.query_url))
        else:
            receiver = stack.enter_context(receiving(str(lab.record.plan.root_address)))
            asyncio.run(_export_to(lab, receiver.endpoint))
            yield lab, InReceiver(receiver)


async def _export_to(lab: Lab, endpoint: str) -> None:
    """Start every process again, exporting to an address that is known only now: this machine's, as the lab sees it."""
    lab.record = msgspec.structs.replace(lab.record, env={ENDPOINT: endpoint})
    inside = ["nsenter", "-t", str(await lab.pid(KEEPER)), "-n", "--"]
    programs = [cluster.control(lab.cluster_spec, name, wrap=lambda argv: [*inside, *argv]) for name in cluster.CONTROL]
    for host in lab.hosts:
        keeper = await lab.pid(f"{host}/keeper")
        programs += [lab.node_program(host, process, keeper, None) for process in cluster.NODE]
    await lab.control.add(programs)
    await lab.control.wait(seconds=60)
