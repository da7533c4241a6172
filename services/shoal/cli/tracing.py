"""What a person does with the command line is the first span of its trace, where a collector is set."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

FLUSH_S = 0.5  # a collector that does not answer keeps nobody waiting for longer


@contextmanager
def publish_span(env: Mapping[str, str]) -> Iterator[str]:
    """The traceparent to send; "" where nobody collects (the api then begins the trace)."""
    if not env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        yield ""
        return
    from shoal.telemetry import trace

    trace.setup("cli", env)
    try:
        with trace.span("publish") as span:
            yield span.traceparent
    finally:
        trace.shutdown(FLUSH_S)
