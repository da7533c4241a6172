"""Logs: JSON for machines, text for people, and a sink that never raises."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shoal.telemetry import logs, trace, traceparent
from shoal.telemetry.watchdog import watchdog

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capfd.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "json"})
    logs.log.info("pods.bound", key="desired.pods._.a", took_ms=14, odd=threading.Lock)
    logs.log.debug("not.said")
    (line,) = lines(capfd)
    assert list(line)[:3] == ["ts", "level", "event"]
    assert line["ts"].endswith("Z")
    assert (line["level"], line["event"], line["process"]) == ("info", "pods.bound", "api")
    assert (line["key"], line["took_ms"]) == ("desired.pods._.a", 14)
    assert "trace_id" not in line


def test_the_trace_is_that_of_the_span_or_the_one_named(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "json"})
    with trace.span("admit", parent=PARENT):
        logs.log.info("a")
        logs.log.info("b", traceparent=(other := traceparent.new_traceparent()))
    first, second = lines(capfd)
    assert first["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert second["trace_id"] == traceparent.trace_id(other)
    assert "traceparent" not in second


def test_what_libraries_log_comes_out_the_same_way(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "json"})
    logging.getLogger("nats.aio").warning("slow %s", "consumer")
    logging.getLogger("nats.aio").info("not said")
    try:
        int("why")
    except ValueError:
        logging.getLogger("asyncio").exception("lost")
    first, second = lines(capfd)
    assert (first["event"], first["level"], first["logger"]) == ("slow consumer", "warning", "nats.aio")
    assert second["level"] == "error"
    assert second["exception"].endswith("'why'")


def test_text_is_readable_and_level_is_heeded(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "text", "SHOAL_LOG_LEVEL": "warning"})
    logs.log.info("not.said")
    logs.log.warning("engine.gone", socket="/run/docker.sock")
    (line,) = capfd.readouterr().err.splitlines()
    assert "engine.gone" in line
    assert "socket=/run/docker.sock" in line
    assert "\x1b" not in line


def test_before_configure_only_warnings_are_said_and_never_on_stdout() -> None:
    code = "from shoal.telemetry.logs import log; log.info('a.info'); log.warning('a.warning')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert "a.warning" in done.stderr
    assert "a.info" not in done.stderr


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "import sys; from shoal.telemetry import logs; logs.configure('api', {'SHOAL_LOG': 'json'})\n"
        "sys.stdin.read(); logs.log.info('x'); print('alive')"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer, text=True
    )
    os.close(writer)
    os.close(reader)
    out, _ = process.communicate("", timeout=30)
    assert out == "alive\n"


@pytest.mark.parametrize(("level", "count"), [("info", 1), ("debug", 2)])
def test_what_was_written_is_one_line_however_much_it_was(
    level: str, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("api", {"SHOAL_LOG": "json", "SHOAL_LOG_LEVEL": level})
    keys = [f"desired.pods.default.web-{i}" for i in range(500)]
    logs.tell_written("api.written", keys, revision=7, traceparent=PARENT, key="replicasets/default/web")
    told = lines(capfd)
    assert len(told) == count
    assert (told[0]["level"], told[0]["count"], told[0]["keys"]) == ("info", 500, keys[: logs.KEYS_TOLD])
    assert (told[0]["key"], told[0]["revision"], told[0]["trace_id"]) == ("replicasets/default/web", 7, PARENT[3:35])
    assert all(line["keys"] == keys for line in told[1:])


async def test_the_watchdog_names_what_blocked_the_loop(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "json"})
    async with watchdog(lag_max_s=0.05, every_s=0.01):
        time.sleep(0.5)  # noqa: ASYNC251  (the fault that is looked for)
        async with asyncio.timeout(5):
            while not (found := lines(capfd)):
                await asyncio.sleep(0.01)
    assert found[0]["event"] == "loop.blocked"
    assert found[0]["lag_ms"] >= 50
    assert "test_the_watchdog_names_what_blocked_the_loop" in found[0]["stack"]


async def test_the_watchdog_is_silent_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", {"SHOAL_LOG": "json"})
    async with watchdog(lag_max_s=1.0, every_s=0.001):
        for _ in range(50):
            await asyncio.sleep(0.001)
    assert lines(capfd) == []
