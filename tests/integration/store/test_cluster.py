"""The same code on three servers with three replicas: a server is lost and comes back, and nothing acknowledged is."""

import asyncio
import base64
from pathlib import Path

import msgspec
import pytest
from tests.integration.nats_cluster import NatsCluster

from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.errors import Conflict, Deposed, Retryable
from shoal.local.nats_server import NatsServer
from shoal.names import ObjectKey, leader
from shoal.store.records import Fence, Put, Synced
from shoal.store.store import Store
from shoal.store.streams import ensure_streams, stream_configs
from shoal.store.watch import Watch


async def stream_leader(bus: Bus, cluster: NatsCluster) -> NatsServer:
    info = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{bus.names.state_stream}"))
    return next(s for s in cluster.servers if s.config.name == info["cluster"]["leader"])


@pytest.mark.timeout(120)
async def test_three_servers(tmp_path: Path) -> None:
    async with NatsCluster(tmp_path) as cluster:
        config = BusConfig(servers=cluster.urls)
        async with connect(config, name="one") as one, connect(config, name="two") as two:
            await ensure_streams(one, replicas=1)
            (token,) = await Store(one).commit([Put(leader("g"), b"one", 0)])
            await asyncio.gather(ensure_streams(one, replicas=3), ensure_streams(two, replicas=3))
            for wanted in stream_configs(one.names, replicas=3):
                there = msgspec.json.decode(await js.api(one, f"STREAM.INFO.{wanted['name']}"))["config"]
                assert there["num_replicas"] == 3
                assert there.get("persist_mode", "default") == "default"
                assert there["storage"] == ("memory" if wanted["name"] == one.names.leases_stream else "file")
            store, other = Store(one), Store(two)
            cache: dict[str, bytes] = {}
            complete = asyncio.Event()

            async def follow() -> None:
                async for item in Watch(two, name="follow", filters=["k.>"]):
                    if isinstance(item, Synced):
                        for key in item.gone:
                            del cache[key]
                    elif item.value is None:
                        cache.pop(item.key, None)
                    else:
                        cache[item.key] = item.value
                    complete.set()

            two.spawn(follow(), name="follow")
            fence = Fence("g", token)
            await store.commit([Put("k.fenced", b"", 0), Put("k.too", b"", 0)], fence=fence)
            await asyncio.gather(*(store.commit([Put(f"k.{i}", b"1", 0)]) for i in range(500)))
            with pytest.raises(Conflict) as caught:
                await other.commit([Put("k.7", b"2", 0), Put("k.new", b"2", 0)])
            assert caught.value.key == "k.7"

            written = await write_while_the_leader_dies(store, one, cluster)

            await other.commit([Put(leader("g"), b"two", token)])
            with pytest.raises(Deposed):
                await store.commit([Put("k.stale", b"", 0)], fence=fence)
            listed, _ = await store.list("k.>")
            there = {e.key for e in listed}
            assert written <= there
            assert len(there) == 502 + len([k for k in there if k.startswith("k.w")])
            async with asyncio.timeout(20):
                while cache.keys() != there:
                    complete.clear()
                    await complete.wait()


async def write_while_the_leader_dies(store: Store, bus: Bus, cluster: NatsCluster) -> set[str]:
    """Keys that were acknowledged."""
    written: set[str] = set()

    async def write() -> None:
        for i in range(200):
            try:
                await store.commit([Put(f"k.w{i}.a", b"", 0), Put(f"k.w{i}.b", b"", 0)])
            except Retryable:
                continue
            written.update({f"k.w{i}.a", f"k.w{i}.b"})

    async def lose() -> None:
        await asyncio.sleep(0.2)
        victim = await stream_leader(bus, cluster)
        await victim.kill()
        await asyncio.sleep(1)
        await victim.start()

    await asyncio.gather(write(), lose())
    assert len(written) > 300
    return written


@pytest.mark.timeout(120)
async def test_a_process_that_knows_of_one_server_lowers_nothing(tmp_path: Path) -> None:
    async with NatsCluster(tmp_path) as cluster, connect(BusConfig(servers=cluster.urls), name="one") as bus:
        names = bus.names
        await ensure_streams(bus, replicas=3)
        store = Store(bus)
        await store.commit([Put("k", b"1", 0)])
        event = names.event(ObjectKey("pods", "d", "a"), "n", "R")
        kept = {names.lease_subject("g"): b"lease", event: b"event", names.outcome("admin", "1"): b"outcome"}
        for subject, body in kept.items():
            await js.publish(bus, subject, body)
        created = await born(bus)

        await ensure_streams(bus, replicas=1)

        assert await born(bus) == created
        for config in stream_configs(names):
            there = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{config['name']}"))
            assert there["config"]["num_replicas"] == 3
            assert there["state"]["messages"] == (0 if config["name"] == names.manifests_stream else 1)


@pytest.mark.timeout(120)
async def test_what_is_kept_for_an_hour_survives_the_step_to_three_servers(tmp_path: Path) -> None:
    """Two processes take it at once; a third one publishes what it can meanwhile."""
    async with NatsCluster(tmp_path) as cluster:
        config = BusConfig(servers=cluster.urls)
        async with connect(config, name="one") as bus, connect(config, name="two") as two:
            names = bus.names
            await ensure_streams(bus, replicas=1)
            event = names.event(ObjectKey("pods", "d", "a"), "n", "R")
            kept = {names.lease_subject("g"): b"lease", event: b"event", names.outcome("admin", "1"): b"outcome"}
            lasting = {js.MESSAGE_TTL: "60s"}
            for subject, body in kept.items():
                headers = lasting if subject == names.lease_subject("g") else {"Own": "1"}
                await js.publish(bus, names.lease_subject("other") if headers is lasting else subject, b"earlier")
                await js.publish(bus, subject, body, headers=headers)
            told = {names.outcome("admin", "first")}
            await js.publish(bus, names.outcome("admin", "first"), b"")
            enough = asyncio.Event()

            async def publish() -> None:
                for i in range(100_000):
                    subject = names.outcome("admin", f"meanwhile{i}")
                    try:
                        await js.publish(bus, subject, b"", timeout=1)
                        told.add(subject)
                    except Retryable:
                        await asyncio.sleep(0.01)
                    if enough.is_set():
                        return

            publishing = asyncio.create_task(publish())
            await asyncio.gather(ensure_streams(bus, replicas=3), ensure_streams(two, replicas=3))
            enough.set()
            await publishing

            store = Store(bus)
            (found,) = (await store.events(event))[0]
            assert (found.value, found.revision) == (b"event", 2)
            for stream, subject in (
                (names.leases_stream, names.lease_subject("g")),
                (names.outcomes_stream, names.outcome("admin", "1")),
            ):
                answer = await js.api(bus, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
                message = msgspec.json.decode(answer)["message"]
                assert base64.b64decode(message["data"]) == kept[subject]
                assert (b"Own" if subject in told else b":") in base64.b64decode(message["hdrs"])
            every = {"subjects_filter": names.outcomes_all}
            answer = await js.api(bus, f"STREAM.INFO.{names.outcomes_stream}", every)
            assert told <= msgspec.json.decode(answer)["state"]["subjects"].keys()
            for wanted in stream_configs(names, replicas=3):
                there = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{wanted['name']}"))["config"]
                assert {k: there.get(k, False) for k in wanted if k != "persist_mode"} == {
                    k: v for k, v in wanted.items() if k != "persist_mode"
                }
                assert "mirror" not in there
            listing = msgspec.json.decode(await js.api(bus, "STREAM.NAMES"))
            assert len(listing["streams"]) == 5, "the copies are gone"
            await js.publish(bus, names.lease_subject("g"), b"x", headers=lasting)


async def born(bus: Bus) -> dict[str, str]:
    names = [config["name"] for config in stream_configs(bus.names)]
    return {n: msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{n}"))["created"] for n in names}
