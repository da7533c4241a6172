"""What is decided for one pod: tables of situations, and the law that carrying decisions out ends in none."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.node_agent.made import NOW, a_fact, a_pod, a_sandbox

from shoal.model.pod import Pod
from shoal.node_agent import lifecycle
from shoal.node_agent.actions import (
    Action,
    CreateContainer,
    CreateSandbox,
    Decision,
    GetImage,
    Prepare,
    Release,
    Remove,
    StartContainer,
    StartSandbox,
    Stop,
)
from shoal.node_agent.lifecycle import BACKOFF_MAX_S, backoff_s
from shoal.node_agent.pods import Failure, Memory, View, decide
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, Fact, Labels

READY = Memory(prepared=True, connected=frozenset({"sandbox-0-0"}), images={"web": "sha256:1", "init": "sha256:2"})


def look(pod: Pod | None, *facts: Fact, memory: Memory = READY, now: float = NOW, drained: bool = False) -> Decision:
    memory = msgspec.structs.replace(memory, ended=ends(facts))
    return decide(View(pod=pod, facts=facts, memory=memory, now=now, drained=drained))


def ends(facts: Iterable[Fact]) -> dict[str, float]:
    """As of a wall clock that never jumped."""
    return {f.id: f.finished_at for f in facts if f.state == EXITED}


# --- beginning -----------------------------------------------------------------------------------------------------------


def test_a_new_pod_is_given_its_ground_first() -> None:
    assert look(a_pod(), memory=Memory()).actions == (Prepare(),)


def test_sandbox_and_containers_are_created_side_by_side() -> None:
    assert look(a_pod()).actions == (CreateSandbox(0), CreateContainer("web", 0, 0, 0))


def test_an_image_is_looked_for_while_the_sandbox_is_made() -> None:
    assert look(a_pod(), memory=Memory(prepared=True)).actions == (CreateSandbox(0), GetImage("web"))


def test_nothing_joins_a_sandbox_before_its_network_is_ready() -> None:
    """A container that joined earlier would be in the host's network."""
    memory = Memory(prepared=True, images={"web": "i"})
    decision = look(a_pod(), a_sandbox(), a_fact(state=CREATED), memory=memory)
    assert decision.actions == (StartSandbox("sandbox-0-0"),)


def test_a_created_container_is_started_in_a_ready_sandbox() -> None:
    assert look(a_pod(), a_sandbox(), a_fact(state=CREATED)).actions == (StartContainer("web-0-0", "web"),)


def test_what_is_at_work_is_not_decided_again() -> None:
    working = msgspec.structs.replace(READY, working=frozenset({"sandbox 0", "create web"}))
    assert look(a_pod(), memory=working).actions == ()


def test_a_pod_that_runs_needs_nothing() -> None:
    assert look(a_pod(), a_sandbox(), a_fact()) == Decision()


# --- init containers -----------------------------------------------------------------------------------------------------


def with_init(**spec: Any) -> Pod:
    return a_pod(initContainers=[{"name": "init", "image": "i"}, {"name": "init2", "image": "i"}], **spec)


def test_init_containers_come_one_by_one_before_all_others() -> None:
    assert look(with_init()).actions == (CreateSandbox(0), CreateContainer("init", 0, 0, 0))
    assert look(with_init(), a_sandbox(), a_fact("init")).actions == ()
    assert look(with_init(), a_sandbox(), a_fact("init", state=EXITED)).actions == (GetImage("init2"),)


def test_the_others_begin_when_the_last_init_container_has_succeeded() -> None:
    done = (a_fact("init", state=EXITED), a_fact("init2", state=EXITED))
    assert look(with_init(), a_sandbox(), *done).actions == (CreateContainer("web", 0, 0, 0),)


def test_a_failed_init_container_is_tried_again_unless_the_policy_is_never() -> None:
    failed = a_fact("init", state=EXITED, exit_code=1)
    assert look(with_init(), a_sandbox(), failed).actions == (CreateContainer("init", 1, 1, 0),)
    assert lifecycle.phase(with_init(restartPolicy="Never"), (a_sandbox(), failed)) == "Failed"


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    """Even those that succeeded, and at once: it is a new beginning, not a failure."""
    old = (a_fact("init", state=EXITED), a_fact("init2", state=EXITED), a_fact(state=EXITED, exit_code=137))
    decision = look(with_init(), a_sandbox(generation=1), *old)
    assert CreateContainer("init", 1, 1, 1) in decision.actions


# --- restarts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy(policy: str, code: int, again: bool) -> None:
    ended = a_fact(state=EXITED, exit_code=code)
    created = [
        a for a in look(a_pod(restartPolicy=policy), a_sandbox(), ended).actions if isinstance(a, CreateContainer)
    ]
    assert bool(created) is again


def test_the_first_restart_comes_at_once() -> None:
    assert look(a_pod(), a_sandbox(), a_fact(state=EXITED)).actions == (CreateContainer("web", 1, 1, 0),)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (1, 0), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 300), (1000, 300)]
)
def test_backoff_doubles_to_five_minutes(failures: int, seconds: int) -> None:
    assert backoff_s(failures) == seconds


def test_a_later_restart_waits_and_says_until_when() -> None:
    crashed = a_fact(state=EXITED, exit_code=1, attempt=1, failures=1, finished_at=NOW - 4)
    assert look(a_pod(), a_sandbox(), crashed) == Decision((), NOW + 6)
    assert look(a_pod(), a_sandbox(), crashed, now=NOW + 6).actions == (CreateContainer("web", 2, 2, 0),)


def test_a_long_run_is_forgiven() -> None:
    ran = a_fact(state=EXITED, exit_code=1, attempt=9, failures=9, started_at=NOW - 601, finished_at=NOW)
    assert look(a_pod(), a_sandbox(), ran).actions == (CreateContainer("web", 10, 1, 0),)


def test_of_the_dead_the_last_is_kept_for_its_log() -> None:
    facts = (
        a_fact(state=EXITED, attempt=0),
        a_fact(state=EXITED, attempt=1, failures=1),
        a_fact(attempt=2, failures=2),
    )
    assert look(a_pod(), a_sandbox(), *facts).actions == (Remove("web-0-0"),)


def test_two_that_run_under_one_name_are_one_too_many() -> None:
    """Somebody started an old one by hand: the newest stays."""
    assert Remove("web-0-0") in look(a_pod(), a_sandbox(), a_fact(attempt=0), a_fact(attempt=1)).actions


def test_what_failed_is_not_tried_before_its_time() -> None:
    memory = msgspec.structs.replace(
        READY, images={}, failures={"image web": Failure(reason="ErrImagePull", message="", until=NOW + 9)}
    )
    assert look(a_pod(), a_sandbox(), memory=memory) == Decision((), NOW + 9)


@pytest.mark.parametrize(
    ("pod", "facts", "trial"),
    [
        (a_pod(), (a_sandbox(), a_fact(image="shoal/old")), "stop web-0-0"),
        (a_pod(deleted=True), (a_fact(),), "stop web-0-0"),
        (a_pod(deleted=True), (a_fact(state=EXITED),), "remove web-0-0"),
        (a_pod(deleted=True), (), "ground"),
        (None, (), "ground"),
        (a_pod(restartPolicy="Never"), (a_sandbox(), a_fact(state=EXITED)), "remove sandbox-0-0"),
        (a_pod(), (a_sandbox(state=EXITED), a_fact()), "stop web-0-0"),
        (a_pod(), (a_sandbox(state=EXITED),), "remove sandbox-0-0"),
        (a_pod(), (a_sandbox(state=EXITED),), "sandbox"),
        (a_pod(), (a_sandbox(), a_fact(), a_fact(state=CREATED, generation=-1)), "remove web-0--1"),
        (a_pod(), (a_sandbox(), a_fact(state=CREATED)), "start web-0-0"),
        (a_pod(), (), "sandbox"),
    ],
)
def test_every_action_that_failed_waits_for_its_time(pod: Pod | None, facts: tuple[Fact, ...], trial: str) -> None:
    failed = {trial: Failure(reason="", message="", until=NOW + 9)}
    memory = msgspec.structs.replace(READY, failures=failed)
    assert look(pod, *facts, memory=memory, drained=True) == Decision((), NOW + 9)
    assert look(pod, *facts, memory=memory, drained=True, now=NOW + 9).actions


def test_what_failed_holds_nothing_else_back() -> None:
    failed = {"remove web-0-0": Failure(reason="", message="", until=NOW + 9)}
    facts = (a_fact(state=EXITED), a_fact("side", state=EXITED))
    decision = look(a_pod(deleted=True), *facts, memory=msgspec.structs.replace(READY, failures=failed), drained=True)
    assert decision == Decision((Remove("side-0-0"),), NOW + 9)


def test_another_image_is_another_container() -> None:
    runs = a_fact(image="shoal/old")
    assert look(a_pod(), a_sandbox(), runs).actions == (Stop("web-0-0", 30, "web", "ContainerChanged"),)
    ended = a_fact(image="shoal/old", state=EXITED, failures=4)
    assert look(a_pod(), a_sandbox(), ended).actions == (CreateContainer("web", 1, 5, 0),), "at once: it did not crash"
    assert look(a_pod(restartPolicy="Never"), a_sandbox(), runs).actions == ()


# --- the sandbox dies ----------------------------------------------------------------------------------------------------


def test_a_dead_sandbox_takes_its_containers_along_then_the_pod_begins_anew() -> None:
    dead = a_sandbox(state=EXITED)
    assert look(a_pod(), dead, a_fact()).actions == (Stop("web-0-0", 5, "web", "SandboxChanged"),)
    ended = a_fact(state=EXITED, exit_code=137)
    assert look(a_pod(), dead, ended).actions == (Remove("sandbox-0-0"),)
    assert look(a_pod(), ended).actions == (CreateSandbox(1), CreateContainer("web", 1, 1, 1))


def test_a_pod_that_never_restarts_does_not_begin_anew() -> None:
    facts = (a_sandbox(state=EXITED), a_fact(state=EXITED, exit_code=137))
    decision = look(a_pod(restartPolicy="Never"), *facts)
    assert decision.actions == (Remove("sandbox-0-0"),)
    assert lifecycle.phase(a_pod(restartPolicy="Never"), facts) == "Failed"


def test_a_container_of_an_older_sandbox_is_not_left_running_beside_the_new_one() -> None:
    decision = look(a_pod(), a_sandbox(generation=1), a_fact(generation=0))
    assert Stop("web-0-0", 5, "web", "SandboxChanged") in decision.actions


def test_a_container_that_was_made_for_an_older_sandbox_is_never_started() -> None:
    memory = msgspec.structs.replace(READY, connected=frozenset({"sandbox-0-1"}))
    decision = look(a_pod(), a_sandbox(generation=1), a_fact(state=CREATED), memory=memory)
    assert decision.actions == (Remove("web-0-0"),)


# --- the end -------------------------------------------------------------------------------------------------------------


def test_a_finished_pod_keeps_its_containers_and_gives_back_the_rest() -> None:
    pod, ended = a_pod(restartPolicy="Never"), a_fact(state=EXITED)
    assert look(pod, a_sandbox(), ended).actions == (Remove("sandbox-0-0"),)
    assert look(pod, ended).actions == (Release(),)
    assert look(pod, ended, memory=Memory(released=True)) == Decision()


def test_a_deleted_pod_waits_until_it_is_drained_or_two_seconds() -> None:
    pod = a_pod(deleted=True)
    memory = msgspec.structs.replace(READY, deleted_seen=NOW - 1)
    assert look(pod, a_sandbox(), a_fact(), memory=memory) == Decision((), NOW + 1)
    stop = (Stop("web-0-0", 30, "web", "Killing"),)
    assert look(pod, a_sandbox(), a_fact(), memory=memory, drained=True).actions == stop
    assert look(pod, a_sandbox(), a_fact(), memory=memory, now=NOW + 1).actions == stop


def test_containers_end_before_the_sandbox_and_what_lay_beneath_goes_last() -> None:
    pod = a_pod(deleted=True, grace=7)
    assert look(pod, a_sandbox(), a_fact(), drained=True).actions == (Stop("web-0-0", 7, "web", "Killing"),)
    ended = a_fact(state=EXITED)
    assert set(look(pod, a_sandbox(), ended, drained=True).actions) == {Remove("sandbox-0-0"), Remove("web-0-0")}
    assert look(pod, drained=True).actions == (Release(),)
    assert look(pod, drained=True, memory=Memory(released=True)) == Decision(ended=True)


def test_a_grace_of_zero_kills_at_once() -> None:
    decision = look(a_pod(deleted=True, grace=0), a_sandbox(), a_fact(), drained=True)
    assert set(decision.actions) == {Remove("sandbox-0-0"), Remove("web-0-0")}


def test_a_shorter_grace_ends_what_is_being_stopped() -> None:
    pod = a_pod(deleted=True, grace=5)
    memory = msgspec.structs.replace(READY, working=frozenset({"stop web-0-0"}), kill_at=NOW + 5)
    facts = (a_sandbox(), a_fact())
    assert look(pod, *facts, memory=memory, drained=True) == Decision((), NOW + 5)
    late = look(pod, *facts, memory=memory, drained=True, now=NOW + 5)
    assert set(late.actions) == {Remove("sandbox-0-0"), Remove("web-0-0")}


def test_what_a_create_under_way_makes_is_waited_for() -> None:
    memory = msgspec.structs.replace(READY, working=frozenset({"create web"}))
    assert look(a_pod(deleted=True), memory=memory, drained=True) == Decision()


def test_a_pull_under_way_holds_no_deletion_up() -> None:
    memory = msgspec.structs.replace(READY, working=frozenset({"image web"}))
    assert look(a_pod(deleted=True), memory=memory, drained=True).actions == (Release(),)


def test_what_has_no_record_goes() -> None:
    assert look(None, a_sandbox(), a_fact()).actions == (Stop("web-0-0", 2, "web", "Killing"),)
    assert look(None, memory=Memory(released=True)).ended


# --- phases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "facts", "phase"),
    [
        ("Always", (), "Pending"),
        ("Always", (a_fact(state=CREATED),), "Pending"),
        ("Always", (a_fact(),), "Running"),
        ("Always", (a_fact(state=EXITED, exit_code=1),), "Running"),
        ("Always", (a_fact(state=EXITED), a_fact(state=CREATED, attempt=1)), "Running"),
        ("OnFailure", (a_fact(state=EXITED, exit_code=1),), "Running"),
        ("OnFailure", (a_fact(state=EXITED),), "Succeeded"),
        ("Never", (a_fact(state=EXITED, exit_code=1),), "Failed"),
        ("Never", (a_fact(state=EXITED, error="no such file", exit_code=128),), "Failed"),
    ],
)
def test_phases(policy: str, facts: tuple[Fact, ...], phase: str) -> None:
    assert lifecycle.phase(a_pod(restartPolicy=policy), facts) == phase


# --- laws ----------------------------------------------------------------------------------------------------------------

NAMES = ("web", "side", "init")

some_facts = st.lists(
    st.builds(
        lambda container, attempt, generation, state, code, failures: a_fact(
            container, attempt=attempt, generation=generation, state=state, exit_code=code, failures=failures
        ),
        st.sampled_from(("", *NAMES, "stranger")),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from((CREATED, RUNNING, EXITED)),
        st.sampled_from((0, 1, 137)),
        st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda f: f.id,
)
some_pods = st.one_of(
    st.none(),
    st.builds(
        lambda policy, init, deleted, grace: a_pod(
            restartPolicy=policy,
            containers=[{"name": "web", "image": "w"}, {"name": "side", "image": "s"}],
            initContainers=[{"name": "init", "image": "i"}] if init else [],
            deleted=deleted,
            **({"grace": grace} if deleted else {}),
        ),
        st.sampled_from(("Always", "OnFailure", "Never")),
        st.booleans(),
        st.booleans(),
        st.integers(0, 30),
    ),
)


class World:
    """Carries actions out as an engine would: init containers succeed, all others run for ever."""

    def __init__(self, pod: Pod | None, facts: tuple[Fact, ...]) -> None:
        self.pod, self.now = pod, NOW
        self.facts = {f.id: f for f in facts}
        self.prepared = self.released = False
        self.connected: set[str] = set()
        self.images: dict[str, str] = {}

    def view(self) -> View:
        memory = Memory(
            prepared=self.prepared,
            released=self.released,
            connected=frozenset(self.connected),
            images=self.images,
            deleted_seen=NOW,
            ended=ends(self.facts.values()),
        )
        return View(pod=self.pod, facts=tuple(self.facts.values()), memory=memory, now=self.now)

    def make(self, container: str, attempt: int, generation: int, failures: int = 0) -> None:
        labels = Labels(
            uid="u1",
            namespace="default",
            pod="web-1",
            container=container,
            attempt=attempt,
            generation=generation,
            failures=failures,
        )
        assert not any(f.labels == labels for f in self.facts.values()), f"made twice: {labels}"
        new = f"{container}+{attempt}+{generation}"
        self.facts[new] = Fact(id=new, labels=labels, created_at=self.now)

    def set(self, i: str, **known: Any) -> None:
        self.facts[i] = msgspec.structs.replace(self.facts[i], **known)

    def perform(self, action: Action) -> None:
        match action:
            case Prepare():
                self.prepared, self.released = True, False
            case Release():
                assert not any(f.state == RUNNING for f in self.facts.values()), "released under what runs"
                self.prepared, self.released = False, True
            case GetImage(container=name):
                self.images[name] = "sha256:x"
            case CreateSandbox(generation=generation):
                self.make("", 0, generation)
            case StartSandbox(id=i):
                self.set(i, state=RUNNING, started_at=self.now)
                self.connected.add(i)
            case CreateContainer(container=name, attempt=attempt, failures=failures, generation=generation):
                self.make(name, attempt, generation, failures)
            case StartContainer(id=i, container=name):
                sandbox = next(f for f in self.facts.values() if f.id in self.connected)
                assert sandbox.labels.generation == self.facts[i].labels.generation, "joined another sandbox"
                ends = name == "init"
                self.set(i, state=EXITED if ends else RUNNING, started_at=self.now, finished_at=self.now if ends else 0)
            case Stop(id=i):
                self.set(i, state=EXITED, exit_code=137, finished_at=self.now)
            case Remove(id=i):
                del self.facts[i]
                self.connected.discard(i)

    def end_init(self) -> bool:
        """Init containers that run end well in time."""
        running = [f.id for f in self.facts.values() if f.labels.container == "init" and f.state == RUNNING]
        for i in running:
            self.set(i, state=EXITED, finished_at=self.now)
        return bool(running)

    def settle(self) -> Decision:
        for _ in range(60):
            decision = decide(self.view())
            if decision.actions:
                for action in decision.actions:
                    self.perform(action)
            elif decision.wake_at is not None:
                assert decision.wake_at > self.now
                self.now = decision.wake_at
            elif not self.end_init():
                return decision
        raise AssertionError(f"never settles: {decide(self.view())}")


@settings(max_examples=400)
@given(some_pods, some_facts)
def test_deciding_settles_whatever_it_begins_with(pod: Pod | None, facts: list[Fact]) -> None:
    world = World(pod, tuple(facts))
    end = world.settle()
    left = list(world.facts.values())
    if pod is None or pod.metadata.deletion_timestamp is not None:
        assert end.ended
        assert left == []
        return
    running = sorted(f.labels.container for f in left if f.state == RUNNING)
    if lifecycle.phase(pod, left) == "Running":
        sandbox = [f for f in left if f.labels.container == ""]
        assert len(sandbox) == 1
        assert sandbox[0].id in world.connected
        assert running == sorted(set(running)), "one of each name"
        assert all(f.labels.generation == sandbox[0].labels.generation for f in left if f.state == RUNNING)
    else:
        assert running == []
        assert world.released
    for name in NAMES:
        assert len([f for f in left if f.labels.container == name]) <= 2, "newest and previous"


@given(some_pods, some_facts, st.randoms())
def test_the_order_of_what_is_known_changes_nothing(pod: Pod | None, facts: list[Fact], shuffle: Any) -> None:
    memory = Memory(prepared=True)
    first = decide(View(pod=pod, facts=tuple(facts), memory=memory, now=NOW))
    shuffle.shuffle(facts)
    assert decide(View(pod=pod, facts=tuple(facts), memory=memory, now=NOW)) == first


@given(st.integers(0, 10_000), st.floats(0, 1e6))
def test_no_backoff_is_longer_than_five_minutes(failures: int, ran: float) -> None:
    ended = a_fact(state=EXITED, failures=failures, started_at=NOW - ran, finished_at=NOW)
    assert 0 <= lifecycle.restarts_at(ended) - NOW <= BACKOFF_MAX_S
