"""Is an object, well-formed and filled, also right? And may it become another one?

`check` and `check_update` answer every problem they find; they never raise.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.model import naming, rules_container, rules_kinds, rules_meta, rules_pod
from shoal.model.meta import Object
from shoal.model.namespace import Namespace
from shoal.model.node import Node
from shoal.model.pod import Pod, PodSpec
from shoal.model.problem import ROOT, Path, Problem, clipped
from shoal.model.registry import kind_of_object
from shoal.model.replicaset import ReplicaSet
from shoal.model.rules import RULES, Found, named
from shoal.model.shape import Field, ListOf, MapOf, Shape, StructOf, fields

_LOADED = (rules_container, rules_kinds, rules_meta, rules_pod)  # importing them registers their rules
_GENERATED_MAX = 248  # a generateName, so that five characters fit behind it


def check(obj: Object, *, need_name: bool = False) -> list[Problem]:
    """`need_name`: generateName is not enough (apply: the same document must name the same object each time)."""
    return [*_identity(obj, need_name=need_name), *_visit(obj, StructOf(type(obj)), ROOT)]


def _visit(value: Any, shape: Shape, at: Path) -> Iterator[Problem]:
    match shape:
        case StructOf(type=of) if value is not None:
            for one in RULES.get(of, ()):
                yield from one(value, at)
            for field in _ruled_fields(of):
                if inner := getattr(value, field.name):
                    yield from _visit(inner, field.shape, at / field.wire)
        case ListOf(item=item):
            for index, element in enumerate(value):
                yield from _visit(element, item, at / index)
        case MapOf(value=item):
            for key, element in value.items():
                yield from _visit(element, item, at / key)


@functools.cache
def _ruled_fields(of: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Those that rules have something to say about. Status is the control plane's own."""
    return tuple(
        f for f in fields(of).values() if _ruled(f.shape) and not (issubclass(of, Object) and f.wire == "status")
    )


def _ruled(shape: Shape) -> bool:
    match shape:
        case StructOf(type=of):
            return of in RULES or bool(_ruled_fields(of))
        case ListOf(item=inner) | MapOf(value=inner):
            return _ruled(inner)
        case _:
            return False


def _identity(obj: Object, *, need_name: bool) -> Found:
    meta, at, kind = obj.metadata, ROOT / "metadata", kind_of_object(obj)
    if meta.name:
        yield from named(meta.name, naming.dns_subdomain(meta.name), at / "name")
    elif not meta.generate_name:
        yield Problem(at / "name", "missing, expected text")
    elif need_name:
        yield Problem(
            at / "name", "missing: generateName makes a new object each time, which apply cannot do", "use create"
        )
    if meta.generate_name:
        prefix = meta.generate_name[:_GENERATED_MAX].rstrip("-.") or "x"
        yield from named(meta.generate_name, naming.dns_subdomain(prefix), at / "generateName")
    if not kind.namespaced and meta.namespace:
        yield Problem(
            at / "namespace", f"found {clipped(meta.namespace)}, expected none: a {kind.kind} is in no namespace"
        )
    elif meta.namespace:
        yield from named(meta.namespace, naming.dns_label(meta.namespace), at / "namespace")


# --- updates ----------------------------------------------------------------------------------------------------------


def check_update(old: Object, new: Object) -> list[Problem]:
    """What may not change in an object that exists. Both are filled; by people's requests, not by controllers'."""
    return [*_metadata_update(old, new), *_UPDATES.get(type(new), _nothing)(old, new)]


def _metadata_update(old: Object, new: Object) -> Found:
    for wire in ("name", "namespace", "uid"):
        before, after = getattr(old.metadata, wire), getattr(new.metadata, wire)
        if before != after:
            yield _immutable(ROOT / "metadata" / wire, before, after)


def _immutable(at: Path, before: Any, after: Any) -> Problem:
    change = (
        f": found {clipped(after)}, it is {clipped(before)}"
        if isinstance(before, str) and isinstance(after, str)
        else ""
    )
    return Problem(at, f"cannot be changed{change}")


def _nothing(_old: Any, _new: Any) -> Found:
    yield from ()


def _pod_update(old: Pod, new: Pod) -> Found:
    """As Kubernetes, but for images: gates may go, tolerations may be added, else a pod is replaced, not changed."""
    at, before, after = ROOT / "spec", old.spec, new.spec
    gates = {gate.name for gate in before.scheduling_gates}
    for index, gate in enumerate(after.scheduling_gates):
        if gate.name not in gates:
            yield Problem(at / "schedulingGates" / index, "cannot be added to a pod that exists, only removed")
    if not set(before.tolerations) <= set(after.tolerations):
        yield Problem(at / "tolerations", "cannot be removed or changed in a pod that exists, only added")
    free = {"scheduling_gates", "tolerations"} | ({"node_selector"} if gates else set())
    for wire, field in fields(PodSpec).items():
        if field.name not in free:
            yield from _differences(getattr(before, field.name), getattr(after, field.name), field.shape, at / wire)


def _differences(before: Any, after: Any, shape: Shape, at: Path) -> Found:
    """The innermost places where two values differ."""
    if before == after:
        return
    match shape:
        case StructOf(type=of) if before is not None and after is not None:
            for wire, field in fields(of).items():
                yield from _differences(getattr(before, field.name), getattr(after, field.name), field.shape, at / wire)
        case ListOf(item=item) if len(before) == len(after):
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from _differences(one, other, item, at / index)
        case _:
            problem = _immutable(at, before, after)
            yield Problem(
                at, f"{problem.message} (in a pod that exists)", "delete the pod, or let a ReplicaSet replace it"
            )


def _replica_set_update(old: ReplicaSet, new: ReplicaSet) -> Found:
    if old.spec.selector != new.spec.selector:
        yield Problem(ROOT / "spec" / "selector", "cannot be changed", "make another ReplicaSet")


def _node_update(old: Node, new: Node) -> Found:
    for wire, before, after in (
        ("podCIDR", old.spec.pod_cidr, new.spec.pod_cidr),
        ("providerID", old.spec.provider_id, new.spec.provider_id),
    ):
        if before and before != after:
            yield _immutable(ROOT / "spec" / wire, before, after)
    if old.spec.pod_cidr == new.spec.pod_cidr and old.spec.pod_cidrs != new.spec.pod_cidrs:
        yield Problem(ROOT / "spec" / "podCIDRs", "cannot be changed")


_UPDATES: Mapping[type[Object], Callable[[Any, Any], Found]] = {
    Pod: _pod_update,
    ReplicaSet: _replica_set_update,
    Node: _node_update,
    Namespace: _nothing,
}
