"""What the proxy says is said until it is acknowledged."""

import asyncio
from contextlib import suppress

import pytest

from shoal.errors import Conflict, Invalid, Overloaded, Unavailable, to_status
from shoal.names import Names
from shoal.service_proxy.status import NetworkReporter, condition
from shoal.wire import ReportResult, StatusReply, StatusRequest


class FakeBus:
    def __init__(self, answers: list[StatusReply]) -> None:
        self.names = Names()
        self.connected = asyncio.Event()
        self.connected.set()
        self.answers = answers
        self.asked: list[int] = []
        self.done = asyncio.Event()

    async def request(self, _subject: str, body: StatusRequest, _reply: type) -> StatusReply:
        self.asked.append(body.reports[0].revision)
        answer = self.answers.pop(0)
        if not self.answers:
            self.done.set()
        return answer


async def said(*answers: StatusReply) -> list[int]:
    """The revisions that were sent, one a request, until all answers are given."""
    bus = FakeBus(list(answers))
    reporter = NetworkReporter(bus, "n1", lambda: 0)  # type: ignore[arg-type]
    reporter.known_as("u1")
    reporter.say(condition((), 0))
    task = asyncio.create_task(reporter.run())
    try:
        await asyncio.wait_for(bus.done.wait(), 5)
        await asyncio.sleep(0)
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return bus.asked


GOOD = StatusReply(results=[ReportResult(revision=5)])


@pytest.mark.parametrize("error", [Unavailable("no leader"), Overloaded("too many")])
async def test_it_is_said_again_after_what_passes(error: Unavailable | Overloaded) -> None:
    assert await said(StatusReply(results=[ReportResult(error=to_status(error))]), GOOD) == [-1, -1]


async def test_an_answer_without_a_result_is_no_answer() -> None:
    assert await said(StatusReply(), GOOD) == [-1, -1]


async def test_a_conflict_is_answered_with_the_revision_that_is_there() -> None:
    changed = StatusReply(results=[ReportResult(revision=41, error=to_status(Conflict("changed")))])
    assert await said(changed, GOOD) == [-1, 41]


async def test_what_is_refused_is_not_said_again() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await said(StatusReply(results=[ReportResult(error=to_status(Invalid("no")))]), GOOD)


def test_a_host_that_reaches_less_than_half_is_cut_off_and_one_odd_node_keeps_no_other_from_pods() -> None:
    assert (condition(("node b: no",), 1).status, condition(("node b: no",), 1).reason) == ("True", "NoRoute")
    odd = condition(("node b: shares no link",), 2)
    assert (odd.status, odd.reason, odd.message) == ("False", "NoRouteToSome", "node b: shares no link")
    assert condition(("b", "c"), 3).status == "True"
    assert condition((), 3).reason == "RoutesProgrammed"


def test_many_nodes_are_counted_where_they_are_not_named() -> None:
    told = condition([f"node n{i}: no" for i in range(7)], 7).message
    assert told.endswith("node n4: no; and 2 more")
    assert len(condition(["x" * 2000], 1).message) == 1024
