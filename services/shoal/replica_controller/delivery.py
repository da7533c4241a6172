"""Delivery: what a node needs of others' records lies under its own prefix, and what every node needs under `shared`.

Level-triggered on the object: a copy is stale if its bytes differ from what is derived here. A pod's first copy is the
scheduler's, every later one ours: edits, the deletionTimestamp, and `drained` once nothing routes to it (at once, until
there are services). A node's own record and its pod range are ours from the start. Copies of what no longer exists go
after a read has confirmed it.
"""

from collections.abc import Iterable

import msgspec

from shoal.controller.actions import NOTHING, Absent, Action, Decision, EraseEntry, WriteEntry
from shoal.controller.copies import bound_copy
from shoal.model.node import Node, PodRange
from shoal.model.pod import Pod
from shoal.names import (
    NODES,
    PODS,
    RESOURCE_POD_RANGES,
    SHARED_ALL,
    ObjectKey,
    bound,
    bound_of,
    desired_of,
    observed_of,
    shared,
)
from shoal.store.records import Entry
from shoal.store.stored import Stored
from shoal.store.view import View


class Delivery:
    name = "delivery"
    reporter = "delivery-controller"
    filters = (
        desired_of(PODS),
        bound_of(PODS),
        desired_of(NODES),
        observed_of(NODES),
        bound_of(NODES),
        SHARED_ALL,
    )

    def keys(self, touched: ObjectKey, _view: View) -> Iterable[ObjectKey]:
        if touched.resource in (PODS, NODES):
            return [touched]
        return [ObjectKey(NODES, "", touched.name)] if touched.resource == RESOURCE_POD_RANGES else []

    def decide(self, key: ObjectKey, view: View, _now: float) -> Decision:
        if view.desired_entry(key) is None:
            return _drop(key, view)
        if key.resource == NODES:
            node = view.get(key, Node)
            return Decision(_node_copies(node, view)) if node is not None else NOTHING
        pod = view.get(key, Pod)
        return Decision(_pod_copies(pod, view)) if pod is not None else NOTHING


def _drop(key: ObjectKey, view: View) -> Decision:
    copies = [e for _, e in sorted(view.bound_entries(key).items())]
    if key.resource == NODES and (entry := view.entry(_range_entry(key))) is not None:
        copies.append(entry)
    if not copies:
        return NOTHING
    return Decision(tuple(_erase(e) for e in copies), confirm=(Absent(key),))


def _pod_copies(pod: Stored[Pod], view: View) -> tuple[Action, ...]:
    node = pod.object.spec.node_name
    actions: list[Action] = []
    for where, entry in sorted(view.bound_entries(pod.key).items()):
        if where != node:
            actions.append(_erase(entry))  # the record itself says that the pod is elsewhere
        else:
            actions += _write(entry.key, bound_copy(pod.value, drained=pod.deleting), view, pod.traceparent)
    return tuple(actions)


def _node_copies(node: Stored[Node], view: View) -> tuple[Action, ...]:
    actions = _write(bound(node.key.name, node.key), node.value, view, node.traceparent)
    cidr, address = node.object.spec.pod_cidr, _address(node.object)
    if cidr and address:  # an address that is no longer told stays: a route that was right is better than none
        value = msgspec.json.encode(PodRange(node=node.key.name, cidr=cidr, address=address))
        actions += _write(_range_entry(node.key), value, view, node.traceparent)
    return tuple(actions)


def _address(node: Node) -> str:
    return next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")


def _range_entry(node: ObjectKey) -> str:
    return shared(ObjectKey(RESOURCE_POD_RANGES, "", node.name))


def _write(name: str, value: bytes, view: View, traceparent: str) -> list[Action]:
    entry = view.entry(name)
    if entry is not None and entry.value == value:
        return []
    return [WriteEntry(name, value, entry.revision if entry is not None else 0, traceparent)]


def _erase(entry: Entry) -> EraseEntry:
    return EraseEntry(entry.key, entry.revision)
