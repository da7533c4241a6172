"""commit on a real server: compare-and-set, atomic units, gathered batches, fences, delete markers, lost answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import BadRequest, Conflict, Deposed, Overloaded, TooLarge, Unavailable
from shoal.local.nats_server import NatsServer
from shoal.names import leader
from shoal.store import batch
from shoal.store import commit as commit_module
from shoal.store.records import BATCH_MAX, OBJECT_BYTES_MAX, Delete, Fence, Put
from shoal.store.store import Store, unchanged
from shoal.store.streams import ensure_streams


async def values(store: Store, *filters: str) -> dict[str, bytes | None]:
    return {e.key: e.value for e in (await store.list(*(filters or (">",))))[0]}


async def lead(store: Store, group: str = "g", expected: int = 0) -> Fence:
    (token,) = await store.commit([Put(leader(group), b"me", expected)])
    return Fence(group, token)


class Sent:
    """What went over the wire, by attempt."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.puts = 0
        self.batches: Counter[str] = Counter()
        send = bus.send

        async def spy(subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
            if headers and js.BATCH_ID in headers:
                self.batches[headers[js.BATCH_ID]] += 1
            elif headers and js.EXPECTED_REVISION in headers:
                self.puts += 1
            await send(subject, data, reply, headers)

        monkeypatch.setattr(bus, "send", spy)


@pytest.fixture
def sent(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(bus, monkeypatch)


async def test_a_change_alone_is_one_compare_and_set_put(store: Store, sent: Sent) -> None:
    (first,) = await store.commit([Put("a.b", b"1", 0, traceparent="00-t")])
    (second,) = await store.commit([Put("a.b", b"2", first)])

    assert (sent.puts, len(sent.batches)) == (2, 0)
    assert second == first + 1
    entry = await store.get("a.b")
    assert entry is not None
    assert (entry.value, entry.revision, entry.traceparent) == (b"2", second, "")
    with pytest.raises(Conflict) as caught:
        await store.commit([Put("a.b", b"3", first)])
    assert caught.value.key == "a.b"
    with pytest.raises(Conflict, match=r"a\.b exists already"):
        await store.commit([Put("a.b", b"3", 0)])
    with pytest.raises(Conflict):
        await store.commit([Put("never.was", b"3", 5)])
    assert await values(store) == {"a.b": b"2"}


async def test_several_changes_stand_together_or_not_at_all(store: Store) -> None:
    revisions = await store.commit([Put("a.1", b"1", 0, traceparent="00-t"), Put("a.2", b"2", 0), Put("a.3", b"3", 0)])

    assert revisions == (1, 2, 3)
    assert [(e.key, e.revision, e.traceparent) for e in (await store.list(">"))[0]] == [
        ("a.1", 1, "00-t"),
        ("a.2", 2, ""),
        ("a.3", 3, ""),
    ]
    with pytest.raises(Conflict) as caught:
        await store.commit([Put("a.1", b"x", 1), Put("a.2", b"x", 99), Put("a.4", b"x", 0)])
    assert caught.value.key == "a.2"
    assert await values(store) == {"a.1": b"1", "a.2": b"2", "a.3": b"3"}


async def test_nothing_is_nothing(store: Store) -> None:
    assert await store.commit([]) == ()
    assert await store.last_revision() == 0


async def test_what_comes_at_once_goes_in_few_batches_and_in_order(store: Store, sent: Sent) -> None:
    count = 3000
    revisions = await asyncio.gather(*(store.commit([Put(f"k.{i}", b"%d" % i, 0)]) for i in range(count)))

    assert len(sent.batches) <= 5
    assert max(sent.batches.values()) <= BATCH_MAX
    assert sorted(r for (r,) in revisions) == list(range(1, count + 1))
    listed, revision = await store.list("k.*")
    assert revision == count
    assert {e.key: e.revision for e in listed} == {f"k.{i}": r for i, (r,) in enumerate(revisions)}
    assert all(e.value == e.key[2:].encode() for e in listed)


async def test_at_most_two_are_in_flight(store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = 0, 0
    send = batch.send

    async def spy(*args: Any) -> int:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        try:
            return await send(*args)
        finally:
            now -= 1

    monkeypatch.setattr(commit_module, "send", spy)

    async def work(worker: int) -> None:
        for i in range(10):
            await store.commit([Put(f"w.{worker}.{i}", b"", 0)])
            await asyncio.sleep(worker * 0.0001)

    await asyncio.gather(*(work(i) for i in range(20)))
    assert most == 2


async def test_one_unit_that_conflicts_takes_no_other_down(store: Store) -> None:
    await store.commit([Put("taken", b"", 0)])
    units = [store.commit([Put(f"ok.{i}", b"", 0), Put(f"also.{i}", b"", 0)]) for i in range(50)]
    units.insert(20, store.commit([Put("lost.1", b"", 0), Put("taken", b"", 0)]))
    units.insert(40, store.commit([Delete("taken", 77), Put("lost.2", b"", 0)]))
    results = await asyncio.gather(*units, return_exceptions=True)

    conflicts = {i: r for i, r in enumerate(results) if isinstance(r, BaseException)}
    assert set(conflicts) == {20, 40}
    assert all(isinstance(e, Conflict) and e.key == "taken" for e in conflicts.values())
    there = await values(store)
    assert len([k for k in there if k.startswith(("ok.", "also."))]) == 100
    assert not [k for k in there if k.startswith("lost.")]


async def test_units_on_one_key_keep_their_order(store: Store) -> None:
    """The server compares a key once a batch, so they go in different ones."""
    (revision,) = await store.commit([Put("k", b"0", 0)])
    results = await asyncio.gather(
        store.commit([Put("k", b"1", revision), Put("x.1", b"", 0)]),
        store.commit([Put("k", b"2", revision), Put("x.2", b"", 0)]),
        store.commit([Put("other", b"", 0)]),
        return_exceptions=True,
    )
    assert isinstance(results[1], Conflict)
    assert (await values(store)).keys() == {"k", "x.1", "other"}
    assert (await values(store))["k"] == b"1"


async def test_bounds(store: Store, sent: Sent) -> None:
    fence = await lead(store)
    full = [Put(f"k.{i}", b"", 0) for i in range(BATCH_MAX - 1)]
    revisions = await store.commit(full, fence=fence)
    assert len(revisions) == BATCH_MAX - 1
    assert (await store.get("k.0")) is not None
    assert revisions[0] == fence.revision + 2  # the fence entry comes first
    with pytest.raises(TooLarge, match="999 changes"):
        await store.commit([Put(f"l.{i}", b"", 0) for i in range(BATCH_MAX)], fence=fence)
    assert len(await store.commit([Put(f"m.{i}", b"", 0) for i in range(BATCH_MAX)])) == BATCH_MAX
    with pytest.raises(TooLarge, match=r"big: 1572865 bytes"):
        await store.commit([Put("big", b"x" * (OBJECT_BYTES_MAX + 1), 0)])
    header = "00-" + "a" * 1000
    await store.commit([Put("big", b"x" * OBJECT_BYTES_MAX, 0, traceparent=header)])
    await store.commit([Put(f"big.{i}", b"x" * OBJECT_BYTES_MAX, 0) for i in range(12)], fence=fence)


@pytest.mark.parametrize("key", ["", "a..b", ".a", "a.", "a.*", ">", "a b", "a.>", "ä", "a\r\nb"])
async def test_illegal_keys_never_reach_the_server(store: Store, key: str) -> None:
    with pytest.raises(BadRequest):
        await store.commit([Put(key, b"", 0)])
    with pytest.raises(BadRequest):
        await store.commit([Put("fine", b"", 0), Delete(key, 1)])
    with pytest.raises(BadRequest):
        await store.commit([Put("twice", b"", 0), Put("twice", b"", 0)])


async def test_a_deleted_key_can_be_created_again(store: Store, sent: Sent) -> None:
    (revision,) = await store.commit([Put("a", b"1", 0)])
    (marker,) = await store.commit([Delete("a", revision)])
    entry = await store.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (None, marker)
    assert await values(store) == {}

    puts = sent.puts
    (again,) = await store.commit([Put("a", b"2", 0)])
    assert (again, sent.puts) == (marker + 1, puts + 1)  # this store knows its own marker
    assert await values(store) == {"a": b"2"}


async def test_a_marker_of_another_process_is_found_on_refusal(
    store: Store, another: Callable[[], Awaitable[Bus]]
) -> None:
    revisions = await store.commit([Put("a", b"1", 0), Put("b", b"1", 0)])
    await store.commit([Delete("a", revisions[0]), Delete("b", revisions[1])])
    other = Store(await another())
    assert len(await other.commit([Put("a", b"2", 0)])) == 1
    assert len(await other.commit([Put("b", b"2", 0), Put("c", b"2", 0)])) == 2
    with pytest.raises(Conflict) as caught:  # this store's hints are stale now
        await store.commit([Put("a", b"3", 0)])
    assert caught.value.key == "a"


async def test_creating_over_a_marker_is_still_a_race_with_one_winner(
    store: Store, another: Callable[[], Awaitable[Bus]]
) -> None:
    stores = [store, *[Store(await another()) for _ in range(3)]]
    for turn in range(10):
        key = f"race.{turn}"
        (revision,) = await store.commit([Put(key, b"", 0)])
        await store.commit([Delete(key, revision)])
        results = await asyncio.gather(
            *(s.commit([Put(key, b"%d" % i, 0)]) for i, s in enumerate(stores)), return_exceptions=True
        )
        winners = [i for i, r in enumerate(results) if not isinstance(r, BaseException)]
        assert len(winners) == 1, results
        assert all(isinstance(r, tuple | Conflict) for r in results)
        assert await values(store, key) == {key: b"%d" % winners[0]}


async def test_an_expired_marker_leaves_a_free_key(store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.store.batch.MARKER_TTL_S", 1)
    (revision,) = await store.commit([Put("a", b"1", 0)])
    (marker,) = await store.commit([Delete("a", revision)])
    async with asyncio.timeout(10):
        while await store.get("a") is not None:
            await asyncio.sleep(0.05)
    (again,) = await store.commit([Put("a", b"2", 0)])  # the hint (the marker's revision) is refused, 0 is right again
    assert again > marker
    await store.commit([Delete("a", again)])
    async with asyncio.timeout(10):
        while await store.get("a") is not None:
            await asyncio.sleep(0.05)
    assert len(await store.commit([Put("b", b"", 0), Put("a", b"3", 0)])) == 2


async def test_an_entry_with_a_time_to_live_goes_by_itself(store: Store) -> None:
    await store.commit([Put("rests", b"", 0, ttl_s=1), Put("stays", b"", 0)])
    assert set(await values(store)) == {"rests", "stays"}
    async with asyncio.timeout(10):
        while "rests" in await values(store):
            await asyncio.sleep(0.05)
    await store.commit([Put("rests", b"", 0)])


async def test_deleting_what_changed_is_a_conflict(store: Store) -> None:
    (first,) = await store.commit([Put("a", b"1", 0)])
    await store.commit([Put("a", b"2", first)])
    with pytest.raises(Conflict, match="changed since it was read"):
        await store.commit([Delete("a", first)])
    with pytest.raises(Conflict, match="was deleted since it was read"):
        await store.commit([Delete("nothing", 3)])


async def test_a_leader_writes_behind_its_fence(store: Store, sent: Sent) -> None:
    fence = await lead(store)
    revisions = await store.commit([Put("a", b"1", 0)], fence=fence)

    assert list(sent.batches.values()) == [2]
    assert revisions == (fence.revision + 2,)
    scratch = await store.get("system.fence.g")
    assert scratch is not None
    assert (scratch.value, scratch.revision) == (b"", fence.revision + 1)


async def test_a_deposed_leader_creates_nothing(store: Store, another: Callable[[], Awaitable[Bus]]) -> None:
    old = await lead(store)
    successor = Store(await another())
    new = await lead(successor, expected=old.revision)

    results = await asyncio.gather(
        store.commit([Put("created", b"", 0)], fence=old),
        store.commit([Put("also.created", b"", 0)], fence=old),
        store.commit([Put("by.nobody", b"", 0)]),
        store.commit([Put("by.another.group", b"", 0)], fence=await lead(store, "other")),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [Deposed, Deposed, tuple, tuple]
    await successor.commit([Put("created", b"by the new one", 0)], fence=new)
    assert (await values(store, "created")) == {"created": b"by the new one"}
    assert "also.created" not in await values(store)


async def test_a_deposed_leader_with_a_conflict_is_deposed(store: Store) -> None:
    fence = await lead(store)
    await store.commit([Put("a", b"", 0)])
    with pytest.raises(Conflict) as caught:
        await store.commit([Put("a", b"", 0)], fence=fence)
    assert caught.value.key == "a"
    (token,) = await store.commit([Put(leader("g"), b"other", fence.revision)])
    with pytest.raises(Deposed):
        await store.commit([Put("a", b"", 0)], fence=fence)
    await store.commit([Delete(leader("g"), token)])
    with pytest.raises(Deposed):
        await store.commit([Put("b", b"", 0)], fence=Fence("g", token))


async def test_units_of_different_fences_never_share_a_batch(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences = [await lead(store, f"g{i}") for i in range(3)]
    seen: dict[str, set[str]] = {}
    send = bus.send

    async def spy(subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        if headers and js.BATCH_ID in headers:
            group = subject.rsplit(".", 2)[-2] if ".fence." not in subject else subject.rsplit(".", 1)[-1]
            seen.setdefault(headers[js.BATCH_ID], set()).add(group)
        await send(subject, data, reply, headers)

    monkeypatch.setattr(bus, "send", spy)
    await asyncio.gather(
        *(store.commit([Put(f"g{i % 3}.{i}", b"", 0)], fence=fences[i % 3]) for i in range(60)),
        *(store.commit([Put(f"free.{i}", b"", 0)]) for i in range(20)),
    )
    assert all(len(groups) == 1 for groups in seen.values()), seen


async def test_many_batches_left_open_delay_but_do_not_fail(store: Store, bus: Bus) -> None:
    """Fifty batches in flight are all that a stream takes (10210)."""

    async def step(i: int, place: int, **more: str) -> None:
        headers = {js.BATCH_ID: f"open{i}", js.BATCH_SEQUENCE: str(place)} | more
        await bus.ask(bus.names.state_subject(f"open.{i}.{place}"), b"", headers=headers)

    for i in range(50):
        await step(i, 1)
    waiting = asyncio.create_task(store.commit([Put("a", b"", 0), Put("b", b"", 0)]))
    await asyncio.sleep(0.1)  # it is refused, and tries again
    assert len(await store.commit([Put("c", b"", 0)])) == 1  # a put needs no batch
    assert not waiting.done()
    for i in range(50):
        await step(i, 2, **{js.BATCH_COMMIT: "1"})
    assert len(await waiting) == 2
    assert set(await values(store, "a", "b", "c")) == {"a", "b", "c"}


async def test_a_full_bucket_takes_no_new_keys_but_all_else(store: Store, bus: Bus) -> None:
    await ensure_streams(bus, state_bytes=1 << 20)
    await store.commit([Put(f"k.{i}", b"x" * 100_000, 0) for i in range(9)])
    results = await asyncio.gather(
        store.commit([Put("new", b"x" * 200_000, 0)]),
        store.commit([Put("k.1", b"small", 2)]),
        store.commit([Delete("k.2", 3)]),
        return_exceptions=True,
    )
    assert isinstance(results[0], Overloaded)
    assert [type(r) for r in results[1:]] == [tuple, tuple]
    await store.commit([Put("new", b"x" * 100_000, 0)])


async def test_a_cancelled_caller_leaves_the_queue(store: Store) -> None:
    first = asyncio.create_task(store.commit([Put("a", b"", 0)]))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(await store.commit([Put("b", b"", 0)])) == 1


async def test_unchanged_says_whether_a_write_is_worth_it(store: Store) -> None:
    await store.commit([Put("a", b"1", 0)])
    entry = await store.get("a")
    assert entry is not None
    assert unchanged(entry, Put("a", b"1", entry.revision))
    assert not unchanged(entry, Put("a", b"2", entry.revision))
    assert not unchanged(None, Put("a", b"", 0))


# --- the server goes away ---------------------------------------------------------------------------------------------


async def test_a_commit_waits_out_a_restart(own_bus: Bus, own_server: NatsServer) -> None:
    store = Store(own_bus)
    await store.commit([Put("before", b"", 0)])
    await own_server.kill()
    during = [
        asyncio.create_task(store.commit([Put(f"during.{i}", b"", 0), Put(f"too.{i}", b"", 0)])) for i in range(5)
    ]
    await asyncio.sleep(0.2)
    await own_server.start()
    await asyncio.gather(*during)
    assert len(await values(store)) == 11


async def test_without_a_server_a_commit_is_unavailable_in_time(
    own_bus: Bus, own_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "COMMIT_TIMEOUT_S", 0.5)
    store = Store(own_bus)
    await own_server.kill()
    began = time.monotonic()
    results = await asyncio.gather(*(store.commit([Put(f"a.{i}", b"", 0)]) for i in range(10)), return_exceptions=True)
    assert [type(r) for r in results] == [Unavailable] * 10
    assert time.monotonic() - began < 2
    await own_server.start()
    await own_bus.connected.wait()
    assert await values(store) == {}


class LostAnswers:
    """The server does what it is asked, but the acknowledgement of the next attempt never arrives."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = bus
        self.left = 1
        self.after: Callable[[], Awaitable[None]] | None = None
        monkeypatch.setattr(commit_module, "send", self.send)
        self._send = batch.send

    async def send(self, *args: Any) -> int:
        last: int = await self._send(*args)
        if self.left:
            self.left -= 1
            if self.after is not None:
                await self.after()
            raise Unavailable("the acknowledgement was lost")
        return last


@pytest.fixture
def lost(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> LostAnswers:
    return LostAnswers(bus, monkeypatch)


async def test_a_lost_acknowledgement_is_found_again_and_nothing_is_written_twice(
    store: Store, lost: LostAnswers
) -> None:
    assert await store.commit([Put("a", b"1", 0)]) == (1,)
    lost.left = 1
    assert await store.commit([Put("b", b"1", 0), Delete("a", 1), Put("c", b"1", 0)]) == (2, 3, 4)
    assert await store.last_revision() == 4


async def test_a_lost_acknowledgement_of_a_fenced_batch(store: Store, lost: LostAnswers) -> None:
    lost.left = 0
    fence = await lead(store)
    lost.left = 1
    assert await store.commit([Put("a", b"1", 0), Put("b", b"1", 0)], fence=fence) == (3, 4)
    assert await store.last_revision() == 4


async def test_deposed_after_a_batch_that_stood_is_told_that_it_stood(
    store: Store, lost: LostAnswers, another: Callable[[], Awaitable[Bus]]
) -> None:
    lost.left = 0
    fence = await lead(store)
    lost.left = 1

    async def another_leads() -> None:
        subject = lost.bus.names.state_subject(leader("g"))
        await js.publish(lost.bus, subject, b"other", headers={js.EXPECTED_REVISION: str(fence.revision)})

    lost.after = another_leads
    assert await store.commit([Put("a", b"1", 0)], fence=fence) == (3,)
    with pytest.raises(Deposed):
        await store.commit([Put("b", b"1", 0)], fence=fence)


async def test_one_surviving_key_of_many_proves_the_batch(store: Store, lost: LostAnswers) -> None:
    async def overwrite_most() -> None:
        for i in range(4):
            await js.publish(lost.bus, lost.bus.names.state_subject(f"k.{i}"), b"other")

    lost.after = overwrite_most
    assert await store.commit([Put(f"k.{i}", b"mine", 0) for i in range(5)]) == (1, 2, 3, 4, 5)
    assert (await values(store))["k.0"] == b"other"


async def test_a_late_arrival_of_the_first_attempt_is_one_write(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt is held up somewhere, the second is sent; the first arrives in between."""

    held: list[tuple[Any, ...]] = []

    async def delayed(*args: Any) -> int:
        if not held:
            held.append(args)
            raise Unavailable("no acknowledgement")
        await batch.send(*held[0])  # now it arrives
        return await batch.send(*args)

    monkeypatch.setattr(commit_module, "send", delayed)
    assert await store.commit([Put("a", b"1", 0), Put("b", b"1", 0)]) == (1, 2)
    assert await store.last_revision() == 2


async def test_a_refusal_without_a_reason_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_args: Any) -> int:
        raise Conflict("wrong last sequence")

    monkeypatch.setattr(commit_module, "send", refuse)
    with pytest.raises(Conflict, match="faster than it can be read"):
        await store.commit([Put("a", b"", 0)])
