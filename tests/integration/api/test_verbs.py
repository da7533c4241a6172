"""What people ask of objects, against a real server."""

import asyncio
import time
from typing import Any

import msgspec
import pytest
from tests.integration.api.conftest import StartApi
from tests.integration.api.manifests import NAMESPACE, apply, get, names, pod, replica_set, results, several

from shoal import wire
from shoal.api.verbs import WATCH_WAIT_MAX_S
from shoal.bus.connection import Bus
from shoal.client import Client
from shoal.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    ShoalError,
    Unavailable,
)
from shoal.names import ObjectKey, desired
from shoal.store.records import Put
from shoal.store.store import Store

pytestmark = pytest.mark.usefixtures("api")


def as_json(text: str) -> msgspec.Raw:
    import yaml

    return msgspec.Raw(msgspec.json.encode(yaml.safe_load(text)))


# --- writing and reading ---


async def test_a_pod_from_apply_to_gone(client: Client) -> None:
    first = await apply(client, pod("web"))
    assert results(first) == ["created"]
    found = await get(client, "po", "web")
    assert found["metadata"]["resourceVersion"] == str(first.results[0].revision)
    assert (found["kind"], found["status"]["phase"], found["metadata"]["uid"]) == (
        "Pod",
        "Pending",
        first.results[0].uid,
    )
    gone = msgspec.json.decode(await client.delete("pods", "", wire.DeleteRequest(name="web")))
    assert gone["metadata"]["deletionTimestamp"]
    with pytest.raises(NotFound, match='pods "web" not found'):
        await client.get("pods", "", "web")


async def test_apply_three_ways_and_nothing_written_for_nothing(client: Client, store: Store) -> None:
    await client.outcome(await client.publish(replica_set("web")))  # whoever leads has its lease by now
    before = await store.last_revision()
    again = await apply(client, replica_set("web"))
    assert (results(again), await store.last_revision()) == (["unchanged"], before)
    await client.scale("rs", "", wire.ScaleRequest(name="web", replicas=7, current_replicas=3))
    await client.patch("rs", "", wire.PatchRequest(name="web", patch={"metadata": {"labels": {"theirs": "x"}}}))
    assert results(await apply(client, replica_set("web", 4))) == ["configured"]
    found = await get(client, "replicasets.apps", "web")
    assert (found["spec"]["replicas"], found["metadata"]["labels"]["theirs"]) == (4, "x")
    assert found["metadata"]["generation"] == 3


async def test_a_dry_run_answers_and_writes_nothing(client: Client, store: Store) -> None:
    await apply(client, replica_set("web"))
    before, _ = await store.list("desired.>", "observed.>")
    reply = await apply(client, several(replica_set("web", 5), pod("p"), NAMESPACE % "dev"), dry_run=True)
    assert results(reply) == ["configured", "created", "created"]
    made = await client.create("pods", "", wire.CreateRequest(object=as_json(pod("p")), dry_run=True))
    assert msgspec.json.decode(made)["metadata"]["uid"]
    patched = await client.patch("rs", "", wire.PatchRequest(name="web", patch={"spec": {"replicas": 9}}, dry_run=True))
    assert msgspec.json.decode(patched)["spec"]["replicas"] == 9
    await client.delete("rs", "", wire.DeleteRequest(name="web", dry_run=True))
    assert (await store.list("desired.>", "observed.>"))[0] == before


async def test_create_and_its_refusals(client: Client) -> None:
    made = msgspec.json.decode(await client.create("pods", "", wire.CreateRequest(object=as_json(pod("a")))))
    assert made["metadata"]["generation"] == 1
    with pytest.raises(AlreadyExists):
        await client.create("pods", "", wire.CreateRequest(object=as_json(pod("a"))))
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await client.create("pods", "nowhere", wire.CreateRequest(object=as_json(pod("a"))))
    with pytest.raises(Invalid):
        await client.create("rs", "", wire.CreateRequest(object=as_json(pod("a"))))
    with pytest.raises(BadRequest):
        await client.create("pods", "", wire.CreateRequest(object=msgspec.Raw(b"[]")))


async def test_generated_names_are_many(client: Client) -> None:
    named = as_json(pod("x").replace("name: x", "generateName: job-"))
    made = await asyncio.gather(*(client.create("pods", "", wire.CreateRequest(object=named)) for _ in range(20)))
    assert len({msgspec.json.decode(m)["metadata"]["name"] for m in made}) == 20
    assert all(n.startswith("job-") and len(n) == 9 for n in await names(client, "pods"))


async def test_lists_and_selectors(client: Client) -> None:
    await apply(
        client,
        several(NAMESPACE % "dev", pod("a").replace("{name: a}", "{name: a, namespace: dev}"), pod("b"), pod("c")),
    )
    await client.patch("pods", "", wire.PatchRequest(name="b", patch={"metadata": {"labels": {"app": "web"}}}))
    assert await names(client, "pods") == ["b", "c", "a"]  # by namespace, then name
    assert await names(client, "pods", "dev") == ["a"]
    assert await names(client, "pods", None, label_selector="app=web") == ["b"]
    assert await names(client, "pods", None, label_selector="!app") == ["c", "a"]
    assert await names(client, "pods", None, field_selector="metadata.namespace=dev") == ["a"]
    assert await names(client, "pods", None, field_selector="status.phase=Pending,metadata.name!=b") == ["c", "a"]
    assert await names(client, "pods", None, field_selector="spec.nodeName=n1") == []
    assert await names(client, "ns") == ["default", "dev"]
    reply = await client.list("Pod", None)
    assert (reply.kind, reply.api_version) == ("PodList", "v1")


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda c: c.get("podz", "", "x"), Invalid, "unknown resource .podz."),
        (lambda c: c.get("pods", "", ""), BadRequest, "is no name"),
        (lambda c: c.list("pods", None, label_selector="a b"), BadRequest, "label selector"),
        (lambda c: c.list("pods", None, field_selector="spec.x=1"), BadRequest, "field label not supported"),
        (lambda c: c.patch("pods", "", wire.PatchRequest(name="x", patch={})), NotFound, "not found"),
        (
            lambda c: c.patch("pods", "", wire.PatchRequest(name="x", patch={}, subresource="log")),
            BadRequest,
            "subresource",
        ),
        (lambda c: c.scale("pods", "", wire.ScaleRequest(name="x", replicas=1)), NotFound, "not found"),
        (lambda c: c.delete("ns", "", wire.DeleteRequest(name="default")), Forbidden, "may not be deleted"),
        (lambda c: c.get("pods", "*", "x"), BadRequest, "cannot be part of a subject"),
        (lambda c: c.exec("", wire.ExecRequest(name="x")), BadRequest, "no command"),
        (lambda c: c.logs("", wire.LogsRequest(name="x")), NotFound, "not found"),
        (lambda c: c.apply(wire.ApplyRequest(manifest=""), namespace="a>b"), BadRequest, "subject"),
    ],
)
async def test_errors_are_typed_sentences(client: Client, ask: Any, error: type[ShoalError], says: str) -> None:
    with pytest.raises(error, match=says):
        await ask(client)


async def test_a_body_that_cannot_be_read_is_said_to_be_one(bus: Bus, client: Client) -> None:
    with pytest.raises(BadRequest, match=r"cannot be read.*\$\.name"):
        await bus.request(bus.names.api("admin", "get", "pods", ""), b'{"name": 5}', bytes)


async def test_a_literal_wildcard_is_dropped(bus: Bus, client: Client) -> None:
    with pytest.raises(Unavailable):
        await bus.request(f"{bus.names.prefix}.api.*.get.pods._", wire.GetRequest(name="x"), bytes, timeout=0.3)


# --- optimistic concurrency ---


async def test_a_patch_is_held_to_the_revision_it_was_made_from(client: Client) -> None:
    revision = (await apply(client, replica_set("web"))).results[0].revision
    one = wire.PatchRequest(name="web", patch={"spec": {"replicas": 5}}, resource_version=str(revision))
    await client.patch("rs", "", one)
    with pytest.raises(Conflict):
        await client.patch("rs", "", msgspec.structs.replace(one, patch={"spec": {"replicas": 6}}))
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 5


@pytest.mark.parametrize("ahead", [-1, 1000])
async def test_a_revision_inside_a_patch_holds_too(client: Client, ahead: int) -> None:
    first = (await apply(client, replica_set("web"))).results[0].revision
    scaled = wire.PatchRequest(name="web", patch={"spec": {"replicas": 5}})
    now = int(msgspec.json.decode(await client.patch("rs", "", scaled))["metadata"]["resourceVersion"])
    said = str(first if ahead < 0 else now + ahead)
    inside = wire.PatchRequest(name="web", patch={"metadata": {"resourceVersion": said}, "spec": {"replicas": 6}})
    with pytest.raises(Conflict):
        await client.patch("rs", "", inside)
    with pytest.raises(Conflict):
        await client.patch("rs", "", msgspec.structs.replace(scaled, patch={}, resource_version=said))
    good = {"metadata": {"resourceVersion": str(now)}, "spec": {"replicas": 7}}
    await client.patch("rs", "", msgspec.structs.replace(scaled, patch=good))
    assert (await get(client, "rs", "web"))["spec"]["replicas"] == 7


async def test_two_apis_lose_no_update(client: Client, start_api: StartApi) -> None:
    """Each label is added by one patch; the apis decide on views of their own, and collide."""
    await start_api()
    await apply(client, replica_set("web"))
    await asyncio.gather(
        *(
            client.patch("rs", "", wire.PatchRequest(name="web", patch={"metadata": {"labels": {f"l{i}": "x"}}}))
            for i in range(24)
        )
    )
    labels = (await get(client, "rs", "web"))["metadata"]["labels"]
    assert {f"l{i}" for i in range(24)} <= set(labels)


async def test_of_many_who_create_one_succeeds(client: Client, start_api: StartApi) -> None:
    await start_api()
    request = wire.CreateRequest(object=as_json(pod("one")))
    made = await asyncio.gather(*(client.create("pods", "", request) for _ in range(12)), return_exceptions=True)
    assert [type(m) for m in made if isinstance(m, Exception)] == [AlreadyExists] * 11


async def test_who_wrote_through_one_api_reads_it_through_the_other(client: Client, start_api: StartApi) -> None:
    await start_api()
    for i in range(40):
        await apply(client, replica_set("web", i))
        assert (await get(client, "rs", "web"))["spec"]["replicas"] == i


async def test_what_another_process_wrote_is_in_the_next_read(client: Client, store: Store) -> None:
    await apply(client, replica_set("web"))
    key = desired(ObjectKey("replicasets", "default", "web"))
    for i in range(20):
        entry = await store.get(key)
        assert entry is not None
        assert entry.value is not None
        value = entry.value.replace(b'"replicas":%d' % (3 + i), b'"replicas":%d' % (4 + i))
        await store.commit([Put(key, value, entry.revision)])
        assert (await get(client, "rs", "web"))["spec"]["replicas"] == 4 + i


# --- status ---


async def test_a_status_is_patched_apart_from_the_spec(client: Client) -> None:
    await apply(client, replica_set("web"))
    change = {"status": {"replicas": 2, "readyReplicas": 1}, "spec": {"replicas": 9}}
    await client.patch("rs", "", wire.PatchRequest(name="web", patch=change, subresource="status"))
    found = await get(client, "rs", "web")
    assert (found["spec"]["replicas"], found["status"]["readyReplicas"], found["metadata"]["generation"]) == (3, 1, 1)
    await client.patch("rs", "", wire.PatchRequest(name="web", patch={"spec": {"replicas": 4}}, subresource="scale"))
    found = await get(client, "rs", "web")
    assert (found["spec"]["replicas"], found["status"]["readyReplicas"]) == (4, 1)


# --- deletion ---


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_who_has_dependents_waits_for_what_is_to_become_of_them(
    client: Client, policy: str, finalizer: str
) -> None:
    await apply(client, replica_set("web"))
    await client.delete("rs", "", wire.DeleteRequest(name="web", propagation_policy=policy))
    meta = (await get(client, "rs", "web"))["metadata"]
    assert (meta["finalizers"], bool(meta["deletionTimestamp"])) == ([finalizer], True)


async def test_a_background_deletion_leaves_no_entry(client: Client, store: Store) -> None:
    await apply(client, replica_set("web"))
    change = {"status": {"replicas": 2}}
    await client.patch("rs", "", wire.PatchRequest(name="web", patch=change, subresource="status"))
    await client.delete("rs", "", wire.DeleteRequest(name="web"))
    entries, _ = await store.list("desired.replicasets.>", "observed.*.replicasets.>")
    assert entries == []
    assert results(await apply(client, replica_set("web"))) == ["created"]  # over the markers


async def test_a_namespace_that_ends_takes_nothing_new(client: Client) -> None:
    await apply(client, NAMESPACE % "dev")
    await client.delete("ns", "", wire.DeleteRequest(name="dev"))
    assert (await get(client, "ns", "dev"))["status"]["phase"] == "Terminating"
    reply = await apply(client, pod("a"), namespace="dev")
    assert reply.error is not None
    assert "is being terminated" in reply.error.message


# --- watching ---


async def test_a_watch_from_a_list_misses_nothing(client: Client) -> None:
    await apply(client, pod("a"))
    since = (await client.list("pods", None)).metadata["resourceVersion"]
    await apply(client, several(pod("b"), replica_set("r")))
    await client.patch("pods", "", wire.PatchRequest(name="b", patch={"metadata": {"labels": {"app": "web"}}}))
    await client.delete("pods", "", wire.DeleteRequest(name="a"))
    seen: list[tuple[str, str]] = []
    revisions: list[int] = []
    async for event in client.watch("pods", None, since=since):
        meta = msgspec.json.decode(event.object)["metadata"]
        seen.append((event.type, meta["name"]))
        revisions.append(int(meta["resourceVersion"]))
        if len(seen) == 3:
            break
    assert seen == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]
    assert revisions == sorted(set(revisions))


async def test_a_watcher_sees_what_enters_and_leaves_its_selector(client: Client) -> None:
    await apply(client, pod("a"))
    since = (await client.list("pods", None)).metadata["resourceVersion"]
    for labels in ({"app": "web"}, {"app": "web", "b": "c"}, {"app": "db"}):
        await client.patch("pods", "", wire.PatchRequest(name="a", patch={"metadata": {"labels": labels}}))
    seen = []
    async for event in client.watch("pods", "default", since=since, label_selector="app=web"):
        seen.append(event.type)
        if len(seen) == 3:
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watch_waits_and_wakes(bus: Bus, client: Client) -> None:
    since = (await client.list("pods", None)).metadata["resourceVersion"]
    subject = bus.names.api("admin", "watch", "pods", "")
    waiting = asyncio.create_task(bus.request(subject, wire.WatchRequest(since=since), wire.WatchReply, timeout=12))
    await asyncio.sleep(0)
    await apply(client, pod("a"))
    reply = await asyncio.wait_for(waiting, 3)
    assert [e.type for e in reply.events] == ["ADDED"]
    empty = await bus.request(subject, wire.WatchRequest(since=reply.revision, wait_seconds=0.05), wire.WatchReply)
    assert (empty.events, int(empty.revision) >= int(reply.revision)) == ([], True)


@pytest.mark.parametrize("resource", ["pods", "events"])
async def test_a_watch_that_waits_does_not_hold_up_the_stop(
    bus: Bus, client: Client, api: "asyncio.Task[None]", resource: str
) -> None:
    """It is answered: nothing since what it knows."""
    subject = bus.names.api("admin", "watch", resource, "")
    newest = await bus.request(subject, wire.WatchRequest(), wire.WatchReply)
    asked = wire.WatchRequest(since=newest.revision, wait_seconds=WATCH_WAIT_MAX_S)
    waiting = asyncio.create_task(bus.request(subject, asked, wire.WatchReply, timeout=15))
    await names(client, "pods")  # answered behind it
    began = time.monotonic()
    api.cancel()
    await asyncio.gather(api, return_exceptions=True)
    assert time.monotonic() - began < WATCH_WAIT_MAX_S / 2
    assert (await waiting) == wire.WatchReply(revision=newest.revision)


async def test_a_watch_goes_on_through_another_api(
    client: Client, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    await start_api()
    since = (await client.list("pods", None)).metadata["resourceVersion"]
    await apply(client, pod("a"))
    api.cancel()
    await asyncio.gather(api, return_exceptions=True)
    async for event in client.watch("pods", None, since=since):
        assert event.type == "ADDED"
        break


async def test_what_nobody_remembers_is_expired(client: Client, api: "asyncio.Task[None]", start_api: StartApi) -> None:
    since = (await client.list("pods", None)).metadata["resourceVersion"]
    await apply(client, pod("a"))
    api.cancel()
    await asyncio.gather(api, return_exceptions=True)
    await start_api()  # its history begins with it
    with pytest.raises(Expired, match="list again"):
        async for _ in client.watch("pods", None, since=since):
            pass


async def test_a_revision_of_the_future_is_no_silence(client: Client) -> None:
    with pytest.raises(Expired):
        async for _ in client.watch("pods", None, since="999999"):
            pass


# --- size ---


async def test_a_list_of_thousands_comes_whole(client: Client, store: Store, bus: Bus) -> None:
    """More than one message holds: the client pages; every page is of the same revision."""
    await apply(client, replica_set("web"))
    entry = await store.get(desired(ObjectKey("replicasets", "default", "web")))
    assert entry is not None
    assert entry.value is not None
    padding = b'"annotations":{"padding":"' + b"x" * 4000 + b'",'
    count = 1500
    for start in range(0, count, 250):
        await store.commit(
            [
                Put(
                    desired(ObjectKey("replicasets", "default", f"r{i:04d}")),
                    entry.value.replace(b'"name":"web"', b'"name":"r%04d"' % i).replace(b'"annotations":{', padding, 1),
                    0,
                )
                for i in range(start, start + 250)
            ]
        )
    found = await names(client, "rs")
    assert found == [f"r{i:04d}" for i in range(count)] + ["web"]
    first = await bus.request(bus.names.api("admin", "list", "rs", ""), wire.ListRequest(limit=5), wire.ListReply)
    assert len(first.items) == 5
    more = wire.ListRequest(continue_=first.metadata["continue"], limit=3)
    await apply(client, pod("between"))
    second = await bus.request(bus.names.api("admin", "list", "rs", ""), more, wire.ListReply)
    assert second.metadata["resourceVersion"] == first.metadata["resourceVersion"]
    assert len(second.items) == 3


async def test_an_object_over_the_limit_is_refused_in_words(client: Client) -> None:
    big = pod("big").replace("{name: big}", "{name: big, annotations: {a: %s}}" % ("x" * 2_000_000))
    reply = await apply(client, big)
    assert reply.error is not None or reply.results[0].error is not None
    with pytest.raises(Refused):
        await client.get("pods", "", "big")
