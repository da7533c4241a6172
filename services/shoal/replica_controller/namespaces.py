"""Namespaces: what is in one that is being deleted goes first, then the finalizer `kubernetes`, then (removal) itself."""

from collections.abc import Iterable

import msgspec

from shoal.controller.actions import NOTHING, Action, Decision, Empty, Replace, SetStatus, mark_deleted
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.names import CONTROL_PLANE, DESIRED_ALL, ObjectKey, desired_in, observed_by
from shoal.store.view import PODS, Stored, View

NAMESPACES = "namespaces"
FINALIZER = "kubernetes"
ACTIVE, TERMINATING = "Active", "Terminating"
DELETE_MAX = 200  # objects a unit


class Namespaces:
    name = "namespaces"
    reporter = "namespace-controller"
    filters = (DESIRED_ALL, observed_by(CONTROL_PLANE, "namespaces"))

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        if touched.resource == NAMESPACES:
            return [touched]
        if not touched.namespace:
            return []
        namespace = view.get(ObjectKey(NAMESPACES, "", touched.namespace))
        return [namespace.key] if namespace is not None and namespace.deleting else []

    def decide(self, key: ObjectKey, view: View, now: float) -> Decision:
        stored = view.get(key, Namespace)
        if stored is None:
            return NOTHING
        if not stored.deleting:
            return Decision(_tell(stored, ACTIVE))
        contents = view.keys_in(key.name)
        if contents:
            # Pods last: what makes pods must be marked before them, or makes them anew.
            ordered = sorted(contents, key=lambda k: (k.resource == PODS, k))
            left = [s for k in ordered if (s := view.get(k)) is not None and not s.deleting]
            return Decision((*(mark_deleted(s, now) for s in left[:DELETE_MAX]), *_tell(stored, TERMINATING)))
        if FINALIZER not in stored.object.spec.finalizers:
            return NOTHING
        return Decision((_without_finalizer(stored),), confirm=(Empty(desired_in(key.name)),))


def _tell(stored: Stored[Namespace], phase: str) -> tuple[Action, ...]:
    if stored.object.status.phase == phase:
        return ()
    status: NamespaceStatus = msgspec.structs.replace(stored.object.status, phase=phase)
    return (SetStatus(stored, status),)


def _without_finalizer(stored: Stored[Namespace]) -> Replace:
    spec = stored.object.spec
    kept = tuple(f for f in spec.finalizers if f != FINALIZER)
    return Replace(stored, msgspec.structs.replace(stored.object, spec=msgspec.structs.replace(spec, finalizers=kept)))
