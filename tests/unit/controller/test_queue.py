"""The keyed queue, checked against what its three rules say, by random histories and by example."""

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shoal.controller.queue import Queue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class QueueMachine(RuleBasedStateMachine):
    """The model: which keys are owed a look, since when (a step), and which are being looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue: Queue[str] = Queue(self.clock)
        self.waiting: list[str] = []
        self.working: set[str] = set()
        self.again: list[str] = []
        self.later: dict[str, float] = {}

    keys = st.sampled_from("abcd")
    seconds = st.sampled_from([0.5, 1.0, 1.5, 2.0]) | st.floats(0.1, 5)  # round ones: many are due at one moment

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self._owe(key)

    @rule(key=keys, after=seconds)
    def add_later(self, key: str, after: float) -> None:
        self.queue.add(key, after)
        due = self.clock.now + after
        if due < self.later.get(key, float("inf")):
            self.later.pop(key, None)  # of those that are due at one moment, who asked for it first is first
            self.later[key] = due

    @rule(seconds=seconds)
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        len(self.queue)  # looks at the clock
        for key in sorted(self.later, key=lambda k: self.later[k]):
            if self.later[key] <= self.clock.now:
                del self.later[key]
                self._owe(key)

    @rule(maximum=st.integers(1, 4))
    def take(self, maximum: int) -> None:
        taken = self.queue.take_ready(maximum)
        assert taken == self.waiting[:maximum]
        assert not self.working.intersection(taken), "a key is worked by two"
        self.waiting = self.waiting[maximum:]
        self.working.update(taken)

    @rule(key=keys)
    def done(self, key: str) -> None:
        if key not in self.working:
            return
        self.queue.done(key)
        self.working.discard(key)
        if key in self.again:
            self.again.remove(key)
            self.waiting.append(key)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.waiting)
        due = self.queue.next_due_s()
        assert (due is None) == (not self.later)
        assert due is None or abs(due - max(0, min(self.later.values()) - self.clock.now)) < 1e-9

    def _owe(self, key: str) -> None:
        if key in self.working:
            if key not in self.again:
                self.again.append(key)
        elif key not in self.waiting:
            self.waiting.append(key)


TestQueue = QueueMachine.TestCase


def test_what_is_due_at_one_moment_comes_in_the_order_in_which_it_was_asked_for() -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    queue.add("a", 5)
    queue.add("b", 5)
    queue.add("a", 3)
    clock.now = 3
    assert queue.take_ready(1) == ["a"]
    queue.done("a")
    queue.add("a", 2)
    clock.now = 5
    assert queue.take_ready(2) == ["b", "a"]


def test_ten_events_on_a_key_that_is_worked_are_one_more_look() -> None:
    queue: Queue[str] = Queue(Clock())
    queue.add("a")
    assert queue.take_ready(10) == ["a"]

    for _ in range(10):
        queue.add("a")
    assert queue.take_ready(10) == []

    queue.done("a")
    assert queue.take_ready(10) == ["a"]
    queue.done("a")
    assert queue.take_ready(10) == []


async def test_take_wakes_when_a_key_comes() -> None:
    queue: Queue[str] = Queue(Clock())
    taking = asyncio.create_task(queue.take(5))
    await asyncio.sleep(0)

    queue.add("a")
    queue.add("b")

    assert await taking == ["a", "b"]


async def test_take_wakes_when_a_delay_is_over_and_for_an_earlier_one_that_comes_meanwhile() -> None:
    loop = asyncio.get_running_loop()
    queue: Queue[str] = Queue(loop.time)
    queue.add("late", 60)
    taking = asyncio.create_task(queue.take(5))
    await asyncio.sleep(0)

    queue.add("soon", 0.01)

    async with asyncio.timeout(5):
        assert await taking == ["soon"]
