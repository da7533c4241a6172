"""One object of its entries: the desired one, and what its observers say of it. Pure.

An object is its desired entry together with each observed entry that names its uid (of a node also what its proxy
says of the network, in a record beside it); its revision is the highest of theirs; copies (`bound`, `shared`) never
count.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from shoal.model.meta import Condition, Object, Record
from shoal.model.registry import Kind
from shoal.names import CONTROL_PLANE, NODES, PODS, ObjectKey
from shoal.store.records import Entry

T = TypeVar("T", bound=Object)


class Observed(Record, frozen=True, kw_only=True):
    """The JSON of an observed entry. It counts only for the object that has this `uid`.

    `counter`: how many names were derived from this owner so far. `gone`: a pod's containers are removed. `order`: of a
    node's report (`wire.Report`).
    """

    uid: str = ""
    observed_generation: int = 0
    counter: int = 0
    gone: bool = False
    order: tuple[int, int] = (0, 0)
    status: msgspec.Raw = msgspec.Raw(b"{}")


class ObservedEntry(msgspec.Struct, frozen=True):
    """An observed entry with the revision that a compare-and-set on it needs."""

    revision: int
    observed: Observed


class Stored(Generic[T]):
    """One object as it is now. `object` has status and resourceVersion merged in, `revision` is the desired entry's.

    `observed` holds, by writer, the entries that name this object's uid.
    """

    __slots__ = ("beside", "key", "object", "observed", "revision", "traceparent", "value")

    def __init__(
        self,
        key: ObjectKey,
        value: bytes,
        revision: int,
        obj: T,
        observed: Mapping[str, ObservedEntry],
        traceparent: str = "",
        beside: int = 0,
    ) -> None:
        self.key = key
        self.value = value  # the desired entry's bytes, as they are stored
        self.revision = revision
        self.object = obj
        self.observed = observed
        self.traceparent = traceparent
        self.beside = beside  # the revision of a record beside it that is joined in

    def __repr__(self) -> str:
        return f"Stored({self.key}, revision={self.revision})"

    @property
    def uid(self) -> str:
        return self.object.metadata.uid

    @property
    def version(self) -> int:
        """The object's revision: what a client calls resourceVersion."""
        return max([self.revision, self.beside, *(o.revision for o in self.observed.values())])

    @property
    def deleting(self) -> bool:
        return self.object.metadata.deletion_timestamp is not None


def merge(
    kind: Kind, key: ObjectKey, entry: Entry, obj: Any, observed: Mapping[str, Entry], beside: Entry | None = None
) -> Stored[Any]:
    """An object from its entries, by the rules of KUBECTL.md section 8. Raises: msgspec.MsgspecError.

    `beside`: another record of an observer, whose conditions are its, too.
    """
    uid = obj.metadata.uid
    counted: dict[str, ObservedEntry] = {}
    for writer, e in observed.items():
        record = decode_observed(e.value or b"{}")
        if record.uid == uid:
            counted[writer] = ObservedEntry(e.revision, record)
    status: Any = None
    for writer in _weakest_first(key, obj, counted):
        status = merge_status(status, decode_status(kind, counted[writer].observed.status))
    joined = 0
    if beside is not None and (record := decode_observed(beside.value or b"{}")).uid == uid:
        status = merge_status(decode_status(kind, record.status), status)
        joined = beside.revision
    version = max([entry.revision, joined, *(o.revision for o in counted.values())])
    metadata = msgspec.structs.replace(obj.metadata, resource_version=str(version))
    changes = {"metadata": metadata} if status is None else {"metadata": metadata, "status": status}
    made = msgspec.structs.replace(obj, **changes)
    return Stored(key, entry.value or b"", entry.revision, made, counted, entry.traceparent, joined)


def _weakest_first(key: ObjectKey, obj: Any, counted: Mapping[str, ObservedEntry]) -> list[str]:
    """Whose status counts: the control plane's, then of a pod its node's, of a node its own, which win."""
    if key.resource == PODS:
        node = obj.spec.node_name
    elif key.resource == NODES:
        node = key.name
    else:
        node = ""
    return [w for w in (CONTROL_PLANE, node) if w and w in counted]


_observed_decoder = msgspec.json.Decoder(Observed)
_status_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def decode_observed(value: bytes) -> Observed:
    """Raises: msgspec.MsgspecError."""
    return _observed_decoder.decode(value)


def decode_status(kind: Kind, raw: bytes | msgspec.Raw) -> Any:
    """A status of this kind, None if the kind has none. Raises: msgspec.MsgspecError."""
    if kind.status_type is None:
        return None
    decoder = _status_decoders.get(kind.status_type)
    if decoder is None:
        decoder = _status_decoders[kind.status_type] = msgspec.json.Decoder(kind.status_type)
    return decoder.decode(raw)


def merge_status(weak: Any, strong: Any) -> Any:
    """Field by field `strong` wins where it says anything; conditions are united by type."""
    if weak is None or strong is None:
        return strong if weak is None else weak
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(strong):
        ours, theirs = getattr(strong, field.name), getattr(weak, field.name)
        if ours == theirs:
            continue
        if field.name == "conditions":
            changes[field.name] = _unite(theirs, ours)
        elif _is_default(field, ours):
            changes[field.name] = theirs
    return msgspec.structs.replace(strong, **changes) if changes else strong


def _unite(weak: Iterable[Condition], strong: Iterable[Condition]) -> tuple[Condition, ...]:
    merged = {c.type: c for c in weak} | {c.type: c for c in strong}
    return tuple(merged.values())


def _is_default(field: msgspec.structs.FieldInfo, value: Any) -> bool:
    if field.default is not msgspec.NODEFAULT:
        return bool(value == field.default)
    return field.default_factory is not msgspec.NODEFAULT and value == field.default_factory()
