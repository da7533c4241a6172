"""What the agent's log says of a container: its pod, the revision of the copy it was made by, and the wish."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from tests.unit.node_agent.made import a_pod
from tests.unit.node_agent.test_worker import Case, case, ready, waiting

from shoal.node_agent.runtime.port import EngineError
from shoal.telemetry import logs

__all__ = ["case"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
WISH = f"00-{TRACE}-b7ad6b7169203331-01"
REVISION = 41


@pytest.fixture(autouse=True)
def as_json() -> Iterator[None]:
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    logs.configure("node_agent", {"SHOAL_LOG": "json"})
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [line for line in found if line["event"].startswith("container.")]


async def started(case: Case) -> None:
    case.begin(None)
    case.worker.wanted(a_pod(), drained=False, traceparent=WISH, revision=REVISION)
    await case.heard.until(ready)


async def test_a_start_and_an_end_are_told_with_key_revision_and_trace(
    case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    await started(case)
    (start,) = said(capfd)
    assert (start["event"], start["container"], start["attempt"]) == ("container.started", "web", 0)
    assert (start["key"], start["revision"], start["trace_id"]) == ("pods/default/web-1", REVISION, TRACE)

    case.runtime.die(case.runtime.of("web")[0], 3)
    await case.heard.until(lambda s: ready(s) and s.container_statuses[0].restart_count == 1)
    ended, again = said(capfd)
    assert (ended["event"], ended["exit_code"]) == ("container.ended", 3)
    assert (ended["key"], ended["revision"], ended["trace_id"]) == ("pods/default/web-1", REVISION, TRACE)
    assert (again["event"], again["attempt"]) == ("container.started", 1)
    assert again["trace_id"] not in ("", TRACE), "what heals is a trace of its own"


async def test_what_cannot_start_is_told_with_the_engines_words(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    await started(case)
    said(capfd)
    case.runtime.fail["start"] = [EngineError('exec: "/nope": no such file or directory', status=400)]
    case.runtime.die(case.runtime.of("web")[0], 1)
    await case.heard.until(waiting("CrashLoopBackOff"))
    failed = said(capfd)[-1]
    assert (failed["level"], failed["event"], failed["revision"]) == ("warning", "container.not_started", REVISION)
    assert "/nope" in failed["error"]
    assert failed["trace_id"]
