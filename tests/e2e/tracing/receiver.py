"""An OTLP/HTTP receiver of the tests' own: what a collector would be told, decoded from the protobuf."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class SpanSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One span as a collector has it, from OTLP or from Jaeger's query API. Times in ns since 1970."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    start_ns: int = 0
    end_ns: int = 0
    attributes: dict[str, Any] = {}
    events: tuple[str, ...] = ()
    links: tuple[str, ...] = ()  # trace ids
    failed: bool = False


class Receiver:
    """`endpoint` is the base URL to export to. `answer` may be changed to a status of refusal."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        receiver = self
        self.answer = 200
        self.requests = 0
        self._spans: list[SpanSeen] = []
        self._changed = threading.Condition()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(self.path, body))
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.endpoint = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def take(self, path: str, body: bytes) -> int:
        self.requests += 1
        if path != "/v1/traces":
            return 404
        if self.answer == 200:
            seen = list(decode(body))
            with self._changed:
                self._spans += seen
                self._changed.notify_all()
        return self.answer

    def spans(self, count: int = 0, timeout_s: float = 10.0) -> list[SpanSeen]:
        """All spans, once there are `count` of them. Raises: AssertionError if they do not come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._spans) >= count, timeout_s), self._spans
            return list(self._spans)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    receiver = Receiver(host)
    try:
        yield receiver
    finally:
        receiver.close()


def decode(body: bytes) -> Iterator[SpanSeen]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {a.key: _plain(a.value) for a in group.resource.attributes}
        for scope in group.scope_spans:
            for s in scope.spans:
                yield SpanSeen(
                    service=str(resource.get("service.name", "")),
                    name=s.name,
                    trace_id=s.trace_id.hex(),
                    span_id=s.span_id.hex(),
                    parent_id=s.parent_span_id.hex(),
                    start_ns=s.start_time_unix_nano,
                    end_ns=s.end_time_unix_nano,
                    attributes={a.key: _plain(a.value) for a in s.attributes},
                    events=tuple(e.name for e in s.events),
                    links=tuple(link.trace_id.hex() for link in s.links),
                    failed=s.status.code == 2,
                )


def _plain(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
