"""The exporter behind `trace`: OpenTelemetry's SDK and its OTLP over HTTP. Only `trace.setup` imports this."""

import logging
import os
import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from shoal.telemetry.logs import log

QUEUE_SPANS = 8192
EXPORT_EVERY_MS = 1000
EXPORT_TIMEOUT_S = 5.0
COMPLAIN_EVERY_S = 60.0


def provider(service: str, endpoint: str, env: Mapping[str, str]) -> TracerProvider:
    """`endpoint` is a base URL (`http://127.0.0.1:4318`), as the variable's specification has it."""
    quiet = logging.getLogger("opentelemetry")
    quiet.handlers[:] = [_OncePerMinute(endpoint)]
    quiet.propagate = False
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=QUEUE_SPANS,
        schedule_delay_millis=float(env.get("OTEL_BSP_SCHEDULE_DELAY", EXPORT_EVERY_MS)),
    )
    resource = Resource.create({"service.name": service, "process.pid": os.getpid()})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(processor)
    return made


def close(ending: TracerProvider, deadline: float) -> None:
    """Flush until `deadline` (monotonic). The SDK's own bounds add up to half a minute: a thread, left behind if late."""
    work = threading.Thread(target=ending.shutdown, name="traces shutdown", daemon=True)
    work.start()
    work.join(max(0.0, deadline - time.monotonic()))


class _OncePerMinute(logging.Handler):
    """The SDK warns at each retry; this says one sentence, and how often it was told."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(level=logging.WARNING)
        self._endpoint = endpoint
        self._next = 0.0
        self._held_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._next:
            self._held_back += 1
            return
        log.warning("traces.lost", endpoint=self._endpoint, why=record.getMessage()[:200], unsaid=self._held_back)
        self._next, self._held_back = now + COMPLAIN_EVERY_S, 0
