"""Failures of what was decided: nothing is tried again without a pause, and what ended meanwhile is not called running."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from tests.unit.node_agent.made import a_pod
from tests.unit.node_agent.simulated import SimulatedRuntime
from tests.unit.node_agent.test_worker import Case, deleted

from shoal.errors import ShoalError, Unavailable
from shoal.model.pod import Pod
from shoal.node_agent import performer, pods
from shoal.node_agent.actions import key_of
from shoal.node_agent.performer import ENDED_AT_ONCE, RETRY_MAX_S, Performer
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, SANDBOX, EngineError

HOUR_S = 3600.0
STEPS_MAX = 2000


class Bench:
    """Decides and performs by turns; when nothing is to be done the time of the next wake comes."""

    def __init__(self, folder: Path) -> None:
        self.case = Case(folder)
        self.runtime: SimulatedRuntime = self.case.runtime
        self.known = self.case.worker.known
        self.told: list[str] = []
        self.performer = Performer(self.case.node, self.known, lambda _t, reason, _m, _c: self.told.append(reason))

    def want(self, pod: Pod) -> None:
        self.known.wanted(pod, drained=True, traceparent="")

    async def step(self) -> bool:
        """False: nothing is to be done, nor will be."""
        decision = pods.decide(self.known.view())
        for action in decision.actions:
            self.known.working.add(key_of(action))
            await self.performer.perform(action)
            self.known.working.discard(key_of(action))
        if not decision.actions and decision.wake_at is not None:
            assert decision.wake_at > self.runtime.monotonic()
            self.runtime.now += decision.wake_at - self.runtime.monotonic()
        return bool(decision.actions) or decision.wake_at is not None

    async def settle(self) -> None:
        for _ in range(STEPS_MAX):
            if not await self.step():
                return
        raise AssertionError("never settles")

    async def pass_an_hour(self) -> None:
        end = self.runtime.monotonic() + HOUR_S
        for _ in range(STEPS_MAX):
            if self.runtime.monotonic() >= end or not await self.step():
                return
        raise AssertionError(f"tried without a pause: {self.runtime.calls[-20:]}")


class Always(list[Exception]):
    """An error that is raised again and again."""

    def pop(self, _index: Any = -1) -> Exception:
        return self[0]


def sandboxes_made(bench: Bench) -> int:
    return len([c for c in bench.runtime.calls if c.startswith("create shoal_POD_")])


def end_of(pod: Pod) -> Pod:
    return deleted(pod, grace=7)


def other_image(pod: Pod) -> Pod:
    return a_pod(containers=[{"name": "web", "image": "shoal/other"}])


@pytest.mark.parametrize("error", [EngineError("no", status=500), Unavailable("away"), RuntimeError("a bug")])
@pytest.mark.parametrize(
    ("call", "then"),
    [
        ("create", None),
        ("start", None),
        ("pid", None),
        ("image", None),
        ("stop", end_of),
        ("stop", other_image),
        ("remove", end_of),
    ],
)
async def test_what_fails_for_good_is_tried_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, then: Callable[[Pod], Pod] | None, error: Exception
) -> None:
    monkeypatch.setattr(performer, "log", Mock())  # to print a traceback takes longer than all else
    bench = Bench(tmp_path)
    bench.want(a_pod())
    if then is not None:
        await bench.settle()
        bench.want(then(a_pod()))
    bench.runtime.fail[call] = Always([error])
    bench.runtime.calls.clear()
    await bench.pass_an_hour()
    tried = [c for c in bench.runtime.calls if c.partition(" ")[0] == call]
    containers = 2
    doublings = 8
    assert 1 < len(tried) <= containers * (HOUR_S / RETRY_MAX_S + doublings)


async def test_a_release_that_fails_for_good_is_tried_seldom_then_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.want(a_pod())
    await bench.settle()
    tried = 0

    async def fails(_: str) -> None:
        nonlocal tried
        tried += 1
        raise ShoalError("device busy")

    works = bench.case.network.disconnect
    bench.case.network.disconnect = fails  # type: ignore[assignment]
    bench.want(end_of(a_pod()))
    await bench.pass_an_hour()
    assert 1 < tried <= HOUR_S / RETRY_MAX_S + 8
    bench.case.network.disconnect = works  # type: ignore[method-assign]
    await bench.settle()
    assert pods.decide(bench.known.view()).ended


async def test_a_remove_that_fails_is_no_failure_of_the_sandbox(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.want(a_pod())
    await bench.settle()
    bench.runtime.fail["remove"] = Always([EngineError("busy", status=500)])
    bench.want(end_of(a_pod()))
    for _ in range(4):
        await bench.step()
    assert any(trial.startswith("remove ") for trial in bench.known.failures)
    assert bench.known.failures_told() == {}


@pytest.mark.parametrize("host_network", [False, True])
async def test_a_sandbox_that_ends_while_its_start_is_answered_is_replaced(tmp_path: Path, host_network: bool) -> None:
    bench = Bench(tmp_path)
    bench.known.facts.clear()
    runtime = bench.runtime
    runtime.listeners[:] = [bench.known.changed]
    start, ended = runtime.start, False

    async def start_and_die(i: str) -> None:
        nonlocal ended
        await start(i)
        if runtime.facts[i].labels.container == SANDBOX and not ended:
            ended = True
            runtime.die(runtime.facts[i], 137)

    runtime.start = start_and_die  # type: ignore[assignment]
    bench.want(a_pod(hostNetwork=host_network))
    await bench.settle()
    sandbox = next(f for f in bench.known.facts.values() if f.labels.container == SANDBOX)
    assert ended
    assert sandbox.state == RUNNING
    assert sandboxes_made(bench) == 2
    assert bench.known.connected == {sandbox.id}
    assert [f.state for f in runtime.of("web")] == [RUNNING]


async def test_of_a_sandbox_without_a_process_the_engine_is_asked(tmp_path: Path) -> None:
    """Its end was not heard: the event is on its way, or was lost."""
    bench = Bench(tmp_path)
    runtime = bench.runtime
    runtime.listeners.clear()
    start, ended = runtime.start, False

    async def start_and_die(i: str) -> None:
        nonlocal ended
        await start(i)
        if runtime.facts[i].labels.container == SANDBOX and not ended:
            ended = True
            runtime.facts[i] = msgspec.structs.replace(runtime.facts[i], state=EXITED, finished_at=runtime.now)

    runtime.start = start_and_die  # type: ignore[assignment]
    bench.want(a_pod())
    while not bench.known.failures:
        await bench.step()
    assert bench.known.failures["sandbox"].message == ENDED_AT_ONCE
    assert [f.state for f in bench.known.facts.values() if f.labels.container == SANDBOX] == [EXITED]
    await bench.settle()
    assert [f.state for f in runtime.of(SANDBOX)] == [RUNNING]
    assert sandboxes_made(bench) == 2


async def test_a_sandbox_that_is_gone_when_it_is_asked_for_is_made_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    runtime = bench.runtime
    runtime.listeners.clear()
    pid, gone = runtime.pid, False

    async def nobody(i: str) -> int:
        nonlocal gone
        if not gone:
            gone = True
            del runtime.facts[i]
            return 0
        return await pid(i)

    runtime.pid = nobody  # type: ignore[assignment]
    bench.want(a_pod())
    await bench.settle()
    assert [f.state for f in runtime.of(SANDBOX)] == [RUNNING]
    assert CREATED not in {f.state for f in bench.known.facts.values()}


async def test_the_pause_grows_and_success_forgets_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.want(a_pod())
    await bench.settle()
    bench.runtime.fail["remove"] = [EngineError("busy", status=500) for _ in range(3)]
    bench.runtime.die(bench.runtime.of(SANDBOX)[0], 137)
    waits: list[float] = []
    while len(waits) < 3:
        await bench.step()
        for trial, failed in bench.known.failures.items():
            if trial.startswith("remove ") and failed.count > len(waits):
                waits.append(failed.until - bench.runtime.monotonic())
    assert waits == [1, 2, 4]
    await bench.settle()
    assert bench.known.failures == {}


async def test_a_clock_that_is_set_back_prolongs_no_pause(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.runtime.fail["create"] = [EngineError("busy", status=500)]
    bench.want(a_pod())
    bench.runtime.set_clock(3600)
    await bench.step()
    await bench.step()
    assert bench.known.failures
    bench.runtime.set_clock(-86_400)
    before = bench.runtime.monotonic()
    await asyncio.wait_for(bench.settle(), 5)
    assert bench.runtime.monotonic() - before <= 10
    assert [f.state for f in bench.runtime.of("web")] == [RUNNING]
