"""Namespaces: what is in one that is being deleted goes first, then the finalizer `kubernetes`, then (removal) itself."""

from collections.abc import Iterable, Mapping

import msgspec

from shoal.controller.actions import NOTHING, Action, Decision, Empty, Replace, SetStatus, mark_deleted, rfc3339
from shoal.model.meta import Condition
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.names import CONTROL_PLANE, DESIRED_ALL, PODS, ObjectKey, desired_in, observed_by
from shoal.store.stored import Stored
from shoal.store.view import View

NAMESPACES = "namespaces"
FINALIZER = "kubernetes"
ACTIVE, TERMINATING = "Active", "Terminating"
DELETE_MAX = 200  # objects a unit
CONTENT_FAILURE = "NamespaceDeletionContentFailure"
NAMED_MAX = 3


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
            return Decision(_tell(stored, ACTIVE, stored.object.status.conditions))
        contents = view.keys_in(key.name)
        if contents:
            # Pods last: what makes pods must be marked before them, or makes them anew.
            ordered = sorted(contents, key=lambda k: (k.resource == PODS, k))
            left = [s for k in ordered if (s := view.get(k)) is not None and not s.deleting]
            stuck = {k: view.unreadable.get(k, "") for k in contents if view.get(k) is None}
            told = _tell(stored, TERMINATING, _conditions(stored.object.status.conditions, stuck, now))
            return Decision((*(mark_deleted(s, now) for s in left[:DELETE_MAX]), *told))
        if FINALIZER not in stored.object.spec.finalizers:
            return NOTHING
        return Decision((_without_finalizer(stored),), confirm=(Empty(desired_in(key.name)),))


def _conditions(known: tuple[Condition, ...], stuck: Mapping[ObjectKey, str], now: float) -> tuple[Condition, ...]:
    """With what is in the way of the deletion, in Kubernetes' words; nothing is said of what never was."""
    before = next((c for c in known if c.type == CONTENT_FAILURE), None)
    if before is None and not stuck:
        return known
    status = "True" if stuck else "False"
    moved = before.last_transition_time if before is not None and before.status == status else rfc3339(now)
    condition = Condition(
        type=CONTENT_FAILURE,
        status=status,
        reason="ContentDeletionFailed" if stuck else "ContentDeleted",
        message=_sentence(stuck) if stuck else "All content successfully deleted, may be waiting on finalization",
        last_transition_time=moved,
    )
    return (*(c for c in known if c.type != CONTENT_FAILURE), condition)


def _sentence(stuck: Mapping[ObjectKey, str]) -> str:
    named = [f"{key.resource} {key.name}" + (f" ({why})" if why else "") for key, why in sorted(stuck.items())]
    more = [f"and {len(named) - NAMED_MAX} more"] if len(named) > NAMED_MAX else []
    return f"stored in a form that this version cannot read: {', '.join([*named[:NAMED_MAX], *more])}"


def _tell(stored: Stored[Namespace], phase: str, conditions: tuple[Condition, ...]) -> tuple[Action, ...]:
    known = stored.object.status
    status: NamespaceStatus = msgspec.structs.replace(known, phase=phase, conditions=conditions)
    return (SetStatus(stored, status),) if status != known else ()


def _without_finalizer(stored: Stored[Namespace]) -> Replace:
    spec = stored.object.spec
    kept = tuple(f for f in spec.finalizers if f != FINALIZER)
    return Replace(stored, msgspec.structs.replace(stored.object, spec=msgspec.structs.replace(spec, finalizers=kept)))
