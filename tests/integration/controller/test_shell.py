"""The shell against a real nats-server: who leads, what a former leader may still do, what a conflict does."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.controller.actions import NOTHING, Absent, Decision, EraseEntry, WriteEntry
from shoal.controller.lease import Lease
from shoal.controller.shell import run
from shoal.errors import Deposed
from shoal.local.nats_server import NatsServer
from shoal.names import ObjectKey, leader
from shoal.scheduler.binding import Scheduler
from shoal.store.reads import Source, read_one
from shoal.store.records import Change, Delete, Put
from shoal.store.store import Store
from shoal.store.streams import ensure_streams
from shoal.store.view import View

from .cluster import a_pod, add_node, placed, put, until
from .conftest import Start

pytestmark = pytest.mark.integration


class Mirror:
    """Copies each `shared.in.a.<name>` to `shared.out.a.<name>`: the smallest controller there is."""

    name = "mirror"
    reporter = "mirror"
    filters = ("shared.>",)

    def __init__(self) -> None:
        self.looks = 0

    def keys(self, touched: ObjectKey, _view: View) -> Iterable[Hashable]:
        return [touched.name] if touched.resource in ("in", "out") else []

    def decide(self, key: str, view: View, _now: float) -> Decision:
        self.looks += 1
        source, copy = view.entry(f"shared.in.a.{key}"), view.entry(f"shared.out.a.{key}")
        if source is None:
            return Decision((EraseEntry(copy.key, copy.revision),)) if copy is not None else NOTHING
        if copy is not None and copy.value == source.value:
            return NOTHING
        return Decision((WriteEntry(f"shared.out.a.{key}", source.value or b"", copy.revision if copy else 0),))


async def write(store: Store, name: str, value: bytes) -> None:
    key = f"shared.in.a.{name}"
    there = await store.get(key)
    await store.commit([Put(key, value, there.revision if there else 0)])


def shows(name: str, value: bytes) -> Callable[[View], bool]:
    return lambda v: (e := v.entry(f"shared.out.a.{name}")) is not None and e.value == value


async def test_what_is_there_before_it_leads_and_what_comes_after(bus: Bus, store: Store, start: Start) -> None:
    await write(store, "old", b"1")
    mirror = Mirror()
    await start([mirror], "mirror")
    await until(store, shows("old", b"1"))

    await write(store, "new", b"2")
    await until(store, shows("new", b"2"))
    looks = mirror.looks
    assert looks <= 6, "own writes and events that change nothing make no further looks"


async def test_many_changes_of_one_key_end_at_the_last(bus: Bus, store: Store, start: Start) -> None:
    mirror = Mirror()
    await start([mirror], "mirror")

    for i in range(50):
        await write(store, "x", b"%d" % i)

    await until(store, shows("x", b"49"))
    assert mirror.looks <= 110


async def test_a_conflict_is_looked_at_again(bus: Bus, store: Store, start: Start) -> None:
    """Somebody else writes the same key all the time; the controller wins in the end, and never overwrites blindly."""
    await start([Mirror()], "mirror")
    await write(store, "x", b"0")
    await until(store, shows("x", b"0"))

    for i in range(20):
        there = await store.get("shared.out.a.x")
        assert there is not None
        with contextlib.suppress(Exception):
            await store.commit([Put("shared.out.a.x", b"wrong", there.revision)])
        await write(store, "x", b"%d" % i)

    await until(store, shows("x", b"19"))


class Touchy(Mirror):
    """Breaks on one key, and asks whether something is absent before it acts on another."""

    name = "touchy"
    gate = ObjectKey("pods", "default", "gate")

    def decide(self, key: str, view: View, now: float) -> Decision:
        if key == "poison":
            raise ValueError("cannot be decided")
        decision = super().decide(key, view, now)
        return msgspec.structs.replace(decision, confirm=(Absent(self.gate),)) if key == "careful" else decision


async def test_one_broken_key_stops_no_other(bus: Bus, store: Store, start: Start) -> None:
    await write(store, "poison", b"1")
    await start([Touchy()], "mirror")

    for i in range(5):
        await write(store, "poison", b"%d" % i)
        await write(store, f"good{i}", b"1")
    await until(store, lambda v: all(shows(f"good{i}", b"1")(v) for i in range(5)))


async def test_a_unit_that_fails_in_an_unknown_way_stops_no_other_and_is_tried_again(
    bus: Bus, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failed = Store.commit, 0

    async def breaks(self: Store, changes: Sequence[Change], **how: Any) -> tuple[int, ...]:
        nonlocal failed
        if changes[0].key == "shared.out.a.poison" and failed < 2:
            failed += 1
            raise RuntimeError("nobody thought of this")
        return await commit(self, changes, **how)

    monkeypatch.setattr(Store, "commit", breaks)
    await start([Mirror()], "mirror")
    await write(store, "poison", b"1")
    await write(store, "good", b"1")

    await until(store, lambda v: shows("good", b"1")(v) and shows("poison", b"1")(v))
    assert failed == 2


class Crowded(Mirror):
    """Takes one key at a time: `second` is decided when what was assumed of `first` is void."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = {"first"}
        self.found_no_room = asyncio.Event()

    def order(self, keys: list[Any], _view: View) -> list[Any]:
        return keys

    def undone(self, key: str) -> Iterable[Hashable]:
        if key not in self.taken:
            return []
        self.taken.discard(key)
        return ["second"]

    def decide(self, key: str, view: View, now: float) -> Decision:
        if key == "second" and self.taken:
            self.found_no_room.set()
            return NOTHING
        decision = super().decide(key, view, now)
        gate = (Absent(Touchy.gate),)
        return msgspec.structs.replace(decision, confirm=gate) if key == "first" else decision


async def test_what_is_refused_wakes_those_that_its_room_helps(bus: Bus, store: Store, start: Start) -> None:
    await put(store, a_pod("gate"))
    await write(store, "second", b"2")
    crowded = Crowded()
    await start([crowded], "mirror")
    async with asyncio.timeout(10):
        await crowded.found_no_room.wait()
    await write(store, "first", b"1")

    await until(store, shows("second", b"2"))


async def test_what_a_read_does_not_confirm_is_not_done_until_it_does(bus: Bus, store: Store, start: Start) -> None:
    """`gate` lies outside of the controller's filters: its view knows nothing of it, only the read does."""
    await put(store, a_pod("gate"))
    touchy = Touchy()
    await start([touchy], "mirror")
    await write(store, "careful", b"1")
    await write(store, "other", b"1")
    await until(store, shows("other", b"1"))
    async with asyncio.timeout(10):
        while touchy.looks < 5:  # it looks again and again, by its backoff
            await asyncio.sleep(0.01)
    assert await store.get("shared.out.a.careful") is None

    gate = await store.get("desired.pods.default.gate")
    assert gate is not None
    await store.commit([Delete(gate.key, gate.revision)])

    await until(store, shows("careful", b"1"))


async def test_a_clean_stop_hands_over_at_once(bus: Bus, store: Store, start: Start) -> None:
    first = await start([Mirror()], "mirror")
    await write(store, "a", b"1")
    await until(store, shows("a", b"1"))
    await start([Mirror()], "mirror")

    began = time.monotonic()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await write(store, "b", b"2")
    await until(store, shows("b", b"2"))

    assert time.monotonic() - began < 1.5, "the standby waited for the lease to run out"


async def test_a_former_leader_creates_nothing(bus: Bus, store: Store) -> None:
    """It still believes in its lease (a long pause); its unit is refused by the server, whole."""
    old = Lease(bus, store, "g", holder="old")
    async with old.hold() as leadership:
        await store.commit([Put("shared.x.a.1", b"", 0)], fence=leadership.fence)
        token = await store.get(leader("g"))
        assert token is not None
        await store.commit([Put(leader("g"), b"new", token.revision)])  # another has taken over

        with pytest.raises(Deposed):
            await store.commit([Put("shared.x.a.2", b"", 0), Put("shared.x.a.3", b"", 0)], fence=leadership.fence)
    assert await store.get("shared.x.a.2") is None


async def test_a_deposed_shell_stands_by_and_leads_again(bus: Bus, store: Store, start: Start) -> None:
    await start([Mirror()], "mirror")
    await write(store, "a", b"1")
    await until(store, shows("a", b"1"))
    token = await store.get(leader("mirror"))
    assert token is not None
    await store.commit([Put(leader("mirror"), b"{}", token.revision)])

    await write(store, "b", b"2")

    await until(store, shows("b", b"2"))
    again = await store.get(leader("mirror"))
    assert again is not None
    assert again.revision > token.revision + 1


async def test_only_one_of_many_holds_a_lease_and_all_get_their_turn(bus: Bus, store: Store) -> None:
    holding: list[str] = []
    turns: list[str] = []

    async def one(name: str) -> None:
        async with Lease(bus, store, "g", holder=name).hold() as leadership:
            assert holding == []
            assert leadership.valid
            holding.append(name)
            turns.append(name)
            await asyncio.sleep(0.05)
            holding.remove(name)

    async with asyncio.timeout(20):
        await asyncio.gather(*(one(f"h{i}") for i in range(5)))
    assert sorted(turns) == [f"h{i}" for i in range(5)]


async def test_a_lease_is_kept_by_renewing_it(bus: Bus, store: Store) -> None:
    async with Lease(bus, store, "g", holder="one", ttl_s=1).hold() as leadership:
        other = asyncio.create_task(_take(Lease(bus, store, "g", holder="two", ttl_s=1)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.5):
                await leadership.lost.wait()
        assert not leadership.lost.is_set()
        assert leadership.valid
        assert not other.done()
    async with asyncio.timeout(1):
        await other


async def test_a_lease_is_given_back_though_a_renewal_was_under_way(bus: Bus, store: Store) -> None:
    subject = bus.names.lease_subject("g")
    async with Lease(bus, store, "g", holder="one", ttl_s=30).hold():
        there = await read_one(bus, Source(bus.names.leases_stream), subject)
        assert there is not None
        assert there.value is not None
        expect = {js.EXPECTED_REVISION: str(there.revision), js.MESSAGE_TTL: "30"}
        await js.publish(bus, subject, there.value, headers=expect)  # its answer was not waited for
    async with asyncio.timeout(5):
        await _take(Lease(bus, store, "g", holder="two", ttl_s=30))


async def _take(lease: Lease) -> None:
    async with lease.hold():
        pass


async def test_a_leader_that_cannot_renew_stops_by_its_own_clock(own_server: NatsServer) -> None:
    async with connect(BusConfig(servers=(own_server.url,)), name="test") as bus:
        await ensure_streams(bus)
        store = Store(bus)
        async with Lease(bus, store, "g", holder="one", ttl_s=1).hold() as leadership:
            own_server.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(3):
                    await leadership.lost.wait()
                assert not leadership.valid
            finally:
                own_server.send_signal(signal.SIGCONT)


# --- processes ----------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def process(bus: Bus, module: str, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = os.environ | {
        "NATS_URL": bus.config.servers[0],
        "SHOAL_PREFIX": bus.names.prefix,
        "SHOAL_LOG": "json",
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *args, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def until_logged(child: asyncio.subprocess.Process, event: str) -> None:
    assert child.stderr is not None
    async with asyncio.timeout(20):
        while event.encode() not in (line := await child.stderr.readline()):
            assert line, "it ended"


async def test_the_standby_takes_over_from_a_process_that_is_killed(bus: Bus, store: Store) -> None:
    await add_node(store, "n1")
    async with process(bus, "shoal.scheduler") as one, process(bus, "shoal.scheduler") as other:
        await put(store, a_pod("first"))
        await until(store, placed)
        token = await store.get(leader("scheduler"))
        assert token is not None
        leading = one if f"-{one.pid}-".encode() in (token.value or b"") else other
        standby = other if leading is one else one
        await until_logged(standby, '"ready"')

        leading.kill()
        began = time.monotonic()
        await put(store, a_pod("second"))
        await until(store, lambda v: len(placed(v)) == 2)
        took = time.monotonic() - began
        print(f"taken over after {took:.2f} s")
        assert took < 6


async def test_sigterm_is_a_clean_stop(bus: Bus, store: Store) -> None:
    async with process(bus, "shoal.replica_controller", "--only", "replicasets,removal") as child:
        await until_logged(child, '"lease.taken"')
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    token = await store.get(leader("removal-replicasets"))
    assert token is not None


async def test_an_unknown_controller_is_one_sentence(bus: Bus) -> None:
    async with process(bus, "shoal.replica_controller", "--only", "nonsense") as child:
        assert child.stderr is not None
        said = await child.stderr.read()
        assert await child.wait() == 1
        assert b"there is no controller" in said
        assert b"Traceback" not in said


# --- nats-server goes and comes ---------------------------------------------------------------------------------------


async def test_nats_server_killed_and_back_and_the_work_goes_on(own_server: NatsServer) -> None:
    config = BusConfig(servers=(own_server.url,))
    async with connect(config, name="test") as bus, connect(config, name="shell") as own:
        await ensure_streams(bus)
        store = Store(bus)
        await add_node(store, "n1")
        shell = asyncio.create_task(run([Scheduler()], bus=own, store=Store(own), group="scheduler"))
        await put(store, a_pod("first"))
        await until(store, placed)

        back = asyncio.Event()
        bus.on_state.append(lambda connected: back.set() if connected else None)
        await own_server.kill()
        await own_server.start()
        await back.wait()

        await put(store, a_pod("second"))
        await until(store, lambda v: len(placed(v)) == 2)
        entry = await store.get("desired.pods.default.first")
        assert entry is not None
        await store.commit([Delete(entry.key, entry.revision)])
        shell.cancel()
        await asyncio.gather(shell, return_exceptions=True)
