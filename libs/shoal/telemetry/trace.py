"""Traces: one wish, one trace. Context travels as W3C `traceparent` strings, in headers, never in a global.

    with span("bind", parent=stored.traceparent, key=str(key)) as s:
        await store.commit(changes_carrying(s.traceparent))

`parent=""` begins a new trace; `links` name the wishes that a trace of its own belongs to (what heals). OpenTelemetry is
imported by `setup` alone, and only if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Without it a span hands its parent on
unchanged, as the W3C lets a participant that records nothing: the spans of those who do record stay connected.

A collector that fails slows nothing: spans wait in a bounded queue of a thread of its own, the oldest are dropped, and
one sentence a minute says so.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from shoal.telemetry.traceparent import CURRENT, TRACEPARENT, new_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext, Tracer

SHUTDOWN_S = 2.0

# Attributes that have a name of their own here; any other goes out under the name it was given.
ATTRIBUTES = {
    "namespace": "k8s.namespace.name",
    "pod": "k8s.pod.name",
    "uid": "k8s.pod.uid",
    "node": "k8s.node.name",
    "container": "k8s.container.name",
    "image": "container.image.name",
    "key": "shoal.key",
    "revision": "shoal.revision",
}

_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None


class Span:
    """One piece of work. `traceparent` is what to hand on. Use with `with`, or call `end()`; ending twice is harmless."""

    def __init__(self, traceparent: str, span: "OtelSpan | None" = None) -> None:
        self.traceparent = traceparent
        self._span = span
        self._token: Token[str] | None = None

    def set(self, **attributes: Any) -> None:
        if self._span is not None:
            self._span.set_attributes(_named(attributes))

    def error(self, exc: BaseException | str) -> None:
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        if isinstance(exc, BaseException):
            self._span.record_exception(exc)
        self._span.set_status(Status(StatusCode.ERROR, str(exc) or type(exc).__name__))

    def end(self, end_ns: int | None = None) -> None:
        if self._span is not None:
            self._span.end(end_ns)
            self._span = None

    def __enter__(self) -> Self:
        self._token = CURRENT.set(self.traceparent)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
            self._token = None
        if exc is not None:
            self.error(exc)
        self.end()


def span(
    name: str, *, parent: str = "", links: Sequence[str] = (), start_ns: int | None = None, **attributes: Any
) -> Span:
    """Begin a span. `start_ns`: Unix time, for work that began before it was known (a publish). A `parent` that is no
    traceparent (a client may send anything) counts as none.
    """
    if _tracer is None:
        found = TRACEPARENT.fullmatch(parent)
        return Span(f"00-{found[1]}-{found[2]}-{found[3]}" if found else new_traceparent())
    return _recorded(_tracer, name, parent, links, start_ns, attributes)


def _recorded(
    tracer: "Tracer",
    name: str,
    parent: str,
    links: Sequence[str],
    start_ns: int | None,
    attributes: Mapping[str, Any],
) -> Span:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, NonRecordingSpan, set_span_in_context

    context = Context()
    if (above := _context_of(parent)) is not None:
        context = set_span_in_context(NonRecordingSpan(above), context)
    to: list[Link] = [Link(c) for c in map(_context_of, links) if c is not None]
    started = tracer.start_span(name, context=context, links=to, attributes=_named(attributes), start_time=start_ns)
    own = started.get_span_context()
    return Span(f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}", started)


def _context_of(traceparent: str) -> "SpanContext | None":
    from opentelemetry.trace import SpanContext, TraceFlags

    found = TRACEPARENT.fullmatch(traceparent)
    if not found:
        return None
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))


def _named(attributes: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    return {
        ATTRIBUTES.get(k, k): v if isinstance(v, (str, bool, int, float)) else str(v)
        for k, v in attributes.items()
        if v is not None and v != ""
    }


def setup(process: str, env: Mapping[str, str] = os.environ) -> None:
    """Begin to export, as service `shoal-<process>`, if `OTEL_EXPORTER_OTLP_ENDPOINT` says where to; else do nothing."""
    global _tracer, _provider  # noqa: PLW0603  (one exporter a process)
    endpoint = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not endpoint or _tracer is not None:
        return
    try:
        from shoal.telemetry.export import provider
    except ImportError as error:
        from shoal.telemetry.logs import log

        log.warning("traces.off", why=f"install shoal[tracing]: {error}")
        return
    service = process if process.startswith("shoal-") else f"shoal-{process.replace('_', '-')}"
    _provider = provider(service, endpoint, env)
    _tracer = _provider.get_tracer("shoal")


def shutdown(timeout_s: float = SHUTDOWN_S) -> None:
    """Send what is left, for so long at most. Blocks: call it last."""
    global _tracer, _provider
    ending, _provider, _tracer = _provider, None, None
    if ending is not None:
        from shoal.telemetry.export import close

        close(ending, time.monotonic() + timeout_s)
