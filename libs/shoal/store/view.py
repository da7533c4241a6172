"""A view of the bucket `state`, kept current by a watch: entries in, objects out. Pure; it reads no clock and no bus.

How one is made of the other: `stored`. That is lazy and happens once a revision, so that a reader who only counts keys
pays for keys alone. What comes out is frozen and may be kept.

    watch ──Entry──▶ View.apply ──keys touched──▶ queue        View.get / objects / by_owner / on_node ──▶ decide

`before(key)` is the object as it was before the last `apply`: who reacts to a pod that vanished, or that changed its
owner, finds the old owner there.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, overload

import msgspec

from shoal.errors import ShoalError
from shoal.model.meta import Object
from shoal.model.registry import by_resource, decode
from shoal.names import NODES, PODS, RESOURCE_NODE_NETWORKS, ObjectKey, parse_key
from shoal.store.records import Entry, Synced
from shoal.store.stored import Stored, merge

T = TypeVar("T", bound=Object)


class _Slot:
    """What is known under one object key. `made` caches the object for exactly these entries."""

    __slots__ = ("bound", "desired", "indexed", "made", "observed", "ready", "shared")

    def __init__(self) -> None:
        self.desired: Entry | None = None
        self.observed: dict[str, Entry] = {}
        self.bound: dict[str, Entry] = {}
        self.shared = False
        self.made: Stored[Any] | None = None
        self.ready = False
        self.indexed: _Places | None = None

    @property
    def empty(self) -> bool:
        return self.desired is None and not (self.observed or self.bound or self.shared)


class _Places(msgspec.Struct, frozen=True):
    """Under which values of the lazy indices an object is filed. A pod that no controller owns is filed under ""."""

    uid: str
    owners: tuple[str, ...]
    node: str


class View:
    """Objects and entries as the watch delivered them last.

    Act on it only while `synced`: before the first list is whole, and while a later one is being delivered anew, it
    may lack what exists. A record that cannot be read (a newer version's, or a broken one) yields no object and is
    named in `unreadable`; who finds an object absent confirms it by a read before anything is removed.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.synced = False
        self.unreadable: dict[ObjectKey, str] = {}
        self._entries: dict[str, Entry] = {}
        self._slots: dict[ObjectKey, _Slot] = {}
        self._resources: dict[str, dict[str, dict[ObjectKey, None]]] = {}
        self._uids: dict[str, ObjectKey] = {}
        self._owned: dict[str, set[ObjectKey]] = {}
        self._nodes: dict[str, set[ObjectKey]] = {}
        self._unfiled: set[ObjectKey] = set()
        self._before: dict[ObjectKey, tuple[Entry | None, dict[str, Entry], Stored[Any] | None, bool]] = {}

    # --- in ---

    def apply(self, event: Entry | Synced) -> list[ObjectKey]:
        """Take one event of the watch and name the objects that it touched.

        None for a system key, one for an entry, several for what a list no longer has. Whatever was delivered last
        wins, be its revision lower (after a restore).
        """
        self._before.clear()
        if isinstance(event, Synced):
            gone = [key for name in event.gone if (key := self._forget(name)) is not None]
            touched = gone + [node for key in gone if (node := self._joined(key)) is not None]
            self.revision = event.revision
            self.synced = True
            return touched
        if event.revision <= self.revision:
            self.synced = False  # a list begins anew: older entries come again
        self.revision = event.revision
        key = self._forget(event.key) if event.value is None else self._keep(event)
        if key is None:
            return []
        return [key, node] if (node := self._joined(key)) is not None else [key]

    def _joined(self, key: ObjectKey) -> ObjectKey | None:
        """The node whose network this record is about, if it is known: it is to be made anew, too."""
        if key.resource != RESOURCE_NODE_NETWORKS:
            return None
        node = ObjectKey(NODES, "", key.name)
        slot = self._slots.get(node)
        if slot is None or slot.desired is None:
            return None
        self._remember(node, slot)
        self._touch(node, slot)
        return node

    def _network(self, node: ObjectKey) -> Entry | None:
        slot = self._slots.get(ObjectKey(RESOURCE_NODE_NETWORKS, "", node.name))
        return slot.observed.get(node.name) if slot is not None else None

    def _keep(self, entry: Entry) -> ObjectKey | None:
        known = self._entries.get(entry.key)
        self._entries[entry.key] = entry
        if known is not None and known.revision == entry.revision:
            return None  # a list that comes again
        parsed = parse_key(entry.key)
        key = parsed.object
        if key is None:
            return None
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
        if key.resource == RESOURCE_NODE_NETWORKS:
            self.get(ObjectKey(NODES, "", key.name))  # as it was before
        if parsed.part == "bound":
            slot.bound[parsed.owner] = entry
            return key
        if parsed.part == "shared":
            slot.shared = True
            return key
        self._remember(key, slot)
        if parsed.part == "desired":
            if slot.desired is None:
                self._resources.setdefault(key.resource, {}).setdefault(key.namespace, {})[key] = None
            slot.desired = entry
        else:
            slot.observed[parsed.owner] = entry
        self._touch(key, slot)
        return key

    def _forget(self, name: str) -> ObjectKey | None:
        if self._entries.pop(name, None) is None:
            return None
        parsed = parse_key(name)
        key = parsed.object
        slot = self._slots.get(key) if key is not None else None
        if key is None or slot is None:
            return key
        if key.resource == RESOURCE_NODE_NETWORKS:
            self.get(ObjectKey(NODES, "", key.name))  # as it was before
        if parsed.part == "bound":
            slot.bound.pop(parsed.owner, None)
        elif parsed.part == "shared":
            slot.shared = False
        else:
            self._remember(key, slot)
            if parsed.part == "desired":
                slot.desired = None
                self._unlist(key)
            else:
                slot.observed.pop(parsed.owner, None)
            self._touch(key, slot)
        if slot.empty:
            self._file(key, slot, None)
            self._unfiled.discard(key)
            del self._slots[key]
        return key

    def _unlist(self, key: ObjectKey) -> None:
        namespaces = self._resources.get(key.resource, {})
        keys = namespaces.get(key.namespace, {})
        keys.pop(key, None)
        if not keys:
            namespaces.pop(key.namespace, None)

    def _remember(self, key: ObjectKey, slot: _Slot) -> None:
        self._before[key] = (slot.desired, dict(slot.observed), slot.made, slot.ready)

    def _touch(self, key: ObjectKey, slot: _Slot) -> None:
        slot.ready, slot.made = False, None
        self.unreadable.pop(key, None)
        self._unfiled.add(key)

    # --- out: objects ---

    @overload
    def get(self, key: ObjectKey) -> Stored[Object] | None: ...
    @overload
    def get(self, key: ObjectKey, type_: type[T]) -> Stored[T] | None: ...
    def get(self, key: ObjectKey, type_: type[Any] = Object) -> Stored[Any] | None:
        """The object, None if there is none (or none that can be read, or not of that type)."""
        slot = self._slots.get(key)
        if slot is None or slot.desired is None:
            return None
        if not slot.ready:
            slot.made, slot.ready = self._make(key, slot.desired, slot.observed), True
        made = slot.made
        return made if made is not None and isinstance(made.object, type_) else None

    def before(self, key: ObjectKey) -> Stored[Any] | None:
        """The object as it was before the last `apply`, None if that did not touch it or it did not exist."""
        known = self._before.get(key)
        if known is None:
            return None
        entry, observed, made, ready = known
        if entry is None:
            return None
        if not ready:
            made = self._make(key, entry, observed)
            self._before[key] = (entry, observed, made, True)
        return made

    @overload
    def objects(self, resource: str, namespace: str | None = None) -> list[Stored[Object]]: ...
    @overload
    def objects(self, resource: str, namespace: str | None = None, *, type_: type[T]) -> list[Stored[T]]: ...
    def objects(self, resource: str, namespace: str | None = None, *, type_: type[Any] = Object) -> list[Stored[Any]]:
        """All of a resource (in one namespace). In no order that means anything: who decides by it sorts."""
        return [s for key in self.keys(resource, namespace) if (s := self.get(key, type_)) is not None]

    def keys(self, resource: str, namespace: str | None = None) -> list[ObjectKey]:
        namespaces = self._resources.get(resource, {})
        if namespace is not None:
            return list(namespaces.get(namespace, ()))
        return [key for keys in namespaces.values() for key in keys]

    def keys_in(self, namespace: str) -> list[ObjectKey]:
        """Every object in a namespace, of any resource, unreadable ones too; sorted."""
        return sorted(k for namespaces in self._resources.values() for k in namespaces.get(namespace, ()))

    @overload
    def by_owner(self, uid: str) -> list[Stored[Object]]: ...
    @overload
    def by_owner(self, uid: str, type_: type[T]) -> list[Stored[T]]: ...
    def by_owner(self, uid: str, type_: type[Any] = Object) -> list[Stored[Any]]:
        """Objects with an owner reference (controller or not) to this uid, sorted by key."""
        self._file_all()
        return [s for key in sorted(self._owned.get(uid, ())) if (s := self.get(key, type_)) is not None]

    @overload
    def on_node(self, node: str) -> list[Stored[Object]]: ...
    @overload
    def on_node(self, node: str, type_: type[T]) -> list[Stored[T]]: ...
    def on_node(self, node: str, type_: type[Any] = Object) -> list[Stored[Any]]:
        """Pods whose spec names this node, sorted by key."""
        self._file_all()
        return [s for key in sorted(self._nodes.get(node, ())) if (s := self.get(key, type_)) is not None]

    def ownerless(self, namespace: str) -> list[Stored[Any]]:
        """Pods in a namespace that no controller owns, sorted by key."""
        self._file_all()
        keys = sorted(k for k in self._owned.get("", ()) if k.namespace == namespace)
        return [s for key in keys if (s := self.get(key)) is not None]

    def key_by_uid(self, uid: str) -> ObjectKey | None:
        self._file_all()
        return self._uids.get(uid)

    # --- out: entries ---

    def entry(self, key: str) -> Entry | None:
        """The raw entry under any key of the bucket, a copy's or the system's too. Markers are absent."""
        return self._entries.get(key)

    def entries(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def desired_entry(self, key: ObjectKey) -> Entry | None:
        slot = self._slots.get(key)
        return slot.desired if slot else None

    def observed_entries(self, key: ObjectKey) -> Mapping[str, Entry]:
        """By writer, whatever uid they name."""
        slot = self._slots.get(key)
        return slot.observed if slot else {}

    def bound_entries(self, key: ObjectKey) -> Mapping[str, Entry]:
        """By node, the copies of one object."""
        slot = self._slots.get(key)
        return slot.bound if slot else {}

    def known(self) -> list[ObjectKey]:
        """Every object key of which any entry exists: also copies and words that were left behind."""
        return list(self._slots)

    # --- making and filing ---

    def _make(self, key: ObjectKey, entry: Entry, observed: Mapping[str, Entry]) -> Stored[Any] | None:
        try:
            kind = by_resource(key.resource)
            obj = decode(kind, entry.value or b"")
            return merge(kind, key, entry, obj, observed, self._network(key) if key.resource == NODES else None)
        except (msgspec.MsgspecError, ShoalError, ValueError) as error:
            self.unreadable[key] = str(error)
            return None

    def _file_all(self) -> None:
        while self._unfiled:
            key = self._unfiled.pop()
            slot = self._slots[key]
            stored = self.get(key)
            self._file(key, slot, _places(key, stored.object) if stored is not None else None)

    def _file(self, key: ObjectKey, slot: _Slot, places: _Places | None) -> None:
        old = slot.indexed
        if old == places:
            return
        if old is not None:
            if self._uids.get(old.uid) == key:
                del self._uids[old.uid]
            for uid in old.owners:
                _drop(self._owned, uid, key)
            _drop(self._nodes, old.node, key)
        if places is not None:
            self._uids[places.uid] = key
            for uid in places.owners:
                self._owned.setdefault(uid, set()).add(key)
            if places.node:
                self._nodes.setdefault(places.node, set()).add(key)
        slot.indexed = places


def _drop(index: dict[str, set[ObjectKey]], value: str, key: ObjectKey) -> None:
    keys = index.get(value)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[value]


def _places(key: ObjectKey, obj: Any) -> _Places:
    references = obj.metadata.owner_references
    owners = tuple(o.uid for o in references)
    if key.resource != PODS:
        return _Places(obj.metadata.uid, owners, "")
    if not any(o.controller for o in references):
        owners = (*owners, "")
    return _Places(obj.metadata.uid, owners, obj.spec.node_name)
