"""What is said is heard in the end: the newest, once, whatever answers come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from shoal.errors import Conflict, NotFound, Overloaded, Unavailable, to_status
from shoal.model.pod import PodStatus
from shoal.names import Names, ObjectKey
from shoal.node_agent.reporter import Reporter
from shoal.wire import ReportResult, StatusReply, StatusRequest

A, B, C = (ObjectKey("pods", "default", name) for name in "abc")


class FakeBus:
    """Answers by `answer`, after `gate` opens."""

    def __init__(self) -> None:
        self.names = Names()
        self.connected = asyncio.Event()
        self.connected.set()
        self.requests: list[StatusRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.revision = 0
        self.answer: list[Callable[[StatusRequest], StatusReply]] = []

    async def request(self, subject: str, body: StatusRequest, reply: type, *, timeout: float) -> StatusReply:
        assert subject == "shoal.status.n1"
        self.requests.append(body)
        await self.gate.wait()
        if self.answer:
            return self.answer.pop(0)(body)
        self.revision += 1
        return StatusReply(results=[ReportResult(revision=self.revision) for _ in body.reports])

    def sent(self) -> list[tuple[str, str, int]]:
        """(name, phase, revision known) of every report, in order."""
        return [
            (r.name, bytes(r.status).partition(b'"phase":"')[2].partition(b'"')[0].decode(), r.revision)
            for request in self.requests
            for r in request.reports
        ]


@pytest_asyncio.fixture
async def case() -> AsyncIterator[Any]:
    bus = FakeBus()
    reporter = Reporter(bus, "n1", "s")  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())

    def say(key: ObjectKey, phase: str, **how: Any) -> None:
        reporter.pod(key, "u-" + key.name, PodStatus(phase=phase), **how)

    yield SimpleNamespace(bus=bus, reporter=reporter, say=say)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def settled(case: Any) -> None:
    await asyncio.wait_for(case.reporter.drained(), 5)


async def test_what_gathers_while_one_is_in_flight_goes_into_the_next(case: Any) -> None:
    case.bus.gate.clear()
    case.say(A, "Pending")
    while not case.bus.requests:
        await asyncio.sleep(0)
    case.say(A, "Running")
    case.say(B, "Pending")
    case.say(B, "Running")
    case.bus.gate.set()
    await settled(case)
    assert case.bus.sent() == [("a", "Pending", -1), ("a", "Running", 1), ("b", "Running", -1)]
    assert len(case.bus.requests) == 2


async def test_what_is_known_already_is_not_said_again(case: Any) -> None:
    case.say(A, "Running")
    await settled(case)
    case.say(A, "Running")
    await settled(case)
    assert len(case.bus.requests) == 1
    case.say(A, "Running", gone=True)
    await settled(case)
    assert case.bus.requests[-1].reports[0].gone


async def test_unanswered_is_said_again_unless_something_newer_took_its_place(case: Any) -> None:
    def lost(_request: StatusRequest) -> StatusReply:
        case.say(A, "Running")
        raise Unavailable("no answer")

    case.bus.answer = [lost]
    case.say(A, "Pending")
    case.say(B, "Pending")
    await settled(case)
    assert sorted(case.bus.sent()[2:]) == [("a", "Running", -1), ("b", "Pending", -1)]


async def test_events_are_not_lost_with_their_request(case: Any) -> None:
    def lost(_request: StatusRequest) -> StatusReply:
        raise Unavailable("no answer")

    case.bus.answer = [lost]
    case.reporter.event(A, "u-a", "Normal", "Pulled", "x")
    case.reporter.event(A, "u-a", "Normal", "Created", "y")
    await settled(case)
    assert [e.reason for e in case.bus.requests[-1].events] == ["Pulled", "Created"]


async def test_a_conflict_is_answered_with_the_revision_that_is_there(case: Any) -> None:
    def conflict(_request: StatusRequest) -> StatusReply:
        return StatusReply(results=[ReportResult(revision=41, error=to_status(Conflict("changed")))])

    case.bus.answer = [conflict]
    case.say(A, "Running")
    await settled(case)
    assert case.bus.sent() == [("a", "Running", -1), ("a", "Running", 41)]


async def test_conflicts_without_end_are_not_asked_without_a_pause(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is answered at once with what is there now; from then on it takes its time, and works in the end."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    def conflict(_request: StatusRequest) -> StatusReply:
        return StatusReply(results=[ReportResult(revision=41, error=to_status(Conflict("changed")))])

    monkeypatch.setattr("shoal.node_agent.reporter.asyncio.sleep", counted)
    case.bus.answer = [conflict] * 8
    case.say(A, "Running")
    await settled(case)
    assert len(case.bus.requests) == 9
    real = [p for p in pauses if p]
    assert len(real) == 7
    assert real[-1] > 5 * real[0], "longer and longer"


async def test_what_is_anothers_now_is_not_said_again(case: Any) -> None:
    def not_found(_request: StatusRequest) -> StatusReply:
        return StatusReply(results=[ReportResult(error=to_status(NotFound("another uid")))])

    case.bus.answer = [not_found]
    case.say(A, "Running")
    await settled(case)
    assert len(case.bus.requests) == 1


async def test_each_that_failed_is_said_again_and_no_other(case: Any) -> None:
    def busy(_request: StatusRequest) -> StatusReply:
        no = (to_status(Unavailable("no leader")), to_status(Overloaded("too many")))
        return StatusReply(results=[ReportResult(error=no[0]), ReportResult(revision=7), ReportResult(error=no[1])])

    case.bus.answer = [busy]
    for key in (A, B, C):
        case.say(key, "Running", gone=key is C)
    await settled(case)
    assert sorted(case.bus.sent()[3:]) == [("a", "Running", -1), ("c", "Running", -1)]
    assert len(case.bus.requests) == 2


async def test_what_an_answer_leaves_out_is_said_again(case: Any) -> None:
    case.bus.answer = [lambda _: StatusReply(results=[ReportResult(revision=7)]), lambda _: StatusReply()]
    for key in (A, B, C):
        case.say(key, "Running")
    await settled(case)
    assert [name for name, _, _ in case.bus.sent()] == [*"abc", *"bc", *"bc"]


async def test_what_is_forgotten_while_its_request_is_under_way_stays_forgotten(case: Any) -> None:
    case.bus.gate.clear()
    case.say(A, "Running", gone=True)
    while not case.bus.requests:
        await asyncio.sleep(0)
    case.reporter.forget(A, "u-a")
    case.bus.gate.set()
    await settled(case)
    assert not case.reporter._sent
    assert not case.reporter._revisions


async def test_one_request_stays_within_a_message(case: Any) -> None:
    for i in range(500):
        case.say(ObjectKey("pods", "default", f"p{i}"), "Running")
    await settled(case)
    assert sum(len(r.reports) for r in case.bus.requests) == 500
    assert max(len(r.reports) for r in case.bus.requests) <= 200


async def test_what_follows_an_unanswered_report_overtakes_it_and_says_when_it_was_said(case: Any) -> None:
    def unanswered(_request: StatusRequest) -> StatusReply:
        raise Unavailable("no answer")

    case.bus.answer = [unanswered]
    case.say(A, "Pending")
    await settled(case)
    case.say(A, "Running")
    await settled(case)

    said = [r for request in case.bus.requests for r in request.reports]
    assert [r.overtakes for r in said] == [False, True, False]
    assert said[0].order == said[1].order < said[2].order
