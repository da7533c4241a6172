"""What a request to delete does: erase now, mark for later, or nothing. Pure.

Kubernetes' rules (pkg/registry: rest/delete.go, generic/registry/store.go, core/pod/strategy.go). An object goes at once
unless something must happen first: finalizers, its dependents (Foreground, Orphan), its contents (a namespace), its
containers (a bound pod). Then it is marked with a deletionTimestamp, and the replica-controller removes it when that has
happened.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace as changed

from shoal.errors import Conflict, Forbidden, Invalid
from shoal.model.meta import Object, ObjectMeta
from shoal.model.registry import kind_of_object
from shoal.wire import DeleteRequest

FOREGROUND, ORPHAN, BACKGROUND = "Foreground", "Orphan", "Background"
FINALIZER_FOREGROUND, FINALIZER_ORPHAN = "foregroundDeletion", "orphan"
KEPT_NAMESPACES = ("default",)


class Erase(msgspec.Struct, frozen=True):
    """Remove the entries now. `object` is what the reply shows."""

    object: Object


class Mark(msgspec.Struct, frozen=True):
    """Store this instead: it carries the deletionTimestamp. Equal to the live one if nothing changes by the request."""

    object: Object


def decide(live: Object, request: DeleteRequest, *, now: str) -> Erase | Mark:
    """`live` with its status. Raises: Conflict (a precondition), Invalid, Forbidden."""
    meta = live.metadata
    if request.uid and request.uid != meta.uid:
        raise Conflict(f"the object with uid {request.uid} is gone: {meta.name} has uid {meta.uid} now")
    if request.resource_version and request.resource_version != meta.resource_version:
        raise Conflict(f"revision {request.resource_version} was to be deleted; it is {meta.resource_version} now")
    if (grace := request.grace_period_seconds) is not None and grace < 0:
        raise Invalid("a grace period is 0 or more seconds", path="gracePeriodSeconds")
    resource = kind_of_object(live).resource
    if resource == "namespaces" and meta.name in KEPT_NAMESPACES:
        raise Forbidden(f"the namespace {meta.name} may not be deleted")
    finalizers = _finalizers(meta, request.propagation_policy)
    if resource == "pods":
        return _pod(live, request, finalizers, now)
    marked = _marked(live, finalizers, 0, now)
    # Two-phase: somebody must act first, and whoever that is takes its finalizer away.
    return Mark(marked) if finalizers or resource == "namespaces" else Erase(marked)


def _pod(pod: Any, request: DeleteRequest, finalizers: tuple[str, ...], now: str) -> Erase | Mark:
    bound = bool(pod.spec.node_name)
    forced = request.force and request.grace_period_seconds == 0
    if not finalizers and (forced or not bound):
        return Erase(_marked(pod, finalizers, 0, now))
    return Mark(_marked(pod, finalizers, _grace(pod, request.grace_period_seconds), now))


def _grace(pod: Any, asked: int | None) -> int:
    if not pod.spec.node_name or pod.status.phase in ("Succeeded", "Failed"):
        return 0  # nothing runs that would need the time
    if asked is None and (running := pod.metadata.deletion_grace_period_seconds) is not None:
        return int(running)
    own = pod.spec.termination_grace_period_seconds
    seconds = asked if asked is not None else (30 if own is None else own)
    return max(int(seconds), 0)


def _finalizers(meta: ObjectMeta, policy: str) -> tuple[str, ...]:
    if policy not in (BACKGROUND, FOREGROUND, ORPHAN):
        raise Invalid(
            f"{policy[:40]!r} is no propagation policy, expected {BACKGROUND}, {FOREGROUND} or {ORPHAN}",
            path="propagationPolicy",
        )
    kept = tuple(f for f in meta.finalizers if f not in (FINALIZER_FOREGROUND, FINALIZER_ORPHAN))
    own = {FOREGROUND: (FINALIZER_FOREGROUND,), ORPHAN: (FINALIZER_ORPHAN,)}.get(policy, ())
    return kept + own


def _marked(live: Object, finalizers: tuple[str, ...], grace: int, now: str) -> Object:
    """The live object with its end. A grace period that is running can be shortened, never lengthened; how the
    dependents fare can still be changed.
    """
    meta = live.metadata
    timestamp, seconds, generation = meta.deletion_timestamp, meta.deletion_grace_period_seconds, meta.generation
    if timestamp is None:
        timestamp, seconds = _later(now, grace), grace
        generation += 1 if generation else 0  # what has a spec: its end is wanted now
    elif grace < (seconds or 0):
        timestamp, seconds = _later(timestamp, grace - (seconds or 0)), grace
    made = changed(
        meta,
        finalizers=finalizers,
        deletion_timestamp=timestamp,
        deletion_grace_period_seconds=seconds or 0,
        generation=generation,
    )
    return live if made == meta else changed(live, metadata=made)


def _later(timestamp: str, seconds: int) -> str:
    at = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (at + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
