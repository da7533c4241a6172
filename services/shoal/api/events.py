"""Reading events: `events`, and `get`, `list`, `watch` on the resource `events`.

Events live in a stream of their own, so their revisions are that stream's: they are another type, and nobody compares
the two. Nothing is kept of them here: a list reads the stream; a watch reads it when an event passes by.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from shoal.api import present
from shoal.api.history import ADDED, MODIFIED
from shoal.api.paging import page, read_token
from shoal.api.verbs import WATCH_WAIT_MAX_S, list_reply, revision_of
from shoal.bus.connection import Bus, Message
from shoal.bus.rpc import Request, decode
from shoal.errors import NotFound
from shoal.model.event import Event
from shoal.model.registry import by_resource
from shoal.model.selectors import field_matches, matches
from shoal.names import ObjectKey
from shoal.store.events import DEFAULT_NAMESPACE
from shoal.store.records import Entry
from shoal.store.store import Store
from shoal.wire import EventsRequest, GetRequest, ListReply, ListRequest, WatchEvent, WatchReply, WatchRequest

EVENTS = by_resource("events")
GATHER_S = 0.05  # what is told together is read once
LOOK_EVERY_S = 0.5  # what passes by is stored a moment later, or passed by just before we listened


class Events:
    def __init__(self, bus: Bus, store: Store, reply_bytes_max: int) -> None:
        self._bus = bus
        self._store = store
        self._reply_bytes_max = reply_bytes_max

    async def events(self, request: Request) -> ListReply:
        """Of one object, or of a namespace, oldest first."""
        asked: EventsRequest = decode(request, EventsRequest)
        filters = self._filters(request.namespace)
        if asked.resource and asked.name:
            kind = by_resource(asked.resource)
            namespace = (request.namespace or DEFAULT_NAMESPACE) if kind.namespaced else ""
            filters = [self._bus.names.events_of(ObjectKey(kind.resource, namespace, asked.name))]
        entries, revision = await self._store.events(*filters)
        found = [(e, event) for e, event in _decoded(entries) if self._about(event, asked)]
        return self._reply(found, asked.limit, asked.continue_, revision)

    def _about(self, event: Event, asked: EventsRequest) -> bool:
        of = event.involved_object
        if asked.uid and of.uid and of.uid != asked.uid:
            return False
        if asked.name and of.name != asked.name:
            return False
        return not asked.resource or of.kind == by_resource(asked.resource).kind

    async def list_(self, request: Request) -> ListReply:
        asked: ListRequest = decode(request, ListRequest)
        wanted = self._selection(request, "", asked.label_selector, asked.field_selector)
        entries, revision = await self._store.events(*self._filters(request.namespace))
        found = [(e, event) for e, event in _decoded(entries) if _selects(wanted, event)]
        return self._reply(found, asked.limit, asked.continue_, revision)

    async def get(self, request: Request) -> bytes:
        asked: GetRequest = decode(request, GetRequest)
        entries, _ = await self._store.events(*self._filters(request.namespace or DEFAULT_NAMESPACE))
        for _, event in _decoded(entries):
            if event.metadata.name == asked.name:
                return msgspec.json.encode(event)
        raise NotFound(f'events "{asked.name}" not found')

    async def watch(self, request: Request) -> WatchReply:
        asked: WatchRequest = decode(request, WatchRequest)
        wanted = self._selection(request, asked.name, asked.label_selector, asked.field_selector)
        filters = self._filters(request.namespace)
        passed = asyncio.Event()

        async def passes(_: Message) -> None:
            passed.set()

        subscriptions = [await self._bus.subscribe(f, passes) for f in filters]
        try:
            return await self._watch(asked, wanted, filters, passed)
        finally:
            for subscription in subscriptions:
                await subscription.stop()

    async def _watch(
        self, asked: WatchRequest, wanted: present.Selection, filters: Sequence[str], passed: asyncio.Event
    ) -> WatchReply:
        revision = await self._store.last_event()
        if not asked.since:
            return WatchReply(revision=str(revision))
        since = revision_of(asked.since)
        entries: Sequence[Entry] = ()
        if revision > since:
            entries, revision = await self._store.events(*filters)
        until = asyncio.get_running_loop().time() + max(0.0, min(asked.wait_seconds, WATCH_WAIT_MAX_S))
        while True:
            found = [
                WatchEvent(type=ADDED if event.count <= 1 else MODIFIED, object=msgspec.Raw(msgspec.json.encode(event)))
                for entry, event in _decoded(entries)
                if entry.revision > since and _selects(wanted, event)
            ]
            left = until - asyncio.get_running_loop().time()
            if found or left <= 0:
                return WatchReply(revision=str(max(revision, since)), events=found)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_EVERY_S)):
                    await passed.wait()
                    passed.clear()
                    await asyncio.sleep(GATHER_S)
            if await self._store.last_event() > revision:
                entries, revision = await self._store.events(*filters)

    def _filters(self, namespace: str) -> list[str]:
        """Events of objects without a namespace are listed in `default`, where Kubernetes keeps them."""
        names = self._bus.names
        if not namespace:
            return [names.events_in(None)]
        if namespace == DEFAULT_NAMESPACE:
            return [names.events_in(namespace), names.events_in("")]
        return [names.events_in(namespace)]

    def _selection(self, request: Request, name: str, labels: str, fields: str) -> present.Selection:
        return present.selection(EVENTS, request.namespace, name, labels, fields)

    def _reply(self, found: Sequence[tuple[Entry, Event]], limit: int, token_text: str, revision: int) -> ListReply:
        token = read_token(token_text)
        bodies = (
            (f"{entry.revision:020d}", msgspec.json.encode(event))
            for entry, event in found
            if token is None or f"{entry.revision:020d}" > token.after
        )
        return list_reply(EVENTS, page(bodies, limit, self._reply_bytes_max), token, revision)


def _decoded(entries: Iterable[Entry]) -> list[tuple[Entry, Event]]:
    """With their revision. What is no event is left out: the stream is not ours alone to fill for ever."""
    found = []
    for entry in entries:
        try:
            event = msgspec.json.decode(entry.value or b"", type=Event)
        except msgspec.MsgspecError:
            continue
        metadata = msgspec.structs.replace(event.metadata, resource_version=str(entry.revision))
        found.append((entry, msgspec.structs.replace(event, metadata=metadata)))
    return found


def _selects(wanted: present.Selection, event: Event) -> bool:
    return (
        wanted.namespace in ("", event.metadata.namespace)
        and wanted.name in ("", event.metadata.name)
        and matches(wanted.labels, event.metadata.labels)
        and field_matches(wanted.fields, event)
    )
