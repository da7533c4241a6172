"""The scheduler as a controller: pods without a node in, bindings out. Pure but for its bookkeeping (`Snapshot`).

A binding is one unit of three entries: the pod's record with `spec.nodeName`, its first bound copy, and its condition
PodScheduled. The store puts the units that gather while a commit is in flight into one batch. What was decided counts
at once (`assume`); what was refused is given back (`undone`). A pod that fits nowhere carries the reason, and is looked
at again when a node changes, a pod goes or a binding is given back, never by the clock.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.controller.actions import NOTHING, Decision, Emit, SetStatus, Trace, WriteEntry, finished, rfc3339
from shoal.controller.copies import bound_copy
from shoal.model.meta import Condition
from shoal.model.node import Node
from shoal.model.pod import DEFAULT_SCHEDULER, Pod, PodStatus
from shoal.model.registry import encode
from shoal.names import (
    CONTROL_PLANE,
    RESOURCE_NODE_NETWORKS,
    ObjectKey,
    bound,
    bound_of,
    desired,
    desired_of,
    observed_of,
)
from shoal.scheduler import reasons
from shoal.scheduler.asks import Ask, ask_of
from shoal.scheduler.placement import Placer
from shoal.scheduler.snapshot import Placed, Snapshot, facts_of
from shoal.store.stored import Stored
from shoal.store.view import View

SCHEDULED = "PodScheduled"


class _Known(msgspec.Struct, frozen=True):
    """What a pod's record said when its ask was taken."""

    revision: int
    ask: Ask
    owner: str


class Scheduler:
    name = "scheduler"
    reporter = DEFAULT_SCHEDULER
    filters = (
        desired_of("pods"),
        observed_of("pods"),
        bound_of("pods"),
        desired_of("nodes"),
        observed_of("nodes"),
        observed_of(RESOURCE_NODE_NETWORKS),
    )

    def __init__(self, seed: str = "") -> None:
        self._snapshot = Snapshot(seed)
        self._placer = Placer(self._snapshot)
        self._known: dict[ObjectKey, _Known] = {}
        self._waiting: dict[ObjectKey, None] = {}

    # --- keeping the books ---

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        if touched.resource == "nodes":
            helps = self._absorb_node(touched, view)
        elif touched.resource == "pods":
            helps = self._absorb_pod(touched, view)
        else:
            return []
        woken = list(self._waiting) if helps else []
        return [touched, *woken] if touched.resource == "pods" else woken

    def _absorb_node(self, key: ObjectKey, view: View) -> bool:
        stored = view.get(key, Node)
        return self._snapshot.put_node(facts_of(stored.object)) if stored else self._snapshot.drop_node(key.name)

    def _absorb_pod(self, key: ObjectKey, view: View) -> bool:
        """True if something was freed."""
        stored = view.get(key, Pod)
        if stored is None:
            self._known.pop(key, None)
            self._waiting.pop(key, None)
            return self._snapshot.drop_pod(key)
        pod = stored.object
        if finished(pod):
            self._waiting.pop(key, None)
            return self._snapshot.drop_pod(key)
        if not pod.spec.node_name:
            placed = self._snapshot.placed.get(key)
            if placed is not None and not (placed.assumed and placed.uid == stored.uid):
                return self._snapshot.drop_pod(key)
            return False
        self._waiting.pop(key, None)
        known = self._know(stored)
        return self._snapshot.put_pod(
            key,
            Placed(pod.spec.node_name, known.ask, uid=stored.uid, owner=known.owner, counts=not stored.deleting),
        )

    def _know(self, stored: Stored[Pod]) -> _Known:
        known = self._known.get(stored.key)
        if known is None or known.revision != stored.revision:
            known = _Known(stored.revision, ask_of(stored.object), _owner_of(stored.object))
            self._known[stored.key] = known
        return known

    # --- deciding ---

    def order(self, keys: list[ObjectKey], view: View) -> list[ObjectKey]:
        """The most important first; equals in the order in which they came."""

        def rank(key: ObjectKey) -> int:
            stored = view.get(key, Pod)
            return -(stored.object.spec.priority or 0) if stored is not None else 0

        return sorted(keys, key=rank)

    def decide(self, key: ObjectKey, view: View, now: float) -> Decision:
        stored = view.get(key, Pod)
        return self._decide(stored, view, now) if stored is not None else NOTHING

    def undone(self, key: ObjectKey) -> Iterable[ObjectKey]:
        return list(self._waiting) if self._snapshot.unassume(key) else []

    def _decide(self, stored: Stored[Pod], view: View, now: float) -> Decision:
        spec = stored.object.spec
        self._waiting.pop(stored.key, None)
        if stored.deleting or finished(stored.object):
            return NOTHING
        if spec.node_name:
            missing = spec.node_name not in view.bound_entries(stored.key)
            return self._bind(stored, spec.node_name, view, now) if missing else NOTHING
        if spec.scheduler_name not in ("", DEFAULT_SCHEDULER):
            return NOTHING
        if spec.scheduling_gates:
            return Decision(self._not_scheduled(stored, "SchedulingGated", reasons.GATED, now))
        known = self._know(stored)
        choice = self._placer.place(known.ask, known.owner)
        if not choice.node:
            self._waiting[stored.key] = None
            return Decision(self._not_scheduled(stored, "Unschedulable", choice.why, now))
        self._snapshot.assume(stored.key, Placed(choice.node, known.ask, uid=stored.uid, owner=known.owner))
        return self._bind(stored, choice.node, view, now)

    def _bind(self, stored: Stored[Pod], node: str, view: View, now: float) -> Decision:
        """Also for a pod whose manifest names its node: that passes over every filter, and needs only the copy."""
        key, pod = stored.key, stored.object
        if pod.spec.node_name == node:
            value = stored.value
        else:
            value = encode(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node)))
        copy = view.bound_entries(key).get(node)
        status = SetStatus(stored, _scheduled(stored, Condition(type=SCHEDULED, status="True"), now))
        return Decision(
            actions=(
                WriteEntry(desired(key), value, stored.revision, stored.traceparent),
                status,
                WriteEntry(bound(node, key), bound_copy(value), copy.revision if copy else 0, stored.traceparent),
                Emit(
                    key,
                    stored.uid,
                    "Normal",
                    "Scheduled",
                    f"Successfully assigned {key.namespace}/{key.name} to {node}",
                ),
            ),
            trace=Trace(
                name="bind",
                parent=stored.traceparent,
                attributes={
                    "key": str(key),
                    "namespace": key.namespace,
                    "pod": key.name,
                    "uid": stored.uid,
                    "node": node,
                },
            ),
        )

    def _not_scheduled(self, stored: Stored[Pod], reason: str, message: str, now: float) -> tuple[Any, ...]:
        condition = Condition(type=SCHEDULED, status="False", reason=reason, message=message)
        before = _condition_of(stored)
        if before is not None and (before.reason, before.message) == (reason, message):
            return ()
        event = Emit(stored.key, stored.uid, "Warning", "FailedScheduling", message)
        return (SetStatus(stored, _scheduled(stored, condition, now)), *([event] if reason == "Unschedulable" else []))


def _owner_of(pod: Pod) -> str:
    return next((o.uid for o in pod.metadata.owner_references if o.controller), "")


def _own_status(stored: Stored[Pod]) -> PodStatus:
    """The control plane's own part of the status, not what the node says."""
    entry = stored.observed.get(CONTROL_PLANE)
    return msgspec.json.decode(entry.observed.status, type=PodStatus) if entry else PodStatus()


def _condition_of(stored: Stored[Pod]) -> Condition | None:
    return next((c for c in stored.object.status.conditions if c.type == SCHEDULED), None)


def _scheduled(stored: Stored[Pod], condition: Condition, now: float) -> PodStatus:
    own = _own_status(stored)
    before = next((c for c in own.conditions if c.type == SCHEDULED), None)
    unchanged = before is not None and before.status == condition.status
    since = before.last_transition_time if before is not None and unchanged else rfc3339(now)
    condition = msgspec.structs.replace(condition, last_transition_time=since)
    others = tuple(c for c in own.conditions if c.type != SCHEDULED)
    return msgspec.structs.replace(own, phase=own.phase or "Pending", conditions=(*others, condition))
