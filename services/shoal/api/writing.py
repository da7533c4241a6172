"""Writes by the api: decided on the view, committed by compare-and-set, decided again when somebody else was first."""

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from shoal import clock
from shoal.api import registration
from shoal.api.live import Live
from shoal.controller.actions import Remove, changes, rfc3339
from shoal.errors import Conflict, Invalid
from shoal.model.meta import Object
from shoal.model.node import RANGE_RESTS_S
from shoal.model.registry import Kind, by_resource, encode, key_of
from shoal.names import NODES, ObjectKey, claim, desired
from shoal.store.records import Change, Put
from shoal.store.store import Store
from shoal.store.stored import Stored
from shoal.store.view import View
from shoal.telemetry.logs import tell_written
from shoal.wire import ApplyReply

TRIES = 12
WRITTEN = ("created", "configured")  # results of an apply


class Clock(msgspec.Struct, frozen=True):
    """Where time and chance come from; tests hand in their own."""

    now: Callable[[], float] = clock.now
    uid: Callable[[], str] = lambda: str(uuid.uuid4())
    suffix: Callable[[], str] = lambda: "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))

    def rfc3339(self) -> str:
        return rfc3339(self.now())


class Plan(msgspec.Struct, frozen=True):
    """`changes` () = nothing to write. `object`: what the reply shows, with the status it has."""

    object: Object
    changes: tuple[Change, ...] = ()


class Writer:
    def __init__(self, live: Live, store: Store, clock: Clock) -> None:
        self.live = live
        self.store = store
        self.clock = clock

    async def write(self, decide: Callable[[], Plan], *, dry_run: bool = False) -> tuple[Object, int]:
        """Carry out what `decide` says of the newest view. The object and its revision (0 = it is not stored).

        Raises: what `decide` raises; Conflict if others were first too often; Unavailable.
        """
        await self.live.newest()
        conflict = Conflict("")
        for attempt in range(TRIES):
            plan = decide()
            if dry_run or not plan.changes:
                return plan.object, int(plan.object.metadata.resource_version or 0)
            try:
                revisions = await self.store.commit(plan.changes)
            except Conflict as error:
                conflict = error
                await self.again(attempt)
                continue
            keys, wish = [c.key for c in plan.changes], plan.changes[0].traceparent
            tell_written("api.written", keys, key=str(key_of(plan.object)), revision=revisions[-1], traceparent=wish)
            await self.live.reached(revisions[-1])
            return plan.object, revisions[-1]
        raise Conflict(f"it changes faster than it can be written: {conflict.message}", key=conflict.key)

    async def again(self, attempt: int) -> None:
        """After a conflict: what was in the way is in the view when this returns."""
        await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 6)))
        await self.live.newest()


def tell_applied(reply: ApplyReply) -> None:
    """The line of what an apply wrote, once it is done."""
    written = [r for r in reply.results if r.result in WRITTEN]
    if not written:
        return
    keys = [desired(ObjectKey(r.resource, r.namespace, r.name)) for r in written]
    newest = max(r.revision for r in written)
    first = written[0]
    key = str(ObjectKey(first.resource, first.namespace, first.name))
    tell_written("api.written", keys, key=key, revision=newest, traceparent=reply.traceparent)


def put(key: ObjectKey, obj: Object, stored: Stored[Any] | None, traceparent: str = "") -> Put:
    return Put(desired(key), encode(obj), stored.revision if stored is not None else 0, traceparent)


def erasure(stored: Stored[Any], view: View, now: str) -> tuple[Change, ...]:
    """All entries of an object, the desired one first. A node's pod range goes to rest."""
    gone = changes([Remove(stored.key)], view)
    if stored.key.resource == NODES and (cidr := stored.object.spec.pod_cidr):
        gone += rest(cidr, stored.key.name, view, now)
    return tuple(gone)


def rest(cidr: str, node: str, view: View, now: str) -> list[Change]:
    """A freed range is claimed by nobody for an hour; then the claim is gone by itself."""
    name = claim(registration.CLAIM_SPACE, cidr)
    entry = view.entry(name)
    if entry is None:
        return []
    value = msgspec.json.encode({"node": node, "freed": now})
    return [Put(name, value, entry.revision, ttl_s=RANGE_RESTS_S)]


def kind_named(resource: str) -> Kind:
    """From a subject's token. Raises: Invalid with the nearest known name."""
    if not resource:
        raise Invalid("the subject names no resource")
    return by_resource(resource)
