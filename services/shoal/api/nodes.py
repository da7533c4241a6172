"""What nodes ask: to be registered, to have their reports stored, to have their watch made.

A node is the third token of the subject, which the server has checked. Reports of many nodes that arrive together are
committed together (the store's group commit), each a unit of its own: one that is refused holds up no other.
"""

import asyncio
import re

import msgspec

from shoal.api import guard, registration, reports
from shoal.api.cluster import Cluster
from shoal.api.live import Live
from shoal.api.writing import Plan, Writer, put
from shoal.bus.connection import Bus
from shoal.bus.rpc import Request, decode
from shoal.errors import Conflict, NotFound, ShoalError, TooLarge, to_status
from shoal.model.event import Event
from shoal.model.node import Node
from shoal.names import NODES, PODS, ObjectKey, claim, observed, untoken
from shoal.store import events
from shoal.store.consumers import make_node_consumer
from shoal.store.records import Change, Put
from shoal.telemetry.logs import log
from shoal.wire import (
    NodeEvent,
    NodeWatchReply,
    NodeWatchRequest,
    RegisterReply,
    RegisterRequest,
    Report,
    ReportResult,
    StatusReply,
    StatusRequest,
)

TRIES = 6
PODS_HIDDEN = "PodRangeOverlapped"  # the event's reason
EVENTS_MAX = 200  # in one request
EVENTS_EACH_S = 25.0  # a node's share, refilled; beyond it events are dropped, and counted
EVENTS_BURST = 500.0
HEARTBEAT_EVERY_S = 0.5
UID_MAX = 128
FIELD_PATH_MAX = 256
REASON = re.compile(r"^[A-Za-z][A-Za-z0-9]{0,127}$")


class Nodes:
    def __init__(self, bus: Bus, live: Live, writer: Writer, cluster: Cluster, emitter: events.Emitter) -> None:
        self._bus = bus
        self._emitter = emitter
        self._live = live
        self._writer = writer
        self._cluster = cluster
        self._shares: dict[str, _Share] = {}
        self._registering = asyncio.Lock()  # or all who join at once would choose the same range, and collide

    # --- joining -----------------------------------------------------------------------------------------------------

    async def register(self, request: Request) -> RegisterReply:
        asked: RegisterRequest = decode(request, RegisterRequest)
        name = request.node
        registration.check_name(name)
        hidden: list[str] = []
        async with self._registering:
            obj, _ = await self._writer.write(lambda: self._plan_registration(name, asked, hidden))
            await self._live.newest()
            revision = self._live.revision
        assert isinstance(obj, Node)
        log.info("node.registered", node=name, pod_cidr=obj.spec.pod_cidr, uid=obj.metadata.uid)
        for sentence in hidden:
            log.warning("node.pods_hidden", node=name, why=sentence)
            key = ObjectKey(NODES, "", name)
            await self._emitter.emit(key, obj.metadata.uid, "Warning", PODS_HIDDEN, sentence)
        return RegisterReply(
            cluster_uid=self._cluster.uid,
            node_uid=obj.metadata.uid,
            pod_cidr=obj.spec.pod_cidr,
            cluster_cidr=self._cluster.cluster_cidr,
            heartbeat_seconds=HEARTBEAT_EVERY_S,
            revision=revision,
        )

    def _plan_registration(self, name: str, asked: RegisterRequest, hidden: list[str]) -> Plan:
        """`hidden`: takes what is to be told when it is written."""
        view, clock = self._live.view, self._writer.clock
        key = ObjectKey(NODES, "", name)
        stored = view.get(key, Node)
        if stored is None and view.desired_entry(key) is not None:
            raise Conflict(f"the record of node {name} cannot be read by this version")
        prefix = claim(registration.CLAIM_SPACE, "")[:-1]
        decided = registration.register(
            name,
            asked,
            existing=stored.object if stored is not None else None,
            others=[s.object for s in view.objects(NODES, type_=Node)],
            claimed=[untoken(e.key[len(prefix) :]) for e in view.entries() if e.key.startswith(prefix)],
            of=self._cluster.ranges,
            uid=clock.uid(),
            now=clock.rfc3339(),
        )
        hidden[:] = decided.hidden
        changes: list[Change] = []
        if decided.changed:
            changes.append(put(key, decided.node, stored))
        if decided.claim:
            value = msgspec.json.encode({"node": name, "uid": decided.node.metadata.uid})
            changes.append(Put(claim(registration.CLAIM_SPACE, decided.claim), value, 0))
        return Plan(decided.node, tuple(changes))

    async def watch(self, request: Request) -> NodeWatchReply:
        """The consumer of one process of a node: made by us, with our filters."""
        asked: NodeWatchRequest = decode(request, NodeWatchRequest)
        process = request.tokens[2] if len(request.tokens) > 2 else ""
        registration.check_name(request.node)
        await self._known(request.node)
        return await make_node_consumer(self._bus, request.node, process, asked.start)

    async def _known(self, node: str) -> None:
        """Raises: NotFound for a host that has not registered."""
        key = ObjectKey(NODES, "", node)
        if self._live.view.get(key) is None:
            await self._live.newest()
            if self._live.view.get(key) is None:
                raise NotFound(f"node {node} is not registered")

    # --- reporting ---------------------------------------------------------------------------------------------------

    async def status(self, request: Request) -> StatusReply:
        registration.check_name(request.node)
        asked: StatusRequest = decode(request, StatusRequest)
        if len(asked.reports) > reports.REPORTS_MAX:
            raise TooLarge(f"{len(asked.reports)} reports in one request; {reports.REPORTS_MAX} at most")
        node = request.node
        results = await asyncio.gather(*(self._report(node, r, request.traceparent) for r in asked.reports))
        await self._events(node, asked.events)
        return StatusReply(results=list(results))

    async def _report(self, node: str, report: Report, traceparent: str) -> ReportResult:
        """Never raises a ShoalError: it is the result."""
        try:
            return await self._stored(node, report, guard.context(report.traceparent) or traceparent)
        except ShoalError as error:
            return ReportResult(error=to_status(error))

    async def _stored(self, node: str, report: Report, traceparent: str) -> ReportResult:
        view = self._live.view
        key = ObjectKey(report.resource, report.namespace, report.name)
        confirmed = False
        conflict = Conflict(f"{key} changes faster than it can be written")
        for _ in range(TRIES):
            entry = view.observed_entries(key).get(node)
            match reports.check(node, report, view.get(reports.subject_of(report)), entry):
                case reports.Unchanged(revision=revision):
                    return ReportResult(revision=revision)
                case reports.Refuse(confirm=True) if not confirmed:
                    confirmed = True  # the view may be behind: what a node knows, it knows from the store
                    await self._live.newest()
                case reports.Refuse(error=error, revision=revision):
                    return ReportResult(revision=revision, error=to_status(error))
                case reports.Write(value=value, expected=expected):
                    try:
                        (revision,) = await self._writer.store.commit(
                            [Put(observed(node, key), value, expected, traceparent)]
                        )
                    except Conflict as error:
                        conflict = error
                        await self._live.newest()
                        continue
                    return ReportResult(revision=revision)
        raise conflict

    # --- telling -----------------------------------------------------------------------------------------------------

    async def _events(self, node: str, told: list[NodeEvent]) -> None:
        share = self._share(node)
        if share is None:
            return
        clock_s = asyncio.get_running_loop().time()
        passed = [e for e in told[:EVENTS_MAX] if share.take(clock_s) and self._may_tell(node, e)]
        if dropped := len(told) - len(passed):
            log.warning("node.events_dropped", node=node, dropped=dropped)
        by_reason: dict[tuple[ObjectKey, str], list[Event]] = {}
        for key, event in (self._event(node, e) for e in passed):
            by_reason.setdefault((key, event.reason), []).append(event)
        await asyncio.gather(*(self._tell(node, *which, told) for which, told in by_reason.items()))

    def _share(self, node: str) -> "_Share | None":
        """None for a host that is no node. With a new node's share, those of nodes that are gone go."""
        view = self._live.view
        if view.get(ObjectKey(NODES, "", node)) is None:
            return None
        if node not in self._shares:
            known = {key.name for key in view.keys(NODES)}
            self._shares = {name: share for name, share in self._shares.items() if name in known}
            self._shares[node] = _Share()
        return self._shares[node]

    async def _tell(self, node: str, key: ObjectKey, reason: str, told: list[Event]) -> None:
        """One after the other: each goes on counting from the one before. Lost while NATS is away."""
        try:
            before = await events.told_before(self._bus, key, node, reason)
            for new in told:
                note, event = events.place(before, key, new)
                before[note] = events.succeeding(before.get(note), event)
                await events.tell(self._bus, key, node, note, before[note])
        except ShoalError as error:
            log.info("node.event_lost", key=str(key), reason=reason, error=str(error))

    def _event(self, node: str, told: NodeEvent) -> tuple[ObjectKey, Event]:
        now = self._writer.clock.rfc3339()
        key = ObjectKey(told.resource, told.namespace, told.name)
        made = events.make(
            key,
            told.uid[:UID_MAX],
            told.type,
            told.reason,
            told.message,
            field_path=told.field_path[:FIELD_PATH_MAX],
            reporter="node-agent",
            host=node,
            first=guard.time(told.first, now),
            last=guard.time(told.last, now),
            count=min(told.count, events.COUNT_MAX),
        )
        return key, made

    def _may_tell(self, node: str, event: NodeEvent) -> bool:
        """Of itself, of its pods, and of a pod that is gone by now."""
        if not REASON.match(event.reason) or not event.name:
            return False
        if not all(map(guard.is_token, (event.namespace, event.name))):
            return False
        if event.resource == NODES:
            return event.name == node and not event.namespace
        if event.resource != PODS:
            return False
        stored = self._live.view.get(ObjectKey(PODS, event.namespace, event.name))
        return stored is None or stored.object.spec.node_name == node  # type: ignore[attr-defined]


class _Share(msgspec.Struct):
    """A token bucket: how many events a node may still tell."""

    left: float = EVENTS_BURST
    at: float = 0.0

    def take(self, now_s: float) -> bool:
        if self.at:
            self.left = min(EVENTS_BURST, self.left + (now_s - self.at) * EVENTS_EACH_S)
        self.at = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True
