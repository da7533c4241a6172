"""The watch under every fault of NATS.md section 4, on a real server: it comes back, and never loses anything silently."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus, Inbox
from shoal.bus.rpc import Request, decode, serve
from shoal.config import BusConfig
from shoal.errors import BadRequest
from shoal.local.nats_server import NatsServer
from shoal.names import TRACEPARENT, ObjectKey
from shoal.store import watch as watch_module
from shoal.store.consumers import RequestedConsumer, events_source, make_node_consumer, state_source
from shoal.store.records import Delete, Entry, Put, Synced
from shoal.store.store import Store
from shoal.store.streams import ensure_streams
from shoal.store.watch import Watch
from shoal.wire import NodeWatchReply, NodeWatchRequest


class Follower:
    """Applies a watch to a dict, as a cache does."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.there: dict[str, bytes] = {}
        self.heard: list[Entry | Synced] = []
        self.syncs: list[Synced] = []
        self.moved = asyncio.Event()
        self.slow_s = 0.0
        self.slow_each = 1

    async def run(self) -> None:
        async for item in self.watch:
            self.heard.append(item)
            if isinstance(item, Synced):
                self.syncs.append(item)
                for key in item.gone:
                    self.there.pop(key, None)
            elif item.value is None:
                self.there.pop(item.key, None)
            else:
                self.there[item.key] = item.value
            self.moved.set()
            if self.slow_s and len(self.heard) % self.slow_each == 0:
                await asyncio.sleep(self.slow_s)

    async def until(self, what: Callable[[], bool], within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s):
            while not what():
                self.moved.clear()
                await self.moved.wait()

    async def synced(self, times: int = 1, within_s: float = 15.0) -> None:
        await self.until(lambda: len(self.syncs) >= times, within_s)


@asynccontextmanager
async def following(watch: Watch) -> AsyncIterator[Follower]:
    follower = Follower(watch)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def consumers(bus: Bus) -> list[str]:
    answer = msgspec.json.decode(await js.api(bus, f"CONSUMER.NAMES.{bus.names.state_stream}"))
    return list(answer["consumers"] or [])


class Caught:
    """Messages that never reach a watch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: list[str] = []
        self._once: list[str] = []
        self._inbox: Inbox | None = None
        put = Inbox.put

        def filtered(inbox: Inbox, message: Any) -> None:
            if message.subject.startswith("$KV") and (key := message.subject.split(".", 2)[2]) in self._once:
                self._once.remove(key)
                self.lost.append(key)
            elif self._all and inbox.subject.count(".") == 1 and self._inbox in (None, inbox):
                self._inbox = inbox  # only the consumer of now
            else:
                put(inbox, message)

        self._all = False
        monkeypatch.setattr(Inbox, "put", filtered)

    def lose_once(self, key: str) -> None:
        self._once.append(key)

    def lose_all(self) -> None:
        """Whatever comes to the watch's present inbox."""
        self._all = True


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Caught:
    return Caught(monkeypatch)


async def truth(store: Store, *filters: str) -> dict[str, bytes]:
    return {e.key: e.value for e in (await store.list(*filters))[0] if e.value is not None}


async def test_a_list_then_changes_in_order(store: Store, bus: Bus) -> None:
    await store.commit([Put("a.1", b"1", 0, traceparent="00-t"), Put("a.2", b"2", 0), Put("b.1", b"no", 0)])
    async with following(Watch(bus, name="w", filters=["a.>"])) as f:
        await f.synced()
        assert f.heard == [Entry("a.1", b"1", 1, "00-t"), Entry("a.2", b"2", 2), Synced(2)]
        await store.commit([Put("a.3", b"3", 0), Delete("a.1", 1), Put("b.2", b"no", 0), Put("a.2", b"22", 2)])
        await f.until(lambda: len(f.heard) == 6)
        assert f.heard[3:] == [Entry("a.3", b"3", 4), Entry("a.1", None, 5), Entry("a.2", b"22", 7)]


async def test_an_empty_list_is_synced_at_once(bus: Bus) -> None:
    began = time.monotonic()
    async with following(Watch(bus, name="w", filters=["none.>"])) as f:
        await f.synced()
    assert f.heard == [Synced(0)]
    assert time.monotonic() - began < 1


async def test_several_filters_come_through_one_consumer_in_one_order(store: Store, bus: Bus) -> None:
    await store.commit([Put("desired.x", b"1", 0), Put("bound.n1.x", b"2", 0), Put("shared.x", b"3", 0)])
    async with following(Watch(bus, name="w", filters=["shared.>", "desired.>", "desired.x"])) as f:
        await f.synced()
        assert len(await consumers(bus)) == 1
        await store.commit([Put("shared.y", b"4", 0), Put("bound.n1.y", b"5", 0), Put("desired.y", b"6", 0)])
        await f.until(lambda: len(f.heard) == 5)
        assert [e.key for e in f.heard if isinstance(e, Entry)] == ["desired.x", "shared.x", "shared.y", "desired.y"]


async def test_filters_that_overlap_deliver_an_entry_once(store: Store, bus: Bus) -> None:
    await store.commit([Put(k, b"", 0) for k in ("a.a", "a.b", "b.b", "b.a")])
    async with following(Watch(bus, name="w", filters=["a.*", "*.b"])) as f:
        await f.synced()
        await store.commit([Put("a.b", b"2", 2)])
        await f.until(lambda: len(f.heard) == 5)
        assert [e.key for e in f.heard if isinstance(e, Entry)] == ["a.a", "a.b", "b.b", "a.b"]


async def test_its_consumer_ends_with_it(store: Store, bus: Bus) -> None:
    async with following(Watch(bus, name="w", filters=[">"])) as f:
        await f.synced()
        assert [c[:2] for c in await consumers(bus)] == ["w_"]
    await bus.flush()
    assert await consumers(bus) == []


async def test_markers_are_told_in_a_list(store: Store, bus: Bus) -> None:
    """A list shows what was deleted lately: harmless, and a reader of two prefixes may need it."""
    await store.commit([Put("a", b"1", 0)])
    await store.commit([Delete("a", 1)])
    async with following(Watch(bus, name="w", filters=[">"])) as f:
        await f.synced()
        assert f.heard == [Entry("a", None, 2), Synced(2)]


async def test_a_slow_reader_of_4000_keys_gets_them_all(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = b"x" * 3000
    await asyncio.gather(*(store.commit([Put(f"k.{i}", value, 0)]) for i in range(4000)))
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        f.slow_s, f.slow_each = 0.01, 50
        await f.until(lambda: len(f.heard) > 100)
        await store.commit([Put("k.new", b"1", 0), Put("k.7", b"changed", (await store.get("k.7")).revision)])  # type: ignore[union-attr]
        await f.synced(within_s=30)
        await f.until(lambda: "k.new" in f.there)
        assert f.there == await truth(store, "k.>")
        assert len(f.syncs) == 1


async def test_a_reader_slower_than_the_heartbeats_stays_in_step(store: Store, bus: Bus) -> None:
    await store.commit([Put(f"k.{i}", b"", 0) for i in range(4)])
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        f.slow_s = 1.1
        await f.synced(within_s=20)
        f.slow_s = 0
        assert len(f.heard) == 5


async def test_big_values_pass_the_bound_of_a_pull(store: Store, bus: Bus) -> None:
    await store.commit([Put(f"big.{i}", bytes([i]) * 1_500_000, 0) for i in range(8)])
    async with following(Watch(bus, name="w", filters=["big.>"])) as f:
        await f.synced()
        assert len(f.there) == 8
        await store.commit([Put("big.9", b"x" * 1_500_000, 0)])
        await f.until(lambda: "big.9" in f.there)
    assert len(f.syncs) == 1


async def test_quiet_for_longer_than_a_pull(store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "EXPIRES_S", 2)
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        await asyncio.sleep(4.5)
        await store.commit([Put("k.1", b"", 0)])
        await f.until(lambda: "k.1" in f.there, within_s=1)
        assert len(f.syncs) == 1


async def test_a_deleted_consumer_is_made_anew_and_what_vanished_is_told(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.store.batch.MARKER_TTL_S", 1)
    await store.commit([Put("k.1", b"1", 0), Put("k.2", b"2", 0)])
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        await js.api(bus, f"CONSUMER.DELETE.{bus.names.state_stream}.{(await consumers(bus))[0]}")
        await store.commit([Put("k.3", b"3", 0)])
        await f.synced(2)
        assert f.syncs[1].gone == ()
        assert f.there == {"k.1": b"1", "k.2": b"2", "k.3": b"3"}


async def test_deleted_while_away_for_longer_than_a_marker_lives(
    cable: Any, store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 1: nothing in the stream tells of the deletion any more; only a list does."""
    monkeypatch.setattr("shoal.store.batch.MARKER_TTL_S", 1)
    await store.commit([Put("k.1", b"1", 0), Put("k.2", b"2", 0), Put("k.3", b"3", 0)])
    config = BusConfig(servers=(cable.url,), names=bus.names)
    async with connect(config, name="away") as away, following(Watch(away, name="w", filters=["k.>"])) as f:
        await f.synced()
        cable.swallow()
        cable.cut()
        await store.commit([Delete("k.2", 2)])
        async with asyncio.timeout(10):
            while await store.get("k.2") is not None:
                await asyncio.sleep(0.05)
        await store.commit([Put("k.4", b"4", 0)])
        cable.heal()
        await f.synced(2)
        assert f.syncs[1].gone == ("k.2",)
        assert f.there == {"k.1": b"1", "k.3": b"3", "k.4": b"4"}


async def test_a_server_killed_again_and_again(own_bus: Bus, own_server: NatsServer) -> None:
    store = Store(own_bus)
    (revision,) = await store.commit([Put("k.0", b"", 0)])
    async with following(Watch(own_bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        for turn in range(1, 5):
            await own_server.restart()
            revision, _ = await store.commit([Put(f"k.{turn}", b"", 0), Delete(f"k.{turn - 1}", revision)])
            began = time.monotonic()
            await f.until(lambda expected={f"k.{turn}"}: set(f.there) == expected)  # type: ignore[misc]
            assert time.monotonic() - began < 6
        assert f.there == await truth(store)


async def test_a_server_that_hangs(own_bus: Bus, own_server: NatsServer) -> None:
    store = Store(own_bus)
    await store.commit([Put("k.0", b"", 0)])
    async with following(Watch(own_bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        own_server.send_signal(19)
        await asyncio.sleep(4)  # longer than a watch bears silence
        own_server.send_signal(18)
        await store.commit([Put("k.1", b"", 0)])
        await f.until(lambda: "k.1" in f.there)
        assert f.there == await truth(store)


async def test_a_stream_made_anew_starts_low_and_is_listed(own_bus: Bus) -> None:
    """Case 2: a resumed watch would wait beyond the new stream's end for ever."""
    store = Store(own_bus)
    await store.commit([Put(f"k.{i}", b"", 0) for i in range(50)])
    async with following(Watch(own_bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        await js.api(own_bus, f"STREAM.DELETE.{own_bus.names.state_stream}")
        await ensure_streams(own_bus)
        store = Store(own_bus)
        await store.commit([Put("k.3", b"new", 0), Put("k.new", b"new", 0)])
        await f.until(lambda: "k.new" in f.there, within_s=20)
        await f.until(lambda: len(f.there) == 2, within_s=20)
        assert f.there == {"k.3": b"new", "k.new": b"new"}
        await store.commit([Put("k.later", b"", 0)])
        await f.until(lambda: "k.later" in f.there)


async def test_a_lost_message_is_noticed(store: Store, bus: Bus, caught: Caught) -> None:
    """Case 3: a message that does not arrive leaves a gap in the consumer's sequence."""
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        caught.lose_once("k.1")
        await store.commit([Put("k.1", b"", 0)])
        await store.commit([Put("k.2", b"", 0)])
        await f.until(lambda: set(f.there) == {"k.1", "k.2"})


async def test_a_lost_last_message_is_noticed_by_the_heartbeat(store: Store, bus: Bus, caught: Caught) -> None:
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        caught.lose_once("k.1")
        began = time.monotonic()
        await store.commit([Put("k.1", b"", 0)])
        await f.until(lambda: "k.1" in f.there)
        assert time.monotonic() - began < 3


async def test_a_list_cut_short_begins_anew(store: Store, bus: Bus) -> None:
    await store.commit([Put(f"k.{i}", b"", 0) for i in range(900)])
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        f.slow_s = 0.001
        await f.until(lambda: len(f.heard) > 50)
        await js.api(bus, f"CONSUMER.DELETE.{bus.names.state_stream}.{(await consumers(bus))[0]}")
        f.slow_s = 0
        await f.synced(within_s=20)
        assert f.there == await truth(store)
        assert f.syncs[-1] == Synced(900)


async def test_a_list_cut_short_still_tells_what_vanished(store: Store, bus: Bus, caught: Caught) -> None:
    await store.commit([Put(f"k.{i}", b"", 0) for i in range(20)])
    watch = Watch(bus, name="w", filters=["k.>"])
    async with following(watch) as f:
        await f.synced()
        watch._at.known["k.ghost"] = 1  # it was there once
        caught.lose_once("k.10")
        await js.api(bus, f"CONSUMER.DELETE.{bus.names.state_stream}.{(await consumers(bus))[0]}")
        await f.synced(2)
        assert caught.lost == ["k.10"]
        assert f.syncs[1].gone == ("k.ghost",)


async def test_away_for_half_a_markers_life_lists_again(
    store: Store, bus: Bus, caught: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same connection, with the consumer still there: but a deletion may have come and gone."""
    monkeypatch.setattr(watch_module, "SILENCE_S", 1.5)
    monkeypatch.setattr("shoal.store.batch.MARKER_TTL_S", 1)
    source = msgspec.structs.replace(state_source(bus.names), marker_ttl_s=1)
    await store.commit([Put("k.1", b"", 0), Put("k.2", b"", 0)])
    async with following(Watch(bus, name="w", filters=["k.>"], source=source)) as f:
        await f.synced()
        caught.lose_all()
        await store.commit([Delete("k.1", 1)])
        await f.synced(2)
        assert f.syncs[1].gone == ("k.1",)


async def test_away_on_the_same_connection_resumes(
    store: Store, bus: Bus, caught: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence alone is no reason to list again: what was missed comes from the stream."""
    monkeypatch.setattr(watch_module, "SILENCE_S", 1.5)
    await store.commit([Put(f"k.{i}", b"", 0) for i in range(20)])
    async with following(Watch(bus, name="w", filters=["k.>"])) as f:
        await f.synced()
        caught.lose_all()
        await store.commit([Put("k.new", b"", 0), Delete("k.0", 1)])
        await f.synced(2)
        assert [i for i in f.heard if isinstance(i, Entry)][20:] == [Entry("k.new", b"", 21), Entry("k.0", None, 22)]
        assert f.syncs[1].gone == ()


async def test_a_list_that_lags_behind_what_was_seen_is_not_believed_at_once(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica may answer that has not heard of the newest; after a restore there is no newer."""
    monkeypatch.setattr(watch_module, "FLOOR_WAIT_S", 1.5)
    await store.commit([Put("k.1", b"", 0)])
    watch = Watch(bus, name="w", filters=["k.>"])
    async with following(watch) as f:
        await f.synced()
        watch._at.floor = 2  # as if revision 2 had been seen
        watch._at.listing = True
        began = time.monotonic()
        await js.api(bus, f"CONSUMER.DELETE.{bus.names.state_stream}.{(await consumers(bus))[0]}")
        await f.until(lambda: len(f.heard) == 3)
        await f.synced(2)
        assert time.monotonic() - began > 1.5
        watch._at.floor = 2
        watch._at.listing = True
        monkeypatch.setattr(watch_module, "FLOOR_WAIT_S", 60)
        await js.api(bus, f"CONSUMER.DELETE.{bus.names.state_stream}.{(await consumers(bus))[0]}")
        await f.until(lambda: len(f.heard) == 5)
        await store.commit([Put("k.2", b"", 0)])
        await f.synced(3)
        assert f.syncs[2] == Synced(2)


async def test_events_can_be_watched(store: Store, bus: Bus) -> None:
    pod = ObjectKey("pods", "default", "web.0")
    subject = bus.names.event(pod, "n1", "Started")
    await js.publish(bus, subject, b"1")
    watch = Watch(bus, name="e", filters=[bus.names.events_in("default")], source=events_source(bus.names))
    async with following(watch) as f:
        await f.synced()
        await js.publish(bus, subject, b"2", headers={TRACEPARENT: "00-e"})
        await js.publish(bus, bus.names.event(ObjectKey("pods", "other", "x"), "n1", "Started"), b"3")
        await f.until(lambda: f.there == {subject: b"2"})
        assert f.heard[-1] == Entry(subject, b"2", 2, "00-e")


# --- a node's consumers -----------------------------------------------------------------------------------------------


@pytest.fixture
async def api(bus: Bus) -> list[NodeWatchRequest]:
    """The api's part: makes consumers on request. What it was asked."""
    asked: list[NodeWatchRequest] = []

    async def make(request: Request) -> NodeWatchReply:
        body = decode(request, NodeWatchRequest)
        asked.append(body)
        return await make_node_consumer(bus, request.node, request.tokens[2], body.start)

    await serve(bus, bus.names.watch_all, make)
    return asked


async def check_bounds(bus: Bus, consumer: str) -> None:
    """What a consumer may hold and take, as the server has understood it."""
    info = msgspec.json.decode(await js.api(bus, f"CONSUMER.INFO.{bus.names.state_stream}.{consumer}"))["config"]
    bounds = {
        k: info[k] for k in ("max_waiting", "max_batch", "max_expires", "max_bytes", "max_deliver", "mem_storage")
    }
    assert bounds == {
        "max_waiting": 4,
        "max_batch": 1000,
        "max_expires": 35 * 10**9,
        "max_bytes": 4 << 20,
        "max_deliver": 1,
        "mem_storage": True,
    }


async def test_an_agent_and_a_proxy_see_their_part_by_request(
    store: Store, another: Callable[[], Awaitable[Bus]], api: list[NodeWatchRequest]
) -> None:
    keys = [
        "bound.n1.pods.d.a",
        "bound.n2.pods.d.b",
        "shared.services.d.s",
        "shared.podranges._.n2",
        "desired.pods.d.a",
    ]
    await store.commit([Put(k, b"", 0) for k in keys])
    node = await another()
    agent = Watch(node, name="agent", filters=[], consumer=RequestedConsumer(node, "n1", "agent"))
    proxy = Watch(node, name="proxy", filters=[], consumer=RequestedConsumer(node, "n1", "proxy"))
    async with following(agent) as a, following(proxy) as p:
        await a.synced()
        await p.synced()
        assert set(a.there) == {keys[0], keys[2]}
        assert set(p.there) == {keys[0], keys[2], keys[3]}
        assert set(await consumers(node)) == {"agent_n1", "proxy_n1"}
        await check_bounds(node, "agent_n1")
        await js.api(node, f"CONSUMER.DELETE.{node.names.state_stream}.agent_n1")
        await store.commit([Put("bound.n1.pods.d.c", b"", 0)])
        await a.until(lambda: "bound.n1.pods.d.c" in a.there)
    assert api[0].start is None


async def test_a_node_waits_for_the_api(store: Store, bus: Bus, another: Callable[[], Awaitable[Bus]]) -> None:
    await store.commit([Put("bound.n1.pods.d.a", b"", 0)])
    node = await another()
    async with following(Watch(node, name="a", filters=[], consumer=RequestedConsumer(node, "n1", "agent"))) as f:
        await asyncio.sleep(0.3)
        assert f.heard == []

        async def make(request: Request) -> NodeWatchReply:
            return await make_node_consumer(bus, request.node, request.tokens[2], None)

        await serve(bus, bus.names.watch_all, make)
        await f.synced()
        assert set(f.there) == {"bound.n1.pods.d.a"}


async def test_no_other_process_of_a_node_gets_a_consumer(bus: Bus) -> None:
    with pytest.raises(BadRequest):
        await make_node_consumer(bus, "n1", "intruder", None)
