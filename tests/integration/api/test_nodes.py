"""What nodes ask, by a node that is nothing but its messages."""

import asyncio
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from tests.integration.api.conftest import StartApi
from tests.integration.api.manifests import apply, get, names, pod, several

from shoal import wire
from shoal.api.service import Settings
from shoal.bus import jetstream as js
from shoal.bus.connection import Bus, Message
from shoal.client import Client
from shoal.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound, Refused, ShoalError
from shoal.names import EPOCH, ObjectKey, bound, claim, desired, observed
from shoal.store.consumers import RequestedConsumer
from shoal.store.events import NOTES_MAX
from shoal.store.records import Entry, Put, Synced
from shoal.store.store import Store
from shoal.store.stored import decode_observed
from shoal.store.watch import Watch

RUNNING = msgspec.Raw(b'{"phase":"Running","podIP":"10.208.0.5"}')


class FakeNode:
    def __init__(self, bus: Bus, name: str, host: str = "") -> None:
        self.bus = bus
        self.name = name
        self.host = host or f"host-{name}"

    async def register(self, **how: Any) -> wire.RegisterReply:
        request = wire.RegisterRequest(**({"host_uid": self.host} | how))
        return await self.bus.request(self.bus.names.register(self.name), request, wire.RegisterReply)

    async def report(self, *reports: wire.Report, events: Any = (), timeout: float = 5) -> list[wire.ReportResult]:
        request = wire.StatusRequest(reports=list(reports), events=list(events))
        reply = await self.bus.request(self.bus.names.status(self.name), request, wire.StatusReply, timeout=timeout)
        if events:
            await self.events_are_stored()
        return reply.results

    async def events_are_stored(self) -> None:
        """Events are acknowledged by nobody; but their stream takes one message after the other, this one not at all."""
        subject = self.bus.names.event(ObjectKey("nodes", "", self.name), "test", "Never")
        with pytest.raises(Conflict):
            await js.publish(self.bus, subject, b"", headers={js.EXPECTED_REVISION: "1"})


def of_pod(name: str, uid: str, status: msgspec.Raw = RUNNING, **how: Any) -> wire.Report:
    return wire.Report(resource="pods", namespace="default", name=name, uid=uid, status=status, **how)


async def bind(store: Store, name: str, node: str) -> None:
    """As the scheduler does."""
    key = ObjectKey("pods", "default", name)
    entry = await store.get(desired(key))
    assert entry is not None
    assert entry.value is not None
    record = msgspec.json.decode(entry.value)
    record["spec"]["nodeName"] = node
    value = msgspec.json.encode(record)
    await store.commit([Put(desired(key), value, entry.revision), Put(bound(node, key), b'{"pod":' + value + b"}", 0)])


async def a_bound_pod(client: Client, store: Store, name: str, node: str) -> str:
    uid = (await apply(client, pod(name))).results[0].uid
    await bind(store, name, node)
    return uid


# --- joining ---


async def test_a_host_becomes_a_node(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> None:
    reply = await FakeNode(bus, "n1.example").register(labels={"kubernetes.io/os": "linux"}, avoid=["10.208.0.0/23"])
    assert (reply.pod_cidr, reply.cluster_cidr) == ("10.208.2.0/23", "10.208.0.0/16")
    node = await get(client, "nodes", "n1.example")
    assert node["metadata"]["labels"] == {"kubernetes.io/os": "linux"}
    assert (node["metadata"]["uid"], node["spec"]["podCIDR"]) == (reply.node_uid, reply.pod_cidr)
    claimed = await store.get(claim("podranges", reply.pod_cidr))
    assert claimed is not None
    assert claimed.value is not None
    epoch = await store.get(EPOCH)
    assert epoch is not None
    assert msgspec.json.decode(epoch.value or b"") == {
        "uid": reply.cluster_uid, "epoch": 1, "clusterCIDR": "10.208.0.0/16", "nodeMask": 23,
    }  # fmt: skip


async def test_the_same_host_again_changes_nothing_and_another_is_refused(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    first = await FakeNode(bus, "n1").register(labels={"kubernetes.io/arch": "amd64"})
    await client.patch("nodes", "", wire.PatchRequest(name="n1", patch={"metadata": {"labels": {"disk": "ssd"}}}))
    before = await store.last_revision()
    again = await FakeNode(bus, "n1").register(labels={"kubernetes.io/arch": "amd64"})
    assert again == msgspec.structs.replace(first, revision=before)
    assert await store.last_revision() == before
    await FakeNode(bus, "n1").register(labels={"kubernetes.io/arch": "arm64"})
    assert (await get(client, "node", "n1"))["metadata"]["labels"] == {"disk": "ssd", "kubernetes.io/arch": "arm64"}
    with pytest.raises(AlreadyExists, match="another host is registered as node n1"):
        await FakeNode(bus, "n1", "other-host").register()


async def test_a_host_that_comes_back_with_other_networks_stays_and_they_are_kept_free(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    node = FakeNode(bus, "n1")
    first = await node.register()
    assert first.pod_cidr == "10.208.0.0/23"

    again = await node.register(avoid=["10.208.0.0/23", "10.208.1.0/24", "10.208.2.0/24"])
    assert again == msgspec.structs.replace(first, revision=again.revision)
    await node.events_are_stored()
    (told,) = await client.events("default", wire.EventsRequest(resource="nodes", name="n1"))
    assert (told.type, told.reason, told.source.component) == ("Warning", "PodRangeOverlapped", "api")
    assert (
        "this host uses 10.208.1.0/24 by now, which overlaps 10.208.0.0/23, the range of its own pods" in told.message
    )
    assert (await FakeNode(bus, "n2").register()).pod_cidr == "10.208.4.0/23"


async def test_many_who_join_at_once_through_two_apis_share_nothing(
    bus: Bus, client: Client, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    await start_api()
    replies = await asyncio.gather(*(FakeNode(bus, f"n{i}").register() for i in range(25)))
    cidrs = [ip_network(r.pod_cidr) for r in replies]
    assert all(not a.overlaps(b) for i, a in enumerate(cidrs) for b in cidrs[:i])
    assert len(await names(client, "nodes")) == 25


async def test_a_full_cluster_says_so(bus: Bus, start_api: StartApi) -> None:
    await start_api(Settings(cluster_cidr="10.208.0.0/22", node_mask=23))
    await FakeNode(bus, "n1").register()
    await FakeNode(bus, "n2").register()
    with pytest.raises(Refused, match=r"no pod range is free: of the 2 in 10\.208\.0\.0/22"):
        await FakeNode(bus, "n3").register()


async def test_a_range_once_given_is_the_clusters(bus: Bus, start_api: StartApi) -> None:
    first = await start_api(Settings(cluster_cidr="10.208.0.0/16", node_mask=24))
    reply = await FakeNode(bus, "n1").register()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await start_api(Settings(cluster_cidr="172.16.0.0/12", node_mask=20))
    assert (await FakeNode(bus, "n2").register()).cluster_cidr == reply.cluster_cidr


async def test_a_removed_nodes_range_rests(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> None:
    first = await FakeNode(bus, "n1").register()
    await client.delete("nodes", "", wire.DeleteRequest(name="n1"))
    with pytest.raises(NotFound):
        await client.get("nodes", "", "n1")
    again = await FakeNode(bus, "n1", "another").register()
    assert again.pod_cidr != first.pod_cidr
    assert again.node_uid != first.node_uid
    resting = await store.get(claim("podranges", first.pod_cidr))
    assert resting is not None
    assert b"freed" in (resting.value or b"")


@pytest.mark.parametrize(
    ("name", "how", "error"),
    [
        ("N1", {}, Invalid),
        ("n1", {"labels": {"role": "master"}}, Forbidden),
        ("n1", {"avoid": ["x"]}, Invalid),
        ("n1", {"avoid": ["10.0.0.0/8"]}, Refused),
        ("n1", {"host_uid": ""}, Invalid),
    ],
)
async def test_who_is_not_taken_in_leaves_nothing(
    bus: Bus, client: Client, api: "asyncio.Task[None]", name: str, how: dict[str, Any], error: type[ShoalError]
) -> None:
    with pytest.raises(error):
        await FakeNode(bus, name).register(**how)
    assert await names(client, "nodes") == []


# --- reporting ---


async def test_a_report_is_stored_merged_and_answered(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    (first,) = await node.report(of_pod("web", uid, revision=0))
    assert first.error is None
    found = await get(client, "pods", "web")
    assert (found["status"]["phase"], found["status"]["podIP"]) == ("Running", "10.208.0.5")
    assert found["metadata"]["resourceVersion"] == str(first.revision)
    before = await store.last_revision()
    (again,) = await node.report(of_pod("web", uid, revision=0))  # the answer was lost
    assert (again.revision, again.error, await store.last_revision()) == (first.revision, None, before)
    (stale,) = await node.report(of_pod("web", uid, msgspec.Raw(b'{"phase":"Failed"}'), revision=0))
    assert stale.error is not None
    assert (stale.error.reason, stale.revision) == ("Conflict", first.revision)
    (newer,) = await node.report(of_pod("web", uid, msgspec.Raw(b'{"phase":"Failed"}'), revision=first.revision))
    assert newer.revision > first.revision
    assert await names(client, "pods", None, field_selector="status.phase=Failed,spec.nodeName=n1") == ["web"]


async def test_gone_is_recorded_with_the_uid(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    await client.delete("pods", "", wire.DeleteRequest(name="web", grace_period_seconds=3))
    assert (await get(client, "pods", "web"))["metadata"]["deletionGracePeriodSeconds"] == 3
    await node.report(of_pod("web", uid, msgspec.Raw(b'{"phase":"Failed"}'), gone=True))
    entry = await store.get(observed("n1", ObjectKey("pods", "default", "web")))
    assert entry is not None
    record = decode_observed(entry.value or b"")
    assert (record.gone, record.uid) == (True, uid)


async def test_of_many_reports_each_has_its_answer(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    one, other = FakeNode(bus, "n1"), FakeNode(bus, "n2")
    await one.register()
    await other.register()
    mine = await a_bound_pod(client, store, "mine", "n1")
    theirs = await a_bound_pod(client, store, "theirs", "n2")
    await apply(client, several(pod("nobodys")))
    unbound = (await get(client, "pods", "nobodys"))["metadata"]["uid"]
    results = await one.report(
        of_pod("theirs", theirs),
        of_pod("mine", "another-uid"),
        of_pod("mine", mine),
        of_pod("nobodys", unbound),
        of_pod("never", "x"),
        wire.Report(resource="nodes", namespace="", name="n2", uid="x"),
        wire.Report(resource="namespaces", namespace="", name="default", uid="x"),
        of_pod("mine", mine, msgspec.Raw(b'{"phase":[]}')),
        of_pod("a.*", "x"),
    )
    reasons = [r.error.reason if r.error else "" for r in results]
    assert reasons == [
        "Forbidden", "NotFound", "", "Forbidden", "NotFound", "Forbidden", "Forbidden", "Invalid", "NotFound",
    ]  # fmt: skip
    assert (await get(client, "pods", "theirs"))["status"]["phase"] == "Pending"


async def test_a_node_describes_itself_and_its_network(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    node = FakeNode(bus, "n1")
    uid = (await node.register()).node_uid
    ready = msgspec.Raw(b'{"conditions":[{"type":"Ready","status":"True"}],"capacity":{"cpu":"4"}}')
    network = msgspec.Raw(b'{"conditions":[{"type":"NetworkUnavailable","status":"False"}]}')
    results = await node.report(
        wire.Report(resource="nodes", namespace="", name="n1", uid=uid, status=ready),
        wire.Report(resource="nodenetworks", namespace="", name="n1", uid=uid, status=network),
    )
    assert [r.error for r in results] == [None, None]
    assert (await get(client, "nodes", "n1"))["status"]["capacity"] == {"cpu": "4"}
    assert await store.get(observed("n1", ObjectKey("nodenetworks", "", "n1"))) is not None


async def test_hundreds_of_nodes_report_at_once(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    """Through two apis; each report is stored once, in few batches."""
    await start_api()
    nodes = [FakeNode(bus, f"n{i}") for i in range(60)]
    replies = await asyncio.gather(*(n.register() for n in nodes))
    before = await store.last_revision()

    def a_report(node: FakeNode, uid: str, i: int) -> wire.Report:
        status = msgspec.Raw(b'{"capacity":{"cpu":"%d"}}' % i)
        return wire.Report(resource="nodes", namespace="", name=node.name, uid=uid, status=status)

    pairs = list(zip(nodes, replies, strict=True))
    for i in (1, 2, 3):
        results = await asyncio.gather(*(n.report(a_report(n, r.node_uid, i), timeout=15) for n, r in pairs))
        assert all(r[0].error is None for r in results)
    assert await store.last_revision() == before + 180
    reply = await client.list("nodes", None)
    assert {msgspec.json.decode(i)["status"]["capacity"]["cpu"] for i in reply.items} == {"3"}


async def test_the_trace_of_a_report_is_kept(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await node.report(of_pod("web", uid, traceparent=trace))
    entry = await store.get(observed("n1", ObjectKey("pods", "default", "web")))
    assert entry is not None
    assert entry.traceparent == trace


async def test_a_report_carries_no_header_of_its_own(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    """A line break in what becomes a header would be another header, with the api's rights."""
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    evil = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nNats-TTL: 1s\r\nKV-Operation: DEL"
    (result,) = await node.report(of_pod("web", uid, traceparent=evil))
    assert result.error is None
    entry = await store.get(observed("n1", ObjectKey("pods", "default", "web")))
    assert entry is not None
    assert entry.value is not None
    assert "\n" not in entry.traceparent


# --- telling ---


def an_event(name: str, uid: str, reason: str = "Started", **how: Any) -> wire.NodeEvent:
    return wire.NodeEvent(
        **(
            {"resource": "pods", "namespace": "default", "name": name, "uid": uid, "reason": reason, "message": "m"}
            | how
        )
    )


async def test_events_of_a_node_are_kubernetes_events(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    await FakeNode(bus, "n2").register()
    uid = await a_bound_pod(client, store, "web", "n1")
    theirs = await a_bound_pod(client, store, "theirs", "n2")
    first = "2026-11-24T10:00:00Z"
    await node.report(
        events=[
            an_event("web", uid, first=first, last=first, message="m 1"),
            an_event("web", uid, count=3, first=first, last="2026-11-24T10:05:00Z", message="m 2"),
            an_event("theirs", theirs),
            an_event("web", uid, reason="No.Such>"),
            an_event("n1", "x", resource="nodes", namespace="", reason="Rebooted", type="Warning"),
            an_event("n2", "x", resource="nodes", namespace="", reason="Lies"),
        ]
    )
    found = {e.reason: e for e in await client.events(None, wire.EventsRequest())}
    assert set(found) == {"Started", "Rebooted"}
    started = found["Started"]
    assert (started.count, started.message, started.first_timestamp) == (3, "m 2", first)
    assert (started.involved_object.kind, started.involved_object.uid) == ("Pod", uid)
    assert (started.source.component, started.source.host) == ("node-agent", "n1")
    assert [e.reason for e in await client.events("default", wire.EventsRequest(resource="po", name="web"))] == [
        "Started"
    ]
    assert [e.reason for e in await client.events("default", wire.EventsRequest(resource="nodes", name="n1"))] == [
        "Rebooted"
    ]
    assert await client.events("default", wire.EventsRequest(resource="pods", name="web", uid="another")) == []
    listed = await client.list("events", "default", field_selector="involvedObject.name=web")
    assert [msgspec.json.decode(i)["reason"] for i in listed.items] == ["Started"]
    one = msgspec.json.decode(listed.items[0])
    assert (await get(client, "ev", one["metadata"]["name"]))["message"] == "m 2"


async def test_an_event_asks_for_no_acknowledgement(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    heard: asyncio.Queue[Message] = asyncio.Queue()
    await bus.subscribe(bus.names.events_of(ObjectKey("pods", "default", "web")), heard.put)
    await bus.flush()
    await node.report(events=[an_event("web", uid)])
    assert (await asyncio.wait_for(heard.get(), 5)).reply == ""


async def test_events_told_again_are_counted(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    """Through two apis, with a repeat whose answer was lost; an event of a successor begins anew."""
    await start_api()
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    for minute in (0, 1, 1, 2):
        when = f"2026-11-24T10:0{minute}:00Z"
        await node.report(events=[an_event("web", uid, reason="BackOff", first=when, last=when)])
    (found,) = await client.events("default", wire.EventsRequest(resource="pods", name="web"))
    assert (found.count, found.first_timestamp, found.last_timestamp) == (
        3,
        "2026-11-24T10:00:00Z",
        "2026-11-24T10:02:00Z",
    )
    await node.report(events=[an_event("web", "another", reason="BackOff")])
    (found,) = await client.events("default", wire.EventsRequest(resource="pods", name="web"))
    assert (found.count, found.involved_object.uid) == (1, "another")


async def test_what_is_told_of_two_containers_for_one_reason_is_told_twice(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    """And the next pull, which fails alike, counts on; what takes another time or id is no other thing."""
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    for minute in (0, 1):
        when = f"2026-11-24T10:0{minute}:00Z"
        await node.report(
            events=[
                an_event(
                    "web", uid, reason="Failed", message=m, field_path=f"spec.containers{{{c}}}", first=when, last=when
                )
                for c in ("a", "b")
                for m in (f"Failed to pull image: id 4f{minute}a0", "Error: ErrImagePull")
            ]
        )
    found = await client.events("default", wire.EventsRequest(resource="pods", name="web"))
    told = sorted((e.involved_object.field_path, e.message, e.count) for e in found)
    assert told == [
        ("spec.containers{a}", "Error: ErrImagePull", 2),
        ("spec.containers{a}", "Failed to pull image: id 4f1a0", 2),
        ("spec.containers{b}", "Error: ErrImagePull", 2),
        ("spec.containers{b}", "Failed to pull image: id 4f1a0", 2),
    ]
    assert len({e.metadata.name for e in found}) == 4


async def test_messages_without_end_make_no_events_without_end(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]", start_api: StartApi
) -> None:
    await start_api()
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    letters = [chr(ord("g") + i) for i in range(16)]
    for letter in letters:
        await node.report(events=[an_event("web", uid, message=letter + other) for other in letters[:4]])
    found = await client.events("default", wire.EventsRequest(resource="pods", name="web"))
    assert len(found) == NOTES_MAX + 1
    (combined,) = [e for e in found if e.message.startswith("(combined from similar events): ")]
    assert combined.message.endswith(letters[-1] + letters[3]), "the newest"
    assert combined.count == 64 - NOTES_MAX


async def test_events_are_watched(bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]") -> None:
    node = FakeNode(bus, "n1")
    await node.register()
    uid = await a_bound_pod(client, store, "web", "n1")
    await node.report(events=[an_event("web", uid, reason="Before")])
    since = (await client.list("events", None)).metadata["resourceVersion"]
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for event in client.watch("events", "default", since=since, field_selector="involvedObject.name=web"):
            seen.append((event.type, msgspec.json.decode(event.object)["reason"]))
            if len(seen) == 1:
                await node.report(events=[an_event("web", uid, reason="Started", count=2)])
            if len(seen) == 2:
                return

    watching = asyncio.create_task(watch())
    await node.report(
        events=[an_event("web", uid, reason="Started"), an_event("n1", "", resource="nodes", namespace="")]
    )
    await asyncio.wait_for(watching, 10)
    assert seen == [("ADDED", "Started"), ("MODIFIED", "Started")]


async def test_an_idle_watch_reads_no_events(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    since = (await client.list("events", None)).metadata["resourceVersion"]
    reads = 0

    async def count(_store: Store, *filters: str) -> Any:
        nonlocal reads
        reads += 1
        return [], int(since)

    monkeypatch.setattr(Store, "events", count)
    request = wire.WatchRequest(since=since, wait_seconds=1.2)
    reply = await bus.request(bus.names.api("admin", "watch", "events", ""), request, wire.WatchReply, timeout=5)
    assert (reply.revision, reply.events, reads) == (since, [], 0)


async def test_who_is_no_node_has_no_share(bus: Bus, client: Client, api: "asyncio.Task[None]") -> None:
    stranger = FakeNode(bus, "stranger")
    await stranger.report(events=[an_event("stranger", "", resource="nodes", namespace="")])
    assert [e for e in await client.events(None, wire.EventsRequest()) if e.source.host == "stranger"] == []


async def test_a_flood_of_events_is_cut_and_hurts_nobody_else(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    loud, quiet = FakeNode(bus, "loud"), FakeNode(bus, "quiet")
    await loud.register()
    await quiet.register()
    flood = [an_event("loud", "", resource="nodes", namespace="", reason=f"R{i}") for i in range(400)]
    for _ in range(10):
        await loud.report(events=flood)
    await quiet.report(events=[an_event("quiet", "", resource="nodes", namespace="", reason="Here")])
    told = await client.events(None, wire.EventsRequest())
    assert sum(e.source.host == "loud" for e in told) <= 200
    assert [e.reason for e in told if e.source.host == "quiet"] == ["Here"]


# --- watching ---


async def test_a_nodes_watch_shows_its_own_part_alone(
    bus: Bus, client: Client, store: Store, api: "asyncio.Task[None]"
) -> None:
    await FakeNode(bus, "n1").register()
    await FakeNode(bus, "n2").register()
    await a_bound_pod(client, store, "theirs", "n2")
    await a_bound_pod(client, store, "mine", "n1")
    watch = Watch(bus, name="agent", filters=[], consumer=RequestedConsumer(bus, "n1", "agent"))
    seen: list[str] = []
    async with asyncio.timeout(10):
        async for event in watch:
            if isinstance(event, Synced):
                break
            assert isinstance(event, Entry)
            seen.append(event.key)
    assert seen == ["bound.n1.pods.default.mine"]


async def test_a_stranger_has_no_watch(bus: Bus, api: "asyncio.Task[None]") -> None:
    with pytest.raises(NotFound, match="not registered"):
        await bus.request(bus.names.watch("nobody", "agent"), wire.NodeWatchRequest(), wire.NodeWatchReply)
    await FakeNode(bus, "n1").register()
    with pytest.raises(BadRequest):
        await bus.request(bus.names.watch("n1", "thief"), wire.NodeWatchRequest(), wire.NodeWatchReply)
