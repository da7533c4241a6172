"""What is kept of what is heard: by which clock, and what of it a list of the engine's takes back."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node_agent.made import NOW, a_fact, a_pod, a_sandbox

from shoal.names import ObjectKey
from shoal.node_agent.knowledge import Knowledge
from shoal.node_agent.lifecycle import pause_s
from shoal.node_agent.pods import DRAIN_S, Failure, decide
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, Changed

jumps = st.floats(-1e9, 1e9)


class Clocks:
    """`wall` jumps, `still` does not."""

    def __init__(self) -> None:
        self.wall = NOW
        self.still = 5000.0
        self.known = Knowledge("n1", ObjectKey("pods", "default", "web-1"), "u1", lambda: self.wall, lambda: self.still)

    def wake_at(self) -> float | None:
        return decide(self.known.view()).wake_at

    def running(self, *, failures: int = 0) -> None:
        known = self.known
        known.wanted(a_pod(), drained=False, traceparent="")
        known.listed((a_sandbox(), a_fact(failures=failures)), NOW)
        known.prepared = True
        known.connected = {"sandbox-0-0"}
        known.images = {}


@given(st.integers(1, 12), jumps, jumps)
def test_no_setting_of_the_clock_prolongs_the_wait_for_a_restart(failures: int, before: float, after: float) -> None:
    clocks = Clocks()
    clocks.running(failures=failures)
    clocks.wall += before
    clocks.known.changed(Changed("web-0-0", "u1", "die", NOW, 1))
    backoff = pause_s(clocks.known.facts["web-0-0"])
    wake = clocks.wake_at()
    assert wake == clocks.still + backoff
    clocks.wall += after
    assert clocks.wake_at() == wake
    clocks.still += backoff
    assert decide(clocks.known.view()).actions


@given(st.integers(1, 12), jumps, jumps)
def test_nor_of_what_had_ended_before_the_agent_looked(failures: int, before: float, after: float) -> None:
    clocks = Clocks()
    ended = a_fact(state=EXITED, failures=failures, exit_code=1, finished_at=NOW)
    clocks.running()
    clocks.wall += before
    clocks.known.listed((a_sandbox(), ended), clocks.wall)
    clocks.known.connected = {"sandbox-0-0"}
    wake = clocks.wake_at()
    assert wake is None or wake - clocks.still <= pause_s(ended)
    clocks.wall += after
    clocks.known.listed((a_sandbox(), ended), clocks.wall)
    clocks.known.connected = {"sandbox-0-0"}
    assert clocks.wake_at() == wake, "translated once"


@given(jumps)
def test_what_runs_goes_on_whatever_becomes_of_the_clock(jump: float) -> None:
    clocks = Clocks()
    clocks.running(failures=3)
    clocks.wall += jump
    decision = decide(clocks.known.view())
    assert (decision.actions, decision.wake_at) == ((), None)


@given(jumps, st.booleans())
def test_a_list_is_believed_whatever_the_clock_was_when_they_were_made(jump: float, listed_before: bool) -> None:
    clocks = Clocks()
    clocks.running()
    clocks.known.made(a_fact("side", state=CREATED, created_at=clocks.wall))
    if listed_before:
        clocks.known.listed((a_sandbox(), a_fact(), a_fact("side")), clocks.wall)
    clocks.wall += jump
    clocks.still += 1
    clocks.known.listed((a_sandbox(), a_fact()), clocks.wall)
    assert set(clocks.known.facts) == {"sandbox-0-0", "web-0-0"}


def test_what_was_made_while_the_engine_answered_is_kept_until_the_next_list() -> None:
    clocks = Clocks()
    clocks.running()
    asked = clocks.wall
    clocks.wall, clocks.still = clocks.wall + 1, clocks.still + 1
    clocks.known.made(a_fact("side", state=CREATED))
    clocks.wall, clocks.still = clocks.wall + 1, clocks.still + 1
    clocks.known.listed((a_sandbox(), a_fact()), asked)
    assert "side-0-0" in clocks.known.facts
    asked = clocks.wall
    clocks.wall += 3600  # it is set while the engine answers
    clocks.known.listed((a_sandbox(), a_fact()), asked)
    assert "side-0-0" not in clocks.known.facts


@given(jumps, jumps)
def test_a_deleted_pod_is_drained_no_longer_for_a_clock_that_is_set(before: float, after: float) -> None:
    clocks = Clocks()
    clocks.running()
    clocks.wall += before
    clocks.known.working = {"stop web-0-0"}
    clocks.known.wanted(a_pod(deleted=True, grace=7), drained=False, traceparent="")
    assert clocks.known.kill_at == clocks.still + 7
    clocks.wall += after
    assert clocks.wake_at() == clocks.still + DRAIN_S


def test_what_is_gone_leaves_nothing_behind() -> None:
    clocks = Clocks()
    clocks.running()
    known = clocks.known
    known.failures = {"stop web-0-0": Failure(reason="", message=""), "remove web-0-0": Failure(reason="", message="")}
    known.changed(Changed("web-0-0", "u1", "die", NOW, 1))
    known.changed(Changed("web-0-0", "u1", "destroy", NOW))
    assert (set(known.facts), known.ended, known.failures) == ({"sandbox-0-0"}, {}, {})


def test_an_engine_that_answers_again_is_asked_again_but_what_it_refused_waits_on() -> None:
    clocks = Clocks()
    clocks.running()
    refused = Failure(reason="CreateContainerError", message="no", until=clocks.still + 40, container="web")
    lost = Failure(reason="", message="away", until=clocks.still + 40)
    clocks.known.failures = {"create web": refused, "stop web-0-0": lost}
    clocks.known.listed((a_sandbox(), a_fact(state=RUNNING)), clocks.wall)
    assert clocks.known.failures == {"create web": refused}
