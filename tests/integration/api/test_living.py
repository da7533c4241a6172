"""The api beside a server that goes away, a tail that expires, records of other versions, and a collector."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.e2e.tracing.receiver import receiving
from tests.integration.api.conftest import StartApi
from tests.integration.api.manifests import apply, get, names, pod, replica_set, results, several
from tests.integration.api.test_manifests import a_process

from shoal import wire
from shoal.api.service import serve
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.client import Client
from shoal.config import BusConfig
from shoal.errors import ShoalError
from shoal.local.nats_server import NatsServer
from shoal.names import ObjectKey, claim, desired
from shoal.store.records import Put
from shoal.store.store import Store


async def test_a_watch_outlives_its_server(own_server: NatsServer) -> None:
    """What happened before and after a kill -9 of the server arrives, once and in order."""
    config = BusConfig(servers=(own_server.url,))
    async with connect(config, name="test") as bus:
        client, ready = Client(bus), asyncio.Event()
        api = asyncio.create_task(serve(config, on_ready=ready.set))
        await asyncio.wait_for(ready.wait(), 15)
        since = (await client.list("pods", None)).metadata["resourceVersion"]
        seen: list[str] = []

        async def watch() -> None:
            async for event in client.watch("pods", None, since=since):
                seen.append(msgspec.json.decode(event.object)["metadata"]["name"])
                if seen[-1] == "last":
                    return

        watching = asyncio.create_task(watch())
        await apply(client, several(pod("a"), pod("b")))
        await own_server.kill()
        await own_server.start()
        await asyncio.wait_for(bus.connected.wait(), 15)
        for name in ("c", "last"):
            await client.outcome(await client.publish(pod(name)), timeout=20)
        await asyncio.wait_for(watching, 20)
        assert seen == ["a", "b", "c", "last"]
        api.cancel()
        await asyncio.gather(api, return_exceptions=True)


async def test_a_tail_that_expired_holds_up_no_read(client: Client, store: Store, start_api: StartApi) -> None:
    """The stream's last sequence belongs to a message that is no more: no watch will ever reach it."""
    first = await start_api()
    await apply(client, pod("a"))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    key = claim("podranges", "10.208.0.0/23")
    await store.commit([Put(key, b"{}", 0, ttl_s=1)])
    while await store.get(key) is not None:
        await asyncio.sleep(0.05)
    async with asyncio.timeout(4):
        await start_api()
        assert await names(client, "pods") == ["a"]


async def test_a_record_that_cannot_be_read_is_said_to_be_one(
    client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    await store.commit([Put(desired(ObjectKey("pods", "default", "odd")), b'{"spec": 5}', 0)])
    with pytest.raises(ShoalError, match="this version cannot read"):
        await client.get("pods", "", "odd")
    refused = await apply(client, pod("odd"))
    assert refused.error is not None
    assert "this version cannot read" in refused.error.message
    await apply(client, pod("even"))
    assert await names(client, "pods") == ["even"]


async def test_unknown_fields_are_refused_or_warned_of(client: Client, api: "asyncio.Task[None]") -> None:
    odd = pod("a").replace("spec:", "spec:\n  colour: red")
    refused = await apply(client, odd)
    assert refused.error is not None
    assert "colour" in refused.error.message
    taken = await apply(client, odd, ignore_unknown=True)
    assert results(taken) == ["created"]
    assert "colour" in taken.results[0].warnings[0]


async def test_too_many_objects_are_refused(client: Client, api: "asyncio.Task[None]") -> None:
    text = several(*(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: n{i}}}}}" for i in range(5001)))
    told = await client.outcome(await client.publish(text))
    assert told.error is not None
    assert "5000 at most" in told.error.message
    assert await names(client, "ns") == ["default"]


async def test_a_wish_is_one_trace_from_the_publish_on(
    bus: Bus, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """publish (which nobody else told of) → admit → a write for each document; a request's trace is its sender's."""
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        async with a_process(bus) as process:
            told = await client.outcome(await client.publish(several(pod("a"), replica_set("r"))))
            sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            await client.apply(wire.ApplyRequest(manifest=pod("b")), traceparent=sent)
            assert (await get(client, "pods", "b"))["metadata"]["name"] == "b"
            process.terminate()
            await process.wait()
        spans = receiver.spans()
    wish = [s for s in spans if s.trace_id == told.traceparent.split("-")[1]]
    by_name: dict[str, list[Any]] = {}
    for span in wish:
        by_name.setdefault(span.name, []).append(span)
    (publish,), (admit,), writes = by_name["publish"], by_name["admit"], by_name["write"]
    assert (publish.parent_id, admit.parent_id) == ("", publish.span_id)
    assert {w.parent_id for w in writes} == {admit.span_id}
    assert {w.attributes["shoal.key"] for w in writes} == {"pods/default/a", "replicasets/default/r"}
    assert all(w.attributes["shoal.revision"] > 0 for w in writes)
    assert publish.start_ns <= admit.start_ns <= min(w.start_ns for w in writes)
    assert {s.service for s in wish} == {"shoal-api"}
    theirs = {s.name: s for s in spans if s.trace_id == sent.split("-")[1]}
    assert set(theirs) == {"admit", "write"}
    assert theirs["admit"].parent_id == sent.split("-")[2]
