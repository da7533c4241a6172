"""Garbage: what its owners no longer need. Background, foreground (`foregroundDeletion`) and orphan (`orphan`).

The rules are Kubernetes' (pkg/controller/garbagecollector): an owner reference is *solid* while an object with that uid
exists, *waiting* while that object waits for its dependents, else *dangling*. An object with a solid owner stays and
loses the other references; one without goes. That an owner is gone is never taken from the view alone: a read confirms
it, and one object goes a unit. An owner of a kind that is not known here counts as solid: it cannot be asked for. So does
a namespaced owner of an object that lies in no namespace: the reference does not say which one's is meant.
"""

from collections.abc import Iterable

from shoal.controller.actions import (
    NOTHING,
    Absent,
    Action,
    Decision,
    Emit,
    Replace,
    mark_deleted,
    with_metadata,
)
from shoal.errors import ShoalError
from shoal.model.meta import Object, OwnerReference
from shoal.model.registry import Kind, kind_of
from shoal.names import DESIRED_ALL, ObjectKey
from shoal.store.stored import Stored
from shoal.store.view import View

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
RELEASE_MAX = 200  # dependents a unit
INVALID_NAMESPACE = "OwnerRefInvalidNamespace"


class Garbage:
    name = "garbage"
    reporter = "garbage-collector-controller"
    filters = (DESIRED_ALL,)

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        """The object, what it owns, and its owners: one of them may wait for it to be gone."""
        found = {touched: None}
        for stored in (view.get(touched), view.before(touched)):
            if stored is None:
                continue
            for reference in stored.object.metadata.owner_references:
                owner = view.key_by_uid(reference.uid)
                if owner is not None:
                    found[owner] = None
        now, before = view.get(touched), view.before(touched)
        for gone_or_going in (before if now is None else now if now.deleting else None,):
            if gone_or_going is not None:
                found.update(dict.fromkeys(d.key for d in view.by_owner(gone_or_going.uid)))
        return found

    def decide(self, key: ObjectKey, view: View, now: float) -> Decision:
        stored = view.get(key)
        if stored is None:
            return NOTHING
        if stored.deleting:
            return _finish(stored, view)
        return _judge(stored, view, now)


# --- owners that are being deleted ------------------------------------------------------------------------------------------


def _finish(stored: Stored[Object], view: View) -> Decision:
    """Orphan: let the dependents go, then the finalizer. Foreground: wait until those that block are gone."""
    finalizers = stored.object.metadata.finalizers
    if ORPHAN in finalizers:
        dependents = view.by_owner(stored.uid)[:RELEASE_MAX]
        if dependents:
            return Decision(tuple(_without_owners(d, {stored.uid}) for d in dependents))
        return Decision((_without_finalizer(stored, ORPHAN),))
    if FOREGROUND in finalizers and not _blocking(stored, view):
        return Decision((_without_finalizer(stored, FOREGROUND),))
    return NOTHING


def _blocking(owner: Stored[Object], view: View) -> bool:
    return any(
        reference.uid == owner.uid and reference.block_owner_deletion and not _unresolvable(dependent, reference)
        for dependent in view.by_owner(owner.uid)
        for reference in dependent.object.metadata.owner_references
    )


# --- dependents -------------------------------------------------------------------------------------------------------------


def _judge(stored: Stored[Object], view: View, now: float) -> Decision:
    references = stored.object.metadata.owner_references
    solid: list[OwnerReference] = []
    waiting: list[OwnerReference] = []
    dangling: list[tuple[OwnerReference, ObjectKey]] = []
    for reference in references:
        where = _owner_key(stored, reference)
        owner = view.get(where) if where is not None else None
        if where is None or _unreadable(where, view):
            solid.append(reference)
        elif owner is None or owner.uid != reference.uid:
            dangling.append((reference, where))
        elif owner.deleting and FOREGROUND in owner.object.metadata.finalizers:
            waiting.append(reference)
        else:
            solid.append(reference)
    told = tuple(_invalid_namespace(stored, r) for r in references if _unresolvable(stored, r))
    if not dangling and not waiting:
        return Decision(told) if told else NOTHING
    confirm = tuple(Absent(where, reference.uid) for reference, where in dangling)
    if solid:
        gone = {r.uid for r, _ in dangling} | {r.uid for r in waiting}
        return Decision((_without_owners(stored, gone), *told), confirm=confirm)
    own_dependents = waiting and _blocking(stored, view)
    mark = mark_deleted(stored, now, finalizers=(FOREGROUND,) if own_dependents else ())
    actions: tuple[Action, ...] = (mark,)
    return Decision(actions, confirm=confirm)


def _owner_key(stored: Stored[Object], reference: OwnerReference) -> ObjectKey | None:
    """Where the owner lies: in the dependent's namespace, or nowhere in particular. None: nobody can say."""
    kind = _kind(reference)
    if kind is None or _unresolvable(stored, reference):
        return None
    return ObjectKey(kind.resource, stored.key.namespace if kind.namespaced else "", reference.name)


def _unresolvable(dependent: Stored[Object], reference: OwnerReference) -> bool:
    kind = _kind(reference)
    return not dependent.key.namespace and kind is not None and kind.namespaced


def _invalid_namespace(stored: Stored[Object], reference: OwnerReference) -> Emit:
    return Emit(
        stored.key,
        stored.uid,
        "Warning",
        INVALID_NAMESPACE,
        f"ownerRef [{reference.api_version}/{reference.kind}, name: {reference.name}, uid: {reference.uid}] is of a kind "
        f"that lies in a namespace, and {stored.key} lies in none: it is not deleted with that owner",
    )


def _kind(reference: OwnerReference) -> Kind | None:
    try:
        return kind_of(reference.api_version, reference.kind)
    except ShoalError:
        return None


def _unreadable(key: ObjectKey, view: View) -> bool:
    return view.desired_entry(key) is not None and view.get(key) is None


def _without_owners(stored: Stored[Object], uids: set[str]) -> Replace:
    kept = tuple(r for r in stored.object.metadata.owner_references if r.uid not in uids)
    return Replace(stored, with_metadata(stored.object, owner_references=kept))


def _without_finalizer(stored: Stored[Object], finalizer: str) -> Replace:
    kept = tuple(f for f in stored.object.metadata.finalizers if f != finalizer)
    return Replace(stored, with_metadata(stored.object, finalizers=kept))
