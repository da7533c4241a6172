"""A real Jaeger for the tests: found, started on free ports, and asked through its query API."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from tests.e2e.composed.waiting import until
from tests.e2e.programs import found_or_awaited
from tests.e2e.tracing.receiver import SpanSeen

from shoal.local import jaeger as local

PROGRAM = "all-in-one"  # as .ci/tools installs it


def jaeger_path() -> str | None:
    """The program; None where there is no Go to install it with."""
    return found_or_awaited(PROGRAM, local.find_binary)


class Jaeger:
    """`endpoint`: where to export to (OTLP over HTTP). `query`: the base URL of its query API."""

    def __init__(self, endpoint: str, query: str) -> None:
        self.endpoint = endpoint
        self.query = query

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.query}{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def services(self) -> set[str]:
        return set(self.get("/api/services") or ())

    def trace(self, trace_id: str) -> list[SpanSeen]:
        """The spans of one trace, by start; [] as long as Jaeger does not know it."""
        try:
            found = self.get(f"/api/traces/{trace_id}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        return [s for one in found for s in spans_of(one)]

    def traces(self, service: str, limit: int = 100) -> list[list[SpanSeen]]:
        return [spans_of(one) for one in self.get(f"/api/traces?service={service}&limit={limit}")]


def spans_of(answer: dict[str, Any]) -> list[SpanSeen]:
    """From Jaeger's JSON (its times are in microseconds)."""
    services = {key: p["serviceName"] for key, p in answer["processes"].items()}
    spans = []
    for s in answer["spans"]:
        tags = {t["key"]: t["value"] for t in s["tags"]}
        references = s.get("references", ())
        spans.append(
            SpanSeen(
                service=services[s["processID"]],
                name=s["operationName"],
                trace_id=s["traceID"],
                span_id=s["spanID"],
                parent_id=next((r["spanID"] for r in references if r["refType"] == "CHILD_OF"), ""),
                start_ns=s["startTime"] * 1000,
                end_ns=(s["startTime"] + s["duration"]) * 1000,
                attributes=tags,
                events=tuple(f["value"] for log in s["logs"] for f in log["fields"] if f["key"] == "event"),
                links=tuple(r["traceID"] for r in references if r["refType"] == "FOLLOWS_FROM"),
                failed=tags.get("error") is True,
            )
        )
    return sorted(spans, key=lambda s: s.start_ns)


@contextmanager
def jaeger(binary: str, host: str = "127.0.0.1") -> Iterator[Jaeger]:
    """On free ports of `host`, an address of this machine, alone."""
    usual = local.free_ports(host)
    ports = msgspec.structs.replace(usual, rest=(*usual.rest[:6], 0, 0, 0))  # the last three are UDP
    made = local.Jaeger(binary=binary, host=host, ports=ports)
    program = made.program()
    process = subprocess.Popen(program.argv, env=program.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Jaeger(made.otlp_endpoint, made.query_url)
    try:
        until(lambda: process.poll() is not None or _answers(found), "Jaeger")
        assert process.poll() is None, f"Jaeger ended with {process.returncode}: {' '.join(program.argv)}"
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _answers(jaeger: Jaeger) -> bool:
    try:
        jaeger.services()
    except OSError:
        return False
    return True
