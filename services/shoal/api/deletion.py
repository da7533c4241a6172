"""What a request to delete does: erase now, mark for later, or nothing. Pure.

Kubernetes' rules (pkg/registry: rest/delete.go, generic/registry/store.go, core/pod/strategy.go). An object goes at once
unless something must happen first: finalizers, its dependents (Foreground, Orphan), its contents (a namespace), its
containers (a bound pod). Then it is marked with a deletionTimestamp, and the replica-controller removes it when that has
happened.
"""

from typing import Any

import msgspec

from shoal.controller.actions import grace_s, marked
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
    made = marked(live, finalizers, 0, now)
    # Two-phase: somebody must act first, and whoever that is takes its finalizer away.
    return Mark(made) if finalizers or resource == "namespaces" else Erase(made)


def _pod(pod: Any, request: DeleteRequest, finalizers: tuple[str, ...], now: str) -> Erase | Mark:
    bound = bool(pod.spec.node_name)
    forced = request.force and request.grace_period_seconds == 0
    if not finalizers and (forced or not bound):
        return Erase(marked(pod, finalizers, 0, now))
    return Mark(marked(pod, finalizers, grace_s(pod, request.grace_period_seconds), now))


def _finalizers(meta: ObjectMeta, policy: str) -> tuple[str, ...]:
    if policy not in (BACKGROUND, FOREGROUND, ORPHAN):
        raise Invalid(
            f"{policy[:40]!r} is no propagation policy, expected {BACKGROUND}, {FOREGROUND} or {ORPHAN}",
            path="propagationPolicy",
        )
    kept = tuple(f for f in meta.finalizers if f not in (FINALIZER_FOREGROUND, FINALIZER_ORPHAN))
    own = {FOREGROUND: (FINALIZER_FOREGROUND,), ORPHAN: (FINALIZER_ORPHAN,)}.get(policy, ())
    return kept + own
