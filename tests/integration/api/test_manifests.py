"""Published manifests: applied in order, once, whatever is down or dies in between; nothing in one blocks the next."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.api.conftest import StartApi
from tests.integration.api.manifests import NAMESPACE, apply, get, names, pod, replica_set, results, several

from shoal import wire
from shoal.api import documents
from shoal.api.manifests import SUSPECT_AFTER, Manifests
from shoal.api.pull import Published, Pull
from shoal.bus import jetstream
from shoal.bus.connection import Bus, Message
from shoal.client import Client
from shoal.errors import NotFound, Unavailable
from shoal.local.nats_server import NatsServer
from shoal.model import manifest
from shoal.names import CURSOR_MANIFESTS, MESSAGE_ID, OUTCOME, TRACEPARENT, ObjectKey, desired
from shoal.store.store import Store
from shoal.telemetry.traceparent import trace_id

BROKEN = sorted((Path(__file__).parents[2] / "data" / "manifests" / "broken").glob("*"))


async def outcome(client: Client, message_id: str | int) -> wire.ApplyReply:
    return await client.outcome(message_id, timeout=15)


# --- the way of one message ---


async def test_what_was_published_while_all_was_down_is_applied_in_order(client: Client, start_api: StartApi) -> None:
    for i in range(1, 21):
        await client.publish(replica_set("web", i))
    last = await client.publish(several(pod("a"), pod("b")), message_id="the-last")
    await start_api()
    assert results(await outcome(client, "the-last")) == ["created", "created"]
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 20
    assert (await get(client, "rs", "web"))["metadata"]["generation"] == 20
    assert (await outcome(client, "the-last")).sequence == last


async def test_an_outcome_is_kept_and_told_apart_from_an_answer(
    bus: Bus, client: Client, api: "asyncio.Task[None]"
) -> None:
    told: asyncio.Queue[Message] = asyncio.Queue()
    subscription = await bus.subscribe(bus.names.outcome("admin", "x-1"), told.put)
    await client.publish(pod("a"), message_id="x-1")
    message = await asyncio.wait_for(told.get(), 10)
    assert message.headers[OUTCOME] == "1"
    assert trace_id(message.traceparent)
    await subscription.stop()
    assert results(await outcome(client, "x-1")) == ["created"]  # an hour long


@pytest.mark.parametrize("bad", ["a b", "a.b", "*", "x" * 65, "ü"])
async def test_an_id_that_can_be_none_is_not_used(
    bus: Bus, client: Client, api: "asyncio.Task[None]", bad: str
) -> None:
    headers = {MESSAGE_ID: bad}
    sequence = await jetstream.publish(bus, bus.names.manifests("admin", ""), pod("a").encode(), headers=headers)
    assert results(await outcome(client, sequence)) == ["created"]


async def test_an_unchanged_message_writes_nothing_but_the_cursor(
    client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    text = several(NAMESPACE % "dev", replica_set("web"), pod("a"))
    assert results(await outcome(client, await client.publish(text))) == ["created"] * 3
    before = await store.last_revision()
    assert results(await outcome(client, await client.publish(text))) == ["unchanged"] * 3
    assert await store.last_revision() == before + 2
    cursor = await store.get(CURSOR_MANIFESTS)
    assert cursor is not None
    assert cursor.revision == before + 2


async def test_three_way_through_the_stream(client: Client, api: "asyncio.Task[None]") -> None:
    labelled = replica_set("web").replace("{name: web}", "{name: web, labels: {mine: a}}", 1)
    await outcome(client, await client.publish(labelled))
    await client.scale("rs", "", wire.ScaleRequest(name="web", replicas=8))
    await client.patch("rs", "", wire.PatchRequest(name="web", patch={"metadata": {"labels": {"theirs": "b"}}}))
    silent = replica_set("web").replace("  replicas: 3\n", "")
    assert results(await outcome(client, await client.publish(silent))) == ["configured"]
    found = await get(client, "rs", "web")
    assert found["spec"]["replicas"] == 1  # said before, no more
    assert found["metadata"]["labels"] == {"theirs": "b"}


async def test_a_namespace_counts_for_the_documents_behind_it(client: Client, api: "asyncio.Task[None]") -> None:
    there = pod("a").replace("{name: a}", "{name: a, namespace: dev}")
    refused = await outcome(client, await client.publish(several(there, NAMESPACE % "dev")))
    assert refused.error is not None
    assert 'namespaces "dev" not found' in refused.error.message
    assert results(await outcome(client, await client.publish(several(NAMESPACE % "dev", there)))) == ["created"] * 2


async def test_the_same_object_twice_in_one_message(client: Client, api: "asyncio.Task[None]") -> None:
    text = several(replica_set("web", 2), pod("a"), replica_set("web", 5), replica_set("web", 5))
    reply = await outcome(client, await client.publish(text))
    assert results(reply) == ["created", "created", "configured", "unchanged"]
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 5


async def test_hundreds_of_documents_in_one_message(client: Client, api: "asyncio.Task[None]") -> None:
    text = several(*(pod(f"p{i:03d}") for i in range(350)))
    assert results(await outcome(client, await client.publish(text))) == ["created"] * 350
    assert len(await names(client, "pods")) == 350
    assert results(await outcome(client, await client.publish(text))) == ["unchanged"] * 350


# --- whose documents lie where ---


async def test_a_subject_with_a_namespace_allows_no_other(client: Client, api: "asyncio.Task[None]") -> None:
    await apply(client, several(NAMESPACE % "dev", NAMESPACE % "prod"))
    assert results(await outcome(client, await client.publish(pod("a"), namespace="dev"))) == ["created"]
    assert (await get(client, "pods", "a", "dev"))["metadata"]["namespace"] == "dev"
    elsewhere = pod("b").replace("{name: b}", "{name: b, namespace: prod}")
    for text, says in ((several(pod("c"), elsewhere), "prod"), (NAMESPACE % "mine", "lies in no namespace")):
        refused = await outcome(client, await client.publish(text, namespace="dev"))
        assert refused.error is not None
        assert says in refused.error.message
    assert await names(client, "pods") == ["a"]
    assert await names(client, "ns") == ["default", "dev", "prod"]


@pytest.mark.parametrize("subject", ["manifests.admin.*", "manifests.*._", "manifests.admin.>", "manifests.>.>"])
async def test_a_literal_wildcard_is_refused_and_blocks_nothing(
    bus: Bus, client: Client, api: "asyncio.Task[None]", subject: str
) -> None:
    stored = await jetstream.publish(bus, f"{bus.names.prefix}.{subject}", pod("evil").encode())
    assert results(await outcome(client, await client.publish(pod("good")))) == ["created"]
    assert await names(client, "pods") == ["good"]
    if subject == "manifests.admin.*":  # a literal > is stored and delivered to nobody by the server itself
        refused = await outcome(client, stored)
        assert refused.error is not None
        assert refused.error.code == 403


# --- refused whole ---


async def test_every_broken_manifest_gets_its_sentences_and_changes_nothing(
    client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    """Alone, and behind a good document: that one is refused with it."""
    await outcome(client, await client.publish(pod("there")))
    entries = await store.list("desired.>", "observed.>")
    wrong: list[Any] = []
    for path in BROKEN:
        text = path.read_text()
        expected = re.findall(r"^# expect: (.+)$", text, re.MULTILINE)
        told = await outcome(client, await client.publish(text))
        if told.error is None or told.results or told.error.message.splitlines() != expected:
            wrong.append((path.name, told.error, expected))
        if not text.lstrip().startswith("{"):
            behind = await outcome(client, await client.publish(several(pod("good"), text)))
            if behind.error is None or behind.results:
                wrong.append((path.name, behind.error, "behind a good one"))
    assert len(BROKEN) >= 40
    assert wrong == []
    assert (await store.list("desired.>", "observed.>"))[0] == entries[0]


async def test_a_refusal_is_told_as_an_event(client: Client, api: "asyncio.Task[None]") -> None:
    await client.publish(pod("a").replace("image", "imago"), message_id="wish")
    await outcome(client, "wish")
    await outcome(client, await client.publish(pod("b"), namespace="nowhere"))
    (first, second) = await client.events(None, wire.EventsRequest())
    assert (first.reason, first.type, first.involved_object.name) == ("Refused", "Warning", "wish")
    assert "unknown field" in first.message
    assert (second.involved_object.kind, second.involved_object.name) == ("Pod", "b")


async def test_what_only_the_state_refuses_is_refused_whole_too(client: Client, api: "asyncio.Task[None]") -> None:
    await apply(client, replica_set("web"))
    other = replica_set("web").replace("app: web", "app: other")
    told = await outcome(client, await client.publish(several(pod("a"), other)))
    assert told.error is not None
    assert told.error.details.path == "spec.selector"
    assert "document 2, line" in told.error.message
    assert await names(client, "pods") == []


# --- poison ---

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)
)
POISON: dict[str, bytes] = {
    "nothing": b"",
    "only-comments": b"# nothing\n---\n---\n",
    "not-utf8": b"kind: Pod\nmetadata: {name: \xff\xfe}",
    "utf16": pod("a").encode("utf-16"),
    "nul": b"kind: \x00Pod",
    "zeros": b"\x00" * 3_900_000,
    "garbage": os.urandom(3_900_000),
    "letters": b"x" * 3_900_000,
    "one-long-line": b"a: " + b"[" * 10 + b"x," * 1_900_000,
    "deep-lists": b"[" * 1_000_000,
    "deep-maps": b"{a: " * 400_000,
    "deep-blocks": b"\n".join(b" " * i + b"a:" for i in range(2500)),
    "deep-json": b'{"a":' * 600_000,
    "bomb": BOMB.encode(),
    "anchor-of-itself": b"a: &a [*a]\n",
    "unknown-anchor": b"a: *nowhere\n",
    "tag": b"!!python/object/apply:os.system ['true']\n",
    "wrong-root": b"[1, 2, 3]\n",
    "text": b"just a word\n",
    "many-documents": b"---\nx: 1\n" * 20_000,
    "big-number": b"apiVersion: v1\nkind: Pod\nmetadata: {name: a, generation: " + b"9" * 5000 + b"}\n",
    "unknown-fields": b"apiVersion: v1\nkind: Pod\n" + b"\n".join(b"metadta%d: 1" % i for i in range(20_000)),
    "unknown-values": b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n"
    + b"\n".join(b"  - {name: c%d, image: a, imagePullPolicy: Alwys}" % i for i in range(10_000)),
    "surrogates": b'{"kind": "\\ud800", "apiVersion": "v1"}',
}


@pytest.mark.parametrize("kind", POISON)
async def test_poison_is_refused_and_the_next_message_is_applied(
    client: Client, store: Store, api: "asyncio.Task[None]", kind: str
) -> None:
    before = await store.last_revision()
    sequence = await client.publish(POISON[kind])
    behind = await client.publish(pod("behind"))
    told = await client.outcome(sequence, timeout=60)
    assert told.error is not None
    assert told.error.message
    assert len(told.error.message) < 20_000
    assert results(await outcome(client, behind)) == ["created"]
    assert await store.last_revision() <= before + 7  # [fence, cursor], [fence, pod, cursor], and a lease's token


async def test_a_failure_of_our_own_is_an_outcome(
    client: Client, api: "asyncio.Task[None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = manifest.parse

    def failing(text: str, **how: Any) -> Any:
        if "poison" in text:
            raise ZeroDivisionError("a bug")
        return parse(text, **how)

    monkeypatch.setattr(documents, "parse", failing)
    first = await client.publish(pod("poison"))
    second = await client.publish(pod("good"))
    told = await outcome(client, first)
    assert told.error is not None
    assert told.error.message == "internal error: ZeroDivisionError: a bug"
    assert results(await outcome(client, second)) == ["created"]


# --- again ---


async def test_a_message_whose_ack_was_lost_undoes_nothing(
    client: Client, api: "asyncio.Task[None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again after a newer apply by request, and must not bring back what that replaced."""
    done, lost = Pull.done, asyncio.Event()

    async def lose_the_first(self: Pull, message: Published) -> None:
        if message.delivered == 1:
            lost.set()
            raise Unavailable("the acknowledgement was lost")
        await done(self, message)
        settled.set()

    settled = asyncio.Event()
    monkeypatch.setattr(Pull, "done", lose_the_first)
    sequence = await client.publish(several(replica_set("web", 2), pod("a")))
    await asyncio.wait_for(lost.wait(), 10)
    assert results(await apply(client, replica_set("web", 9))) == ["configured"]
    await client.delete("pods", "", wire.DeleteRequest(name="a"))
    await asyncio.wait_for(settled.wait(), 15)
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 9
    with pytest.raises(NotFound):
        await client.get("pods", "", "a")
    assert results(await outcome(client, sequence)) == ["created", "created"]


@pytest.mark.parametrize(
    ("message", "told"),
    [(replica_set("web", 2), "unchanged"), (pod("a").replace("{name: a}", "{name: a, namespace: dev}"), "not found")],
)
async def test_what_wrote_nothing_is_not_decided_anew_either(
    bus: Bus, client: Client, start_api: StartApi, monkeypatch: pytest.MonkeyPatch, message: str, told: str
) -> None:
    """Its leader dies before the ack; before it comes again to the next one, others have written by request, and its
    outcome, which is kept an hour, is gone.
    """
    done, reached = Pull.done, asyncio.Event()

    async def die_first(self: Pull, message: Published) -> None:
        if message.sequence == sequence and message.delivered == 1:
            reached.set()
            await asyncio.Event().wait()
        await done(self, message)

    first = await start_api()
    sequence = (await client.publish(replica_set("web", 2))) + 1
    await outcome(client, sequence - 1)
    monkeypatch.setattr(Pull, "done", die_first)
    assert await client.publish(message) == sequence
    reply = await outcome(client, sequence)
    assert told in (reply.error.message if reply.error is not None else results(reply)[0])
    await asyncio.wait_for(reached.wait(), 10)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await jetstream.api(bus, f"STREAM.PURGE.{bus.names.outcomes_stream}")
    await start_api()
    await apply(client, several(NAMESPACE % "dev", replica_set("web", 9)))
    assert results(await outcome(client, await client.publish(pod("behind")))) == ["created"]
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 9
    assert await names(client, "pods") == ["behind"]


async def test_a_refusal_is_told_by_the_next_leader_as_the_last_one_made_it(
    client: Client, start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader dies between the cursor and the outcome."""
    tell, reached = Manifests._tell, asyncio.Event()

    async def never(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Manifests, "_tell", never)
    first = await start_api()
    sequence = await client.publish(pod("a"), namespace="dev")
    await asyncio.wait_for(reached.wait(), 10)
    monkeypatch.setattr(Manifests, "_tell", tell)
    await apply(client, NAMESPACE % "dev")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await start_api()
    reply = await outcome(client, sequence)
    assert reply.error is not None
    assert 'namespaces "dev" not found' in reply.error.message
    assert await names(client, "pods") == []


async def test_half_a_message_goes_on_where_it_was(
    client: Client, store: Store, start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader dies between two batches of one message; what it wrote is changed by others; its heir goes on."""
    monkeypatch.setattr(documents, "CHUNK", 2)
    commit, count, stopped = Store.commit, 0, asyncio.Event()

    async def two_batches(self: Store, changes: Any, *, fence: Any = None) -> Any:
        nonlocal count
        if fence is not None and any(c.key == CURSOR_MANIFESTS for c in changes):
            count += 1
            if count == 3:
                stopped.set()
                await asyncio.sleep(60)
        return await commit(self, changes, fence=fence)

    monkeypatch.setattr(Store, "commit", two_batches)
    first = await start_api()
    sequence = await client.publish(several(*(replica_set(f"r{i}", 1) for i in range(6))))
    await asyncio.wait_for(stopped.wait(), 10)
    await apply(client, several(replica_set("r0", 9), replica_set("r5", 9)))
    await client.delete("rs", "", wire.DeleteRequest(name="r1"))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await start_api()
    told = await outcome(client, sequence)
    assert results(told) == ["created", "created", "created", "created", "created", "configured"]
    assert [r.name for r in told.results] == [f"r{i}" for i in range(6)]
    assert await names(client, "rs") == ["r0", "r2", "r3", "r4", "r5"]
    assert (await get(client, "rs", "r0"))["spec"]["replicas"] == 9
    assert (await get(client, "rs", "r5"))["spec"]["replicas"] == 1  # its turn came after the request


async def test_another_api_takes_over(client: Client, start_api: StartApi) -> None:
    first = await start_api()
    await start_api()
    assert results(await outcome(client, await client.publish(pod("a")))) == ["created"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert results(await outcome(client, await client.publish(pod("b")))) == ["created"]


async def test_a_conflict_is_decided_again(client: Client, start_api: StartApi) -> None:
    """Requests through two apis and messages change one object at once; every label that was said is there."""
    await start_api()
    await start_api()
    await outcome(client, await client.publish(replica_set("web")))

    async def patch(i: int) -> None:
        change = {"metadata": {"annotations": {f"a{i}": "x"}}}
        await client.patch("rs", "", wire.PatchRequest(name="web", patch=change))

    published = [client.publish(replica_set("web", i)) for i in range(10)]
    done = await asyncio.gather(*published, *(patch(i) for i in range(20)))
    for sequence in done[:10]:
        assert sequence is not None
        assert (await outcome(client, sequence)).error is None
    found = await get(client, "rs", "web")
    assert {f"a{i}" for i in range(20)} <= set(found["metadata"]["annotations"])


# --- processes that are killed ---


@asynccontextmanager
async def a_process(bus: Bus) -> AsyncIterator[asyncio.subprocess.Process]:
    env = os.environ | {
        "NATS_URL": bus.config.servers[0],
        "SHOAL_PREFIX": bus.names.prefix,
        "SHOAL_LOG": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shoal.api", env=env, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                if b'"event":"ready"' in line:
                    break
            else:
                pytest.fail("the api ended before it was ready")
        draining = asyncio.create_task(process.stderr.read())
        yield process
        if process.returncode is None:
            process.kill()
        await draining
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_killed_at_any_moment_nothing_is_lost_and_nothing_twice(bus: Bus, client: Client, store: Store) -> None:
    """Each message adds one pod and sets one counter; a kill -9 every few messages; at the end all of it is there."""
    published: list[int] = []

    async def publish(count: int) -> None:
        for _ in range(count):
            i = len(published) + 1
            published.append(await client.publish(several(pod(f"p{i:03d}"), replica_set("web", i), pod(f"q{i:03d}"))))
            await asyncio.sleep(0.004)

    for _ in range(4):
        async with a_process(bus) as process:
            await publish(15)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with a_process(bus) as process:
        replies = [await outcome(client, sequence) for sequence in published]
        assert all(set(results(r)) <= {"created", "configured"} for r in replies)
        assert len(await names(client, "pods")) == 2 * len(published)
        web = await get(client, "rs", "web")
        assert (web["spec"]["replicas"], web["metadata"]["generation"]) == (len(published), len(published))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


DEADLY = """
import importlib.util, os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "shoal.model.manifest":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            inner = module.parse
            def parse(text, **how):
                if "deadly" in text:
                    os._exit(9)
                return inner(text, **how)
            module.parse = parse
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


async def test_a_message_that_kills_its_reader_is_refused_in_the_end(bus: Bus, client: Client, tmp_path: Path) -> None:
    """A reader that dies of a message takes it a few times; then a process of its own reads it first, and dies."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    env = os.environ | {
        "NATS_URL": bus.config.servers[0],
        "SHOAL_PREFIX": bus.names.prefix,
        "SHOAL_LOG_LEVEL": "error",
        "PYTHONPATH": str(tmp_path),
    }
    sequence = await client.publish(pod("deadly"))
    behind = await client.publish(pod("good"))
    waiting = asyncio.create_task(client.outcome(sequence, timeout=90))
    died = 0
    while not waiting.done():
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "shoal.api", env=env)
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            died += 1
            assert died < 10
            continue
        assert results(await outcome(client, behind)) == ["created"]
        process.terminate()
        await ended
    told = waiting.result()
    assert told.error is not None
    assert "ends the process that reads it" in told.error.message
    assert died == SUSPECT_AFTER - 1


async def test_a_server_killed_and_restarted_loses_no_acknowledged_manifest(own_server: NatsServer) -> None:
    from shoal.api.service import serve
    from shoal.bus.connecting import connect
    from shoal.config import BusConfig

    config = BusConfig(servers=(own_server.url,))
    async with connect(config, name="test") as bus:
        client = Client(bus)
        ready = asyncio.Event()
        api = asyncio.create_task(serve(config, on_ready=ready.set))
        await asyncio.wait_for(ready.wait(), 15)
        acknowledged: list[str] = []
        enough = asyncio.Event()

        async def publish() -> None:
            for i in range(10_000):
                if enough.is_set():
                    return
                try:
                    await client.publish(pod(f"p{i:04d}"))
                    acknowledged.append(f"p{i:04d}")
                except Unavailable:
                    await asyncio.wait_for(bus.connected.wait(), 15)

        publishing = asyncio.create_task(publish())
        for kill in (1, 2, 3):
            while len(acknowledged) < 10 * kill:
                await asyncio.sleep(0.01)
            await own_server.kill()
            await own_server.start()
        enough.set()
        await publishing
        await asyncio.wait_for(bus.connected.wait(), 15)
        last = await client.publish(pod("last"))
        assert (await client.outcome(last, timeout=30)).error is None
        found = set(await names(client, "pods"))
        assert set(acknowledged) <= found
        api.cancel()
        await asyncio.gather(api, return_exceptions=True)


# --- traces ---


async def test_the_trace_of_a_wish_is_kept_with_the_object(
    client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = await outcome(client, await client.publish(pod("a"), traceparent=trace))
    entry = await store.get(desired(ObjectKey("pods", "default", "a")))
    assert entry is not None
    assert trace_id(entry.traceparent) == trace_id(trace) == trace_id(told.traceparent)
    await outcome(client, await client.publish(pod("b")))
    entry = await store.get(desired(ObjectKey("pods", "default", "b")))
    assert entry is not None
    assert trace_id(entry.traceparent) not in ("", trace_id(trace))
    assert TRACEPARENT not in msgspec.json.decode(entry.value or b"")["metadata"].get("annotations", {})
