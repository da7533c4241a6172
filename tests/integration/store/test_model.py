"""The store against a dict, by a state machine: two processes write, the server is killed with -9 and comes back, cables
are cut while commits are under way. What was acknowledged is there, what was refused is not, what is unknown is whole.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.errors import Conflict, Deposed, Unavailable
from shoal.local.nats_server import NatsServer
from shoal.names import leader
from shoal.store.records import Change, Delete, Entry, Fence, Put, Synced
from shoal.store.store import Store
from shoal.store.streams import ensure_streams
from shoal.store.watch import Watch

T = TypeVar("T")
KEYS = [f"k.{i}" for i in range(6)]
keys = st.sampled_from(KEYS)
groups_of_keys = st.lists(keys, min_size=1, max_size=5, unique=True)
who = st.integers(0, 1)
Cable: Any = None  # the class, from conftest, by the fixture


class Process:
    """One connection with its store, and a cache fed by a watch."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.store = Store(bus)
        self.cache: dict[str, tuple[bytes, int]] = {}
        self.moved = asyncio.Event()

    async def follow(self) -> None:
        async for item in Watch(self.bus, name="model", filters=["k.>"]):
            if isinstance(item, Synced):
                for key in item.gone:
                    self.cache.pop(key, None)
            elif item.value is None:
                self.cache.pop(item.key, None)
            else:
                self.cache[item.key] = (item.value, item.revision)
            self.moved.set()


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.random = random.Random(0)
        self.model: dict[str, tuple[bytes, int]] = {}
        self.last = 0
        self.count = 0
        self.token = 0
        self.disturbed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        self.stack = AsyncExitStack()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.server = await self.stack.enter_async_context(NatsServer(directory))
        self.cable = await self.stack.enter_async_context(Cable(self.server.port))
        self.processes: list[Process] = []
        for url in (self.server.url, self.cable.url):
            bus = await self.stack.enter_async_context(connect(BusConfig(servers=(url,)), name="model"))
            self.processes.append(Process(bus))
            await ensure_streams(bus)
            bus.spawn(self.processes[-1].follow(), name="follow")

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.run(self.stack.aclose())
        self.runner.close()

    # --- what is done ------------------------------------------------------------------------------------------------

    def change(self, key: str) -> Change:
        """A change that is right by the model: create, replace or delete."""
        self.count += 1
        if (there := self.model.get(key)) is None:
            return Put(key, b"%d" % self.count, 0)
        if self.count % 3 == 0:
            return Delete(key, there[1])
        return Put(key, b"%d" % self.count, there[1])

    def learn(self, changes: Sequence[Change], revisions: Sequence[int]) -> None:
        assert len(revisions) == len(changes)
        assert list(revisions) == list(range(revisions[0], revisions[0] + len(changes))), "a unit is in one piece"
        for change, revision in zip(changes, revisions, strict=True):
            self.last = max(self.last, revision)
            if isinstance(change, Put):
                self.model[change.key] = (change.value, revision)
            else:
                self.model.pop(change.key, None)

    async def commit(self, process: int, changes: Sequence[Change], fence: Fence | None = None) -> None:
        """Commit what is right by the model, with nobody else at it. Only what is disturbed may be Unavailable."""
        try:
            self.learn(changes, await self.processes[process].store.commit(changes, fence=fence))
        except Unavailable:
            assert self.disturbed
            await self.look(changes)

    async def look(self, changes: Sequence[Change]) -> None:
        """An unknown outcome: all of the unit stands, or none."""
        await self.processes[0].bus.connected.wait()
        entries = [await self.processes[0].store.get(c.key, fresh=True) for c in changes]
        stands = [self.stands(c, e) for c, e in zip(changes, entries, strict=True)]
        assert all(stands) or not any(stands), (changes, entries)
        if all(stands):
            self.learn(changes, [e.revision for e in entries if e is not None])

    def stands(self, change: Change, entry: Entry | None) -> bool:
        if entry is None or entry.revision <= change.expected:
            return False
        return entry.value == (change.value if isinstance(change, Put) else None) and entry.revision > self.before(
            change
        )

    def before(self, change: Change) -> int:
        there = self.model.get(change.key)
        return there[1] if there else 0

    @rule(process=who, group=groups_of_keys)
    def write(self, process: int, group: list[str]) -> None:
        self.run(self.commit(process, [self.change(k) for k in group]))

    @rule(units=st.lists(st.tuples(who, groups_of_keys), min_size=2, max_size=8))
    def write_at_once(self, units: list[tuple[int, list[str]]]) -> None:
        self.run(self._at_once(units))

    async def _at_once(self, units: list[tuple[int, list[str]]]) -> None:
        """Units of both processes, on different keys."""
        taken: set[str] = set()
        work = []
        for process, group in units:
            if free := [k for k in group if k not in taken]:
                taken |= set(free)
                work.append(self.commit(process, [self.change(k) for k in free]))
        await asyncio.gather(*work)

    @rule(process=who, group=groups_of_keys, wrong=st.integers(1, 5))
    def write_on_an_old_revision(self, process: int, group: list[str], wrong: int) -> None:
        changes = [self.change(k) for k in group]
        victim = changes[-1]
        others = max(0, victim.expected - wrong) if victim.expected > 1 else self.last + wrong
        changes[-1] = Put(victim.key, b"never", others)
        with pytest.raises(Conflict) as caught:
            self.run(self.processes[process].store.commit(changes))
        assert caught.value.key == victim.key

    @rule(key=keys)
    def race(self, key: str) -> None:
        self.run(self._race(key))

    async def _race(self, key: str) -> None:
        change = self.change(key)
        rival = Put(key, b"rival", change.expected)
        contest = (change, rival)
        results = await asyncio.gather(
            *(p.store.commit([c]) for p, c in zip(self.processes, contest, strict=True)), return_exceptions=True
        )
        won = [(c, r) for c, r in zip(contest, results, strict=True) if isinstance(r, tuple)]
        assert len(won) == 1, results
        assert sum(isinstance(r, Conflict) for r in results) == 1, results
        self.learn([won[0][0]], won[0][1])

    @rule(process=who, group=groups_of_keys)
    def lead(self, process: int, group: list[str]) -> None:
        """Take the lead, and write behind the fence; the former leader's fence is refused."""
        self.run(self._lead(process, group))

    async def _lead(self, process: int, group: list[str]) -> None:
        former = self.token
        (self.token,) = await self.processes[process].store.commit([Put(leader("g"), b"%d" % process, former)])
        await self.commit(process, [self.change(k) for k in group], Fence("g", self.token))
        if former:
            with pytest.raises(Deposed):
                await self.processes[1 - process].store.commit([Put("k.deposed", b"", 0)], fence=Fence("g", former))

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    @rule()
    def kill_and_restart(self) -> None:
        self.run(self.server.restart())

    @rule(delay_ms=st.integers(0, 12), units=st.lists(st.tuples(who, groups_of_keys), min_size=1, max_size=6))
    def kill_amid_writes(self, delay_ms: int, units: list[tuple[int, list[str]]]) -> None:
        async def work() -> None:
            await asyncio.gather(self._at_once(units), self._after(delay_ms, self.server.restart()))

        self._disturbed(work())

    @rule(delay_ms=st.integers(0, 6), units=st.lists(st.tuples(st.just(1), groups_of_keys), min_size=1, max_size=6))
    def cut_the_cable_amid_writes(self, delay_ms: int, units: list[tuple[int, list[str]]]) -> None:
        async def cut() -> None:
            self.cable.cut()

        async def work() -> None:
            await asyncio.gather(self._at_once(units), self._after(delay_ms, cut()))

        self._disturbed(work())

    async def _after(self, delay_ms: int, what: Coroutine[Any, Any, None]) -> None:
        await asyncio.sleep(delay_ms / 1000)
        await what

    def _disturbed(self, work: Coroutine[Any, Any, None]) -> None:
        self.disturbed = True
        try:
            self.run(work)
        finally:
            self.disturbed = False

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def the_store_and_both_caches_are_the_model(self) -> None:
        if hasattr(self, "stack"):
            self.run(self._compare())

    async def _compare(self) -> None:
        for process in self.processes:
            await process.bus.connected.wait()
        listed, revision = await self.processes[0].store.list("k.>")
        assert {e.key: (e.value, e.revision) for e in listed} == self.model
        assert revision >= self.last
        deadline = time.monotonic() + 15
        for process in self.processes:
            while process.cache != self.model:
                process.moved.clear()
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    await process.moved.wait()


def run_machine(cable_class: type, examples: int, steps: int) -> None:
    global Cable  # noqa: PLW0603  (hypothesis makes the machine without arguments)
    Cable = cable_class
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=(Phase.generate,),  # shrinking takes minutes, and what is timing does not shrink
        ),
    )


@pytest.mark.timeout(180)
def test_the_store_is_a_dict_whatever_happens(cable_class: type) -> None:
    run_machine(cable_class, 12, 25)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_store_is_a_dict_for_long(cable_class: type) -> None:
    run_machine(cable_class, 150, 50)
