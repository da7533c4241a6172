"""The api as a process: one view, the requests of people and nodes, and (one instance at a time) published manifests."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.api import cluster as clusters
from shoal.api.documents import Applier
from shoal.api.events import EVENTS, Events
from shoal.api.guard import guarded
from shoal.api.live import Live
from shoal.api.manifests import GROUP, Manifests
from shoal.api.nodes import Nodes
from shoal.api.sessions import Sessions
from shoal.api.verbs import Verbs
from shoal.api.writing import Clock, Writer
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.bus.rpc import Handler, MicroService, Request, decode
from shoal.bus.rpc import serve as answer
from shoal.config import BusConfig
from shoal.controller.lease import Lease
from shoal.controller.shell import holder_name
from shoal.errors import Invalid, ShoalError, Unavailable, only_error
from shoal.model.registry import by_resource
from shoal.store.events import Emitter
from shoal.store.store import Store
from shoal.store.streams import ensure_streams
from shoal.telemetry.logs import log
from shoal.wire import WatchReply, WatchRequest

SERVICE = "shoal-api"
VERSION = "0.1.0"
QUEUE = "api"
PEOPLE_AT_ONCE = 1024  # of each verb: a waiting watch is one of them
NODES_AT_ONCE = 4096
REPLY_BYTES_MAX = 3 * 2**20
REPLY_OVERHEAD = 65_536


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    cluster_cidr: str = "10.208.0.0/12"
    node_mask: int = 23


def settings(env: Mapping[str, str] = os.environ) -> Settings:
    """From `SHOAL_CLUSTER_CIDR`, `SHOAL_NODE_MASK`. Raises: Invalid for what is no number."""
    mask = env.get("SHOAL_NODE_MASK") or "23"
    if not (mask.isascii() and mask.isdigit()):
        raise Invalid(f"{mask[:20]!r} is no number", path="SHOAL_NODE_MASK")
    return Settings(cluster_cidr=env.get("SHOAL_CLUSTER_CIDR") or "10.208.0.0/12", node_mask=int(mask))


async def serve(
    config: BusConfig,
    given: Settings | None = None,
    *,
    clock: Clock | None = None,
    on_ready: Callable[[], Any] | None = None,
) -> None:
    """Serve until cancelled. Raises: Invalid for a range that can be none, Unavailable if JetStream never answers."""
    given = given or settings()
    async with connect(config, name=SERVICE) as bus:
        await ensure_streams(bus)
        try:
            await _Api(bus, given, clock or Clock()).run(on_ready)
        except BaseExceptionGroup as group:
            if (error := only_error(group)) is not None:
                raise error from group
            raise


class _Api:
    def __init__(self, bus: Bus, given: Settings, clock: Clock) -> None:
        self.bus = bus
        self.given = given
        self.store = Store(bus)
        self.live = Live(bus, self.store)
        self.writer = Writer(self.live, self.store, clock)
        self.emitter = Emitter(bus, reporter="api", now=clock.rfc3339)
        self.ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.manifests = Manifests(bus, self.live, self.store, Applier(self.writer), self.emitter)

    async def run(self, on_ready: Callable[[], Any] | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.live.follow(), name="watch")
            await self.live.ready()
            cluster = await clusters.found(
                self.live,
                self.store,
                self.writer.clock,
                cluster_cidr=self.given.cluster_cidr,
                node_mask=self.given.node_mask,
            )
            tasks.create_task(self._lead(), name="manifests")
            await self._serve(cluster, on_ready)

    async def _lead(self) -> None:
        lease = Lease(self.bus, self.store, GROUP, holder=holder_name())
        await self.manifests.lead(lease)

    async def _serve(self, cluster: clusters.Cluster, on_ready: Callable[[], Any] | None) -> None:
        names = self.bus.names
        nodes = Nodes(self.bus, self.live, self.writer, cluster, self.emitter)
        from_nodes = {
            names.from_nodes("register"): nodes.register,
            names.from_nodes("status"): nodes.status,
            names.watch_all: nodes.watch,
        }
        subscriptions = [
            await answer(self.bus, subject, guarded(handler), queue=QUEUE, limit=NODES_AT_ONCE)
            for subject, handler in from_nodes.items()
        ]
        try:
            async with MicroService(
                self.bus, SERVICE, version=VERSION, queue=QUEUE, description="Shoal's api"
            ) as service:
                for verb, handler in self._verbs().items():
                    await service.add(verb, names.api_endpoint(verb), guarded(handler), limit=PEOPLE_AT_ONCE)
                await self.live.newest()  # its answer comes after the server has read all these subscriptions
                log.info("ready", revision=self.live.revision, cluster=cluster.uid)
                if on_ready is not None:
                    on_ready()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self.ending.set_result(None)
        finally:
            for subscription in subscriptions:
                await subscription.stop()

    def _verbs(self) -> dict[str, Handler]:
        room = min(REPLY_BYTES_MAX, self.bus.nc.max_payload - REPLY_OVERHEAD)
        verbs = Verbs(self.live, self.writer, room)
        events = Events(self.bus, self.store, room)
        sessions = Sessions(self.bus, self.live)
        return {
            "apply": verbs.apply,
            "create": verbs.create,
            "get": _by_resource(events.get, verbs.get),
            "list": _by_resource(events.list_, verbs.list_),
            "watch": _cut_short(_by_resource(events.watch, verbs.watch), self.ending, _nothing_since),
            "patch": verbs.patch,
            "delete": verbs.delete,
            "scale": verbs.scale,
            "events": events.events,
            "logs": sessions.logs,
            "exec": sessions.exec,
            "attach": sessions.attach,
            "session": _cut_short(sessions.session, self.ending, _ask_again),
        }


def _cut_short(
    handler: Handler, ending: "asyncio.Future[None]", last_word: Callable[[Request], msgspec.Struct | None]
) -> Handler:
    """What still waits when the api stops is answered with its last word; where that is None it is waited for. Its asker,
    if it is still there, asks again, another api or this one's successor.
    """

    async def until_the_end(request: Request) -> msgspec.Struct | bytes:
        work: asyncio.Future[Any] = asyncio.ensure_future(handler(request))
        first: set[asyncio.Future[Any]] = {work, ending}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            answer = None if work.done() else last_word(request)
            return answer if answer is not None else await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return until_the_end


def _nothing_since(request: Request) -> WatchReply | None:
    """Nothing after the revision that the watch knows; one that knows none has its list to come."""
    asked: WatchRequest = decode(request, WatchRequest)
    return WatchReply(revision=asked.since) if asked.since else None


def _ask_again(_: Request) -> None:
    """The node keeps its answer to a pull until the next number is asked for: the same one again loses nothing of it,
    where an empty answer would let the node forget what it says meanwhile.

    Raises: Unavailable.
    """
    raise Unavailable("this api stops: ask again")


def _by_resource(events: Handler, objects: Handler) -> Handler:
    """Events are read from a stream of their own."""

    async def either(request: Request) -> msgspec.Struct | bytes:
        try:
            of_events = by_resource(request.resource) is EVENTS
        except ShoalError:
            of_events = False  # the other one says what is wrong
        return await (events if of_events else objects)(request)

    return either
