"""What people ask of objects: `shoal.api.<user>.<verb>.<resource>.<ns or _>`. One method a verb.

Reads are of the newest state: whoever wrote through any api sees it here. A namespace in the subject narrows, `_` is all
of them for lists and watches, and `default` for a single object of a kind that lives in namespaces.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.api import admission, deletion, present
from shoal.api.documents import DEFAULT_NAMESPACE, Applier, Refusal, check_namespace, fit, read, unreadable
from shoal.api.guard import is_token
from shoal.api.history import type_for
from shoal.api.live import Live
from shoal.api.paging import Page, page, read_token, write_token
from shoal.api.writing import Plan, Writer, erasure, kind_named, put, tell_applied
from shoal.bus.rpc import Request, decode
from shoal.errors import AlreadyExists, BadRequest, Conflict, Expired, NotFound, to_status
from shoal.model.manifest import decode_input
from shoal.model.meta import Object
from shoal.model.registry import Kind, key_of
from shoal.names import CONTROL_PLANE, ObjectKey, observed
from shoal.store.records import Put
from shoal.store.stored import Observed, Stored, decode_observed
from shoal.telemetry.trace import span
from shoal.wire import (
    ApplyReply,
    ApplyRequest,
    CreateRequest,
    DeleteRequest,
    GetRequest,
    ListReply,
    ListRequest,
    PatchRequest,
    ScaleRequest,
    WatchEvent,
    WatchReply,
    WatchRequest,
)

WATCH_WAIT_MAX_S = 10.0
GENERATED_NAME_TRIES = 8
PATCH_SUBRESOURCES = ("", "scale", "status")


class Verbs:
    """`reply_bytes_max`: what fits one message."""

    def __init__(self, live: Live, writer: Writer, reply_bytes_max: int) -> None:
        self._live = live
        self._writer = writer
        self._applier = Applier(writer)
        self._reply_bytes_max = reply_bytes_max

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, request: Request) -> bytes:
        asked: GetRequest = decode(request, GetRequest)
        key = object_key(kind_named(request.resource), request.namespace, asked.name)
        await self._live.newest()
        return present.body(self.find(key))

    def find(self, key: ObjectKey) -> Stored[Object]:
        """Raises: NotFound; ShoalError for a record that cannot be read."""
        stored = self._live.view.get(key)
        if stored is not None:
            return stored
        if self._live.view.desired_entry(key) is not None:
            raise unreadable(key, self._live.view)
        raise NotFound(f'{key.resource} "{key.name}" not found')

    async def list_(self, request: Request) -> ListReply:
        asked: ListRequest = decode(request, ListRequest)
        kind = kind_named(request.resource)
        wanted = present.selection(kind, request.namespace, labels=asked.label_selector, fields=asked.field_selector)
        token = read_token(asked.continue_)
        await self._live.newest()
        if token is not None:
            self._live.history.check(token.revision)  # or else a watch from there would miss something
        view = self._live.view
        keys = sorted(view.keys(kind.resource, wanted.namespace or None))
        bodies = (
            (str(key), present.body(stored))
            for key in keys
            if (token is None or str(key) > token.after)
            and (stored := view.get(key)) is not None
            and wanted.selects_object(stored)
        )
        return list_reply(kind, page(bodies, asked.limit, self._reply_bytes_max), token, self._live.revision)

    async def watch(self, request: Request) -> WatchReply:
        asked: WatchRequest = decode(request, WatchRequest)
        kind = kind_named(request.resource)
        wanted = present.selection(kind, request.namespace, asked.name, asked.label_selector, asked.field_selector)
        until = time.monotonic() + max(0.0, min(asked.wait_seconds, WATCH_WAIT_MAX_S))
        if not asked.since:
            await self._live.newest()
            return WatchReply(revision=str(self._live.history.last))
        since = revision_of(asked.since)
        if since > self._live.history.last:
            await self._catch_up(since)
        while True:
            events, reached = self._events(wanted, since)
            left = until - time.monotonic()
            if events or left <= 0:
                return WatchReply(revision=str(max(reached, since)), events=events)
            since = max(reached, since)
            try:
                async with asyncio.timeout(left):
                    await self._live.move()
            except TimeoutError:
                continue

    async def _catch_up(self, revision: int) -> None:
        """Raises: Expired for a revision that the store has not reached: it is of another history."""
        await self._live.newest()
        if revision > self._live.history.last and revision > (newest := await self._writer.store.last_revision()):
            raise Expired(f"revision {revision} is not reached yet, the newest is {newest}: list again")

    def _events(self, wanted: present.Selection, since: int) -> tuple[list[WatchEvent], int]:
        """What to tell, as much as fits one reply, and up to which revision that is everything."""
        events: list[WatchEvent] = []
        size, reached = 0, since
        for change in self._live.history.since(since):
            if wanted.takes(change.key) and (told := type_for(change, wanted.selects)):
                size += len(change.body) + 64
                if events and size > self._reply_bytes_max and change.revision > reached:
                    return events, reached
                events.append(WatchEvent(type=told, object=msgspec.Raw(change.body)))
            reached = change.revision
        return events, max(reached, self._live.history.last)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def apply(self, request: Request) -> ApplyReply:
        asked: ApplyRequest = decode(request, ApplyRequest)
        try:
            documents = await read(
                asked.manifest,
                request.namespace,
                wanted=asked.namespace,
                source=asked.source,
                ignore_unknown=asked.ignore_unknown,
            )
            reply = await self._applier.apply(documents, dry_run=asked.dry_run, traceparent=request.traceparent)
            if not asked.dry_run:
                tell_applied(reply)
            return fit(reply, self._reply_bytes_max)
        except Refusal as refusal:
            return ApplyReply(error=to_status(refusal.error))

    async def create(self, request: Request) -> bytes:
        asked: CreateRequest = decode(request, CreateRequest)
        kind = kind_named(request.resource)
        given = decode_input(kind, asked.object, namespace=request.namespace)
        clock = self._writer.clock
        with span("admit", parent=request.traceparent) as admit:
            for tries_left in range(GENERATED_NAME_TRIES, 0, -1):
                obj = admission.create(given, uid=clock.uid(), now=clock.rfc3339(), suffix=clock.suffix())
                try:
                    return await self._write(
                        key_of(obj),
                        lambda key, obj=obj: self._plan_create(key, obj),
                        asked.dry_run,
                        admit.traceparent,
                    )
                except AlreadyExists:
                    if given.metadata.name or tries_left == 1:
                        raise
        raise AssertionError("the loop above returns or raises")

    def _plan_create(self, key: ObjectKey, obj: Object) -> Plan:
        if self._live.view.get(key) is not None or self._live.view.desired_entry(key) is not None:
            raise AlreadyExists(f'{key.resource} "{key.name}" already exists')
        check_namespace(key.namespace, self._live.view, {}, creating=True)
        return Plan(obj, (put(key, obj, None),))

    async def patch(self, request: Request) -> bytes:
        asked: PatchRequest = decode(request, PatchRequest)
        kind = kind_named(request.resource)
        if asked.subresource not in PATCH_SUBRESOURCES:
            raise BadRequest(f"{kind.resource} have no subresource {asked.subresource[:40]!r}", path="subresource")

        def plan(key: ObjectKey) -> Plan:
            stored = self.find(key)
            if asked.subresource == "status":
                _check_seen(asked, stored, since=stored.version)
                return self._plan_status(kind, stored, asked)
            _check_seen(asked, stored, since=stored.revision)
            change: Mapping[str, Any] = asked.patch
            if asked.subresource == "scale":
                change = {"spec": {"replicas": (asked.patch.get("spec") or {}).get("replicas")}}
            return self._plan_update(stored, admission.patch(kind, stored.object, change))

        return await self._admitted(request, kind, asked.name, plan, asked.dry_run)

    async def scale(self, request: Request) -> bytes:
        asked: ScaleRequest = decode(request, ScaleRequest)
        kind = kind_named(request.resource)

        def plan(key: ObjectKey) -> Plan:
            stored = self.find(key)
            return self._plan_update(
                stored, admission.scale(kind, stored.object, asked.replicas, asked.current_replicas)
            )

        return await self._admitted(request, kind, asked.name, plan, asked.dry_run)

    async def delete(self, request: Request) -> bytes:
        asked: DeleteRequest = decode(request, DeleteRequest)
        kind = kind_named(request.resource)
        now = self._writer.clock.rfc3339()

        def plan(key: ObjectKey) -> Plan:
            stored = self.find(key)
            match deletion.decide(stored.object, asked, now=now):
                case deletion.Erase(object=obj):
                    return Plan(obj, erasure(stored, self._live.view, now))
                case deletion.Mark(object=obj):
                    return self._plan_update(stored, obj)

        return await self._admitted(request, kind, asked.name, plan, asked.dry_run)

    # --- how a write goes ----------------------------------------------------------------------------------------------

    def _plan_update(self, stored: Stored[Object], new: Object) -> Plan:
        status: Any = getattr(stored.object, "status", None)
        version = stored.object.metadata.resource_version
        shown = msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, resource_version=version))
        if status is not None:
            shown = msgspec.structs.replace(shown, status=status)
        if admission.same(stored.object, new):
            return Plan(shown)
        return Plan(shown, (put(stored.key, new, stored),))

    def _plan_status(self, kind: Kind, stored: Stored[Object], asked: PatchRequest) -> Plan:
        """The control plane's own observed entry; what a node reports stays the node's."""
        entry = self._live.view.observed_entries(stored.key).get(CONTROL_PLANE)
        known = Observed(uid=stored.uid)
        if entry is not None and entry.value and (found := decode_observed(entry.value)).uid == stored.uid:
            known = found
        own = msgspec.json.decode(known.status)
        status = admission.patch_status(kind, own, asked.patch)
        shown = msgspec.structs.replace(stored.object, status=msgspec.convert(status, kind.status_type))
        if status == own:
            return Plan(stored.object)
        record = msgspec.structs.replace(known, status=msgspec.Raw(msgspec.json.encode(status, order="sorted")))
        name = observed(CONTROL_PLANE, stored.key)
        return Plan(shown, (Put(name, msgspec.json.encode(record), entry.revision if entry else 0),))

    async def _admitted(
        self,
        request: Request,
        kind: Kind,
        name: str,
        plan: Any,
        dry_run: bool,
    ) -> bytes:
        key = object_key(kind, request.namespace, name)
        with span("admit", parent=request.traceparent, key=str(key)) as admit:
            return await self._write(key, plan, dry_run, admit.traceparent)

    async def _write(self, key: ObjectKey, plan: Any, dry_run: bool, traceparent: str) -> bytes:
        with span("write", parent=traceparent, key=str(key)) as writing:

            def decide() -> Plan:
                made = plan(key)
                traced = tuple(msgspec.structs.replace(c, traceparent=writing.traceparent) for c in made.changes)
                return Plan(made.object, traced)

            obj, revision = await self._writer.write(decide, dry_run=dry_run)
            writing.set(revision=revision)
            return present.body_of(key.resource, obj, revision)


# --- small words ----------------------------------------------------------------------------------------------------------


def object_key(kind: Kind, namespace: str, name: str) -> ObjectKey:
    """Raises: BadRequest for a name that can be none."""
    if not name or "/" in name or not is_token(name):
        raise BadRequest(f"{name[:253]!r} is no name", path="name")
    return ObjectKey(kind.resource, (namespace or DEFAULT_NAMESPACE) if kind.namespaced else "", name)


def revision_of(text: str) -> int:
    """Raises: BadRequest for what is no resourceVersion."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise BadRequest(f"{text[:40]!r} is no resourceVersion", path="resourceVersion")
    return int(text)


def _check_seen(asked: PatchRequest, stored: Stored[Object], *, since: int) -> None:
    """The revision that the request, or the metadata in its patch, says to have seen.

    Raises: Conflict where what is to be patched changed after it (`since`), or where it is yet to come.
    """
    meta = asked.patch.get("metadata")
    for said in (asked.resource_version, meta.get("resourceVersion") if isinstance(meta, Mapping) else ""):
        if said and not since <= revision_of(str(said)) <= stored.version:
            raise Conflict(
                f"{stored.key} was seen at revision {said}; it is {stored.version} now: read it again",
                path="metadata.resourceVersion",
            )


def list_reply(kind: Kind, found: Page, token: Any, revision: int) -> ListReply:
    """Every page carries the revision of the first."""
    first = token.revision if token is not None else revision
    metadata = {"resourceVersion": str(first)}
    if found.more:
        metadata["continue"] = write_token(first, found.last)
    return ListReply(
        kind=f"{kind.kind}List",
        api_version=kind.api_version,
        metadata=metadata,
        items=[msgspec.Raw(b) for b in found.bodies],
    )
