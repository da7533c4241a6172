"""The streams on a real server: as NATS.md section 1 says, made by whoever is first, brought up to date."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.errors import Overloaded, Unavailable
from shoal.names import TRACEPARENT, Names, ObjectKey
from shoal.store import moving
from shoal.store import streams as streams_module
from shoal.store.records import Put
from shoal.store.store import Store
from shoal.store.streams import ensure_streams, stream_configs


async def settings(bus: Bus, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{stream}"))["config"]
    return config


async def test_the_state_has_what_no_header_can_abuse(bus: Bus) -> None:
    there = await settings(bus, bus.names.state_stream)
    assert there["allow_atomic"]
    assert there["allow_msg_ttl"]
    assert there["deny_delete"]
    assert there["deny_purge"]
    assert there["allow_direct"]
    assert not there["allow_rollup_hdrs"]
    assert "subject_delete_marker_ttl" not in there
    assert there["discard"] == "new"
    assert there["max_msgs_per_subject"] == 1
    assert there["duplicate_window"] == 100_000_000
    assert there.get("persist_mode", "default") == "default"


async def test_what_may_lose_its_tail_is_spared_the_fsync(bus: Bus) -> None:
    names = bus.names
    for stream in (names.leases_stream, names.events_stream, names.outcomes_stream):
        assert (await settings(bus, stream))["persist_mode"] == "async"
    for stream in (names.events_stream, names.outcomes_stream):
        there = await settings(bus, stream)
        assert there["max_age"] == 3600 * 10**9
        assert there["max_bytes"] > 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Nats-Rollup": "all"},
        {"Nats-Rollup": "sub"},
        {"Nats-TTL": "1s"},
        {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "x"},
        {"Nats-Incr": "+1"},
        {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    ],
)
async def test_the_manifests_stream_refuses_headers_that_do_more_than_publish(
    bus: Bus, headers: dict[str, str]
) -> None:
    await js.publish(bus, bus.names.manifests("admin", ""), b"first")
    with pytest.raises(js.ApiError):
        await js.publish(bus, bus.names.manifests("admin", ""), b"second", headers=headers)


async def test_one_senders_backlog_is_bounded_and_hurts_nobody_else(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "MANIFESTS_PER_SENDER_MAX", 5)
    await ensure_streams(bus)  # brought up to date, too
    for i in range(5):
        await js.publish(bus, bus.names.manifests("bob", "dev"), b"%d" % i)
    with pytest.raises(Overloaded, match="maximum messages per subject"):
        await js.publish(bus, bus.names.manifests("bob", "dev"), b"6")
    await js.publish(bus, bus.names.manifests("alice", "dev"), b"1")
    await js.publish(bus, bus.names.manifests("bob", "qa"), b"1")


async def test_one_event_a_subject(bus: Bus, store: Store) -> None:
    pod = ObjectKey("pods", "default", "web")
    for i in range(3):
        await js.publish(bus, bus.names.event(pod, "n1", "Started"), b"%d" % i)
    await js.publish(bus, bus.names.event(pod, "n1", "Killed"), b"k", headers={TRACEPARENT: "00-a"})
    await js.publish(bus, bus.names.event(ObjectKey("pods", "default", "web2"), "n1", "Killed"), b"other")

    told, revision = await store.events(bus.names.events_of(pod))
    assert [(e.key.rsplit(".", 2)[1], e.value, e.traceparent) for e in told] == [
        ("Started", b"2", ""),
        ("Killed", b"k", "00-a"),
    ]
    assert revision == 5
    assert len((await store.events(bus.names.events_in(None)))[0]) == 3
    assert len((await store.events())[0]) == 3
    assert await store.events(bus.names.events_in("elsewhere")) == ([], 5)


async def test_many_processes_at_once(bus_config: BusConfig) -> None:
    async def start() -> None:
        async with connect(bus_config, name="starts") as bus:
            await ensure_streams(bus)

    await asyncio.gather(*(start() for _ in range(10)))
    async with connect(bus_config, name="last") as bus:
        for config in stream_configs(bus.names):
            await js.api(bus, f"STREAM.DELETE.{config['name']}")


async def test_an_older_stream_is_brought_up_to_date_and_keeps_its_entries(bus: Bus, store: Store) -> None:
    await store.commit([Put("a", b"1", 0)])
    await js.publish(bus, bus.names.event(ObjectKey("pods", "d", "x"), "n", "R"), b"")
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(ensure_streams(bus, state_bytes=64 << 20))
    assert (await settings(bus, bus.names.state_stream))["max_bytes"] == 64 << 20
    assert (await store.get("a")) is not None
    assert len((await store.events())[0]) == 1


async def test_a_setting_that_cannot_change_moves_a_soft_stream(bus: Bus) -> None:
    names = bus.names
    await js.api(bus, f"STREAM.DELETE.{names.leases_stream}")
    old = next(c for c in stream_configs(names) if c["name"] == names.leases_stream) | {"storage": "memory"}
    del old["persist_mode"]
    await js.api(bus, f"STREAM.CREATE.{names.leases_stream}", old)
    await js.publish(bus, names.lease_subject("g"), b"held", headers={js.MESSAGE_TTL: "60s"})
    await ensure_streams(bus)
    there = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{names.leases_stream}"))
    assert (there["config"]["storage"], there["state"]["messages"]) == ("file", 1)


@pytest.mark.parametrize("left", ["copied", "old stream gone", "copy open", "mirrored back", "copy gone"])
async def test_a_move_that_was_left_half_done_goes_on(bus: Bus, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    """The process that moved the stream died after so many calls that change something; the next one ends it."""
    names = bus.names
    steps = ["copied", "closed", "old stream gone", "copy open", "mirrored back", "copy gone"]
    monkeypatch.setattr(moving, "ABANDONED_AFTER_S", 0.0)
    wanted = next(c for c in stream_configs(names) if c["name"] == names.outcomes_stream)
    await js.api(bus, f"STREAM.DELETE.{names.outcomes_stream}")
    await js.api(bus, f"STREAM.CREATE.{names.outcomes_stream}", wanted | {"persist_mode": "default"})
    await js.publish(bus, names.outcome("admin", "1"), b"kept")
    api, done = js.api, 0

    class Died(Exception):
        pass

    async def dying(bus: Bus, call: str, body: Any = None, **how: Any) -> bytes:
        nonlocal done
        if ".INFO." not in call:
            if done > steps.index(left):
                raise Died
            done += 1
        return await api(bus, call, body, **how)

    monkeypatch.setattr(js, "api", dying)
    with pytest.raises(Died):
        await moving.move(bus, names.outcomes_stream, wanted)
    monkeypatch.setattr(js, "api", api)
    await ensure_streams(bus)
    there = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{names.outcomes_stream}"))
    assert (there["state"]["messages"], there["config"]["subjects"]) == (1, [names.outcomes_all])
    assert "mirror" not in there["config"]
    await js.publish(bus, names.outcome("admin", "2"), b"")


async def test_the_state_is_never_made_anew(bus: Bus, store: Store) -> None:
    names = bus.names
    await js.api(bus, f"STREAM.DELETE.{names.state_stream}")
    old = next(c for c in stream_configs(names) if c["name"] == names.state_stream) | {
        "storage": "memory",
        "max_bytes": 1 << 20,
    }
    await js.api(bus, f"STREAM.CREATE.{names.state_stream}", old)
    await store.commit([Put("precious", b"", 0)])
    with pytest.raises(js.ApiError):
        await ensure_streams(bus)
    assert (await store.get("precious")) is not None


async def test_two_clusters_beside_each_other(bus: Bus, store: Store, another: Callable[[], Awaitable[Bus]]) -> None:
    async with connect(
        BusConfig(servers=bus.config.servers, names=Names(prefix=f"{bus.names.prefix}x")), name="other"
    ) as other:
        await ensure_streams(other, state_bytes=1 << 24)
        await Store(other).commit([Put("a", b"other", 0)])
        await store.commit([Put("a", b"mine", 0)])
        assert [e.value for e in (await store.list())[0]] == [b"mine"]
        assert [e.value for e in (await Store(other).list())[0]] == [b"other"]
        for config in stream_configs(other.names):
            await js.api(other, f"STREAM.DELETE.{config['name']}")


async def test_without_jetstream_a_sentence_says_so(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "READY_TIMEOUT_S", 0.3)
    async with connect(
        BusConfig(servers=bus.config.servers, names=Names(prefix="nowhere", js="$JS.nowhere.API")), name="lost"
    ) as lost:
        with pytest.raises(Unavailable, match="JetStream does not answer: stream KV_nowhere_state"):
            await ensure_streams(lost)
