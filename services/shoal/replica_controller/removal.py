"""Removal, the second phase of deletion: the entries of what is to go and that nothing holds any more.

What has a deletionTimestamp and no finalizers goes, a pod that a node has only after that node has said *gone* with the
pod's uid. Desired, observed and bound entries go in one unit, the desired one first: the object vanishes at one
revision. Left-over observed entries (a status that came late) go too, after a read has confirmed that their object does
not exist.
"""

from collections.abc import Iterable

from shoal.controller.actions import (
    NOTHING,
    Absent,
    Action,
    Decision,
    EraseEntry,
    NoEntry,
    Remove,
    WriteEntry,
)
from shoal.errors import ShoalError
from shoal.model.meta import Object
from shoal.model.node import RANGE_RESTS_S, Node
from shoal.model.pod import Pod
from shoal.model.registry import by_resource
from shoal.names import (
    BOUND_ALL,
    CLAIMS_ALL,
    DESIRED_ALL,
    NODES,
    OBSERVED_ALL,
    RESOURCE_NODE_NETWORKS,
    RESOURCE_POD_RANGES,
    ObjectKey,
    bound,
    claim,
)
from shoal.store.stored import Stored
from shoal.store.view import View


class Removal:
    name = "removal"
    reporter = "removal-controller"
    filters = (DESIRED_ALL, OBSERVED_ALL, BOUND_ALL, CLAIMS_ALL)

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        if touched.resource != NODES or view.get(touched) is not None:
            return [touched]
        return [
            touched,
            ObjectKey(RESOURCE_NODE_NETWORKS, "", touched.name),
            *(p.key for p in view.on_node(touched.name) if p.deleting),
        ]

    def decide(self, key: ObjectKey, view: View, _now: float) -> Decision:
        if view.desired_entry(key) is None:
            return _sweep(key, view)
        stored = view.get(key)
        if stored is None or not stored.deleting or _held(stored):
            return NOTHING
        pod = view.get(key, Pod)
        if pod is not None and pod.object.spec.node_name:
            return _remove_from_node(pod, pod.object.spec.node_name, view)
        return Decision((Remove(key), *_rest_range(stored, view)))


def _held(stored: Stored[Object]) -> bool:
    """A namespace is held by its own finalizer, in its spec."""
    obj = stored.object
    return bool(obj.metadata.finalizers or getattr(getattr(obj, "spec", None), "finalizers", ()))


def _remove_from_node(stored: Stored[Pod], node: str, view: View) -> Decision:
    """Gone by the node's word; or there is no such node to say it; or the node was never told of the pod."""
    said = stored.observed.get(node)
    if said is not None and said.observed.gone:
        return Decision((Remove(stored.key),))
    node_key = ObjectKey(NODES, "", node)
    if view.desired_entry(node_key) is None:
        return Decision((Remove(stored.key),), confirm=(Absent(node_key),))
    if said is None and node not in view.bound_entries(stored.key):
        return Decision((Remove(stored.key),), confirm=(NoEntry(bound(node, stored.key)),))
    return NOTHING


def _sweep(key: ObjectKey, view: View) -> Decision:
    """Copies are delivery's to sweep."""
    left = view.observed_entries(key)
    about = _about(key)
    if not left or about is None or (about != key and view.desired_entry(about) is not None):
        return NOTHING
    erase: tuple[Action, ...] = tuple(EraseEntry(e.key, e.revision) for _, e in sorted(left.items()))
    return Decision(erase, confirm=(Absent(about),))


def _about(key: ObjectKey) -> ObjectKey | None:
    """The object that must exist for an observed entry to stay; None for what a newer version may know of."""
    if key.resource == RESOURCE_NODE_NETWORKS:
        return ObjectKey(NODES, "", key.name)
    try:
        by_resource(key.resource)
    except ShoalError:
        return None
    return key


def _rest_range(stored: Stored[Object], view: View) -> tuple[Action, ...]:
    """A removed node's range is given to nobody for an hour; then the claim is gone by itself."""
    node = stored.object
    if not isinstance(node, Node) or not node.spec.pod_cidr:
        return ()
    entry = view.entry(claim(RESOURCE_POD_RANGES, node.spec.pod_cidr))
    if entry is None or entry.value is None:
        return ()
    return (WriteEntry(entry.key, entry.value, entry.revision, ttl_s=RANGE_RESTS_S),)
