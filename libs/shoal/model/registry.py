"""The kinds that Shoal knows. A new kind is one struct and one line in `KINDS`.

What a kind needs beyond that (columns, rules, defaults) is found by the types of its fields: a kind with a pod template
has all of a pod template's rules at once.
"""

import builtins
import functools

import msgspec

from shoal.errors import Invalid
from shoal.model.event import Event
from shoal.model.meta import Object
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.model.node import Node, NodeStatus
from shoal.model.pod import Pod, PodStatus
from shoal.model.replicaset import ReplicaSet, ReplicaSetStatus
from shoal.names import ObjectKey

VERBS_OF_WHAT_THERE_IS = ("delete", "get", "list", "patch", "watch")


class Kind(msgspec.Struct, frozen=True):
    """`resource` is the plural, the token of keys and subjects. `status_type` None: the kind has no status.

    `verbs`: what may be done with it; `not_made`: why `create` is not among them.
    """

    api_version: str
    kind: str
    resource: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    type: builtins.type[Object]
    status_type: builtins.type[msgspec.Struct] | None = None
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", *VERBS_OF_WHAT_THERE_IS)
    not_made: str = ""

    @property
    def group(self) -> str:
        """`apps`; "" for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """`pods`, `replicasets.apps`: as kubectl names a resource in full."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


KINDS: tuple[Kind, ...] = (
    Kind("v1", "Pod", "pods", "pod", ("po",), True, Pod, PodStatus, ("all",)),
    Kind("apps/v1", "ReplicaSet", "replicasets", "replicaset", ("rs",), True, ReplicaSet, ReplicaSetStatus, ("all",)),
    Kind(
        "v1", "Node", "nodes", "node", ("no",), False, Node, NodeStatus,
        verbs=VERBS_OF_WHAT_THERE_IS, not_made="a host becomes a node when its agent registers",
    ),
    Kind("v1", "Namespace", "namespaces", "namespace", ("ns",), False, Namespace, NamespaceStatus),
    Kind(
        "v1", "Event", "events", "event", ("ev",), True, Event,
        verbs=("get", "list", "watch"), not_made="events are told, not made",
    ),
)  # fmt: skip

_BY_KIND = {(k.api_version, k.kind): k for k in KINDS}


def _word_table() -> dict[str, Kind]:
    table: dict[str, Kind] = {}
    for kind in KINDS:
        for word in (kind.resource, kind.singular, *kind.short_names, kind.kind.lower()):
            table[word] = kind
            if kind.group:
                table[f"{word}.{kind.group}"] = kind
                table[f"{word}.{kind.api_version.rpartition('/')[2]}.{kind.group}"] = kind
    return table


_BY_WORD = _word_table()


def kind_of(api_version: str, kind: str) -> Kind:
    """Raises: Invalid, with the nearest known kind, or the group/version under which that kind is known."""
    if found := _BY_KIND.get((api_version, kind)):
        return found
    from shoal.model.nearest import did_you_mean
    from shoal.model.problem import clipped

    if versions := [k.api_version for k in KINDS if k.kind == kind]:
        raise Invalid(
            f"there is no {kind} in {clipped(api_version)}, expected {' or '.join(versions)}",
            path="apiVersion",
        )
    raise Invalid(
        f"unknown kind {clipped(kind)} in {clipped(api_version)}",
        path="kind",
        hint=did_you_mean(kind, [k.kind for k in KINDS]) or "known are " + ", ".join(k.kind for k in KINDS),
    )


def by_resource(name: str) -> Kind:
    """`pods`, `pod`, `po`, `Pod`, `replicasets.apps`. Raises: Invalid, with the nearest known name."""
    if found := _BY_WORD.get(name) or _BY_WORD.get(name.lower()):
        return found
    from shoal.model.nearest import did_you_mean
    from shoal.model.problem import clipped

    raise Invalid(
        f"unknown resource {clipped(name)}",
        hint=did_you_mean(name, list(_BY_WORD)) or "known are " + ", ".join(k.resource for k in KINDS),
    )


def kind_of_object(obj: Object) -> Kind:
    return kind_of(obj.api_version, obj.kind)


@functools.cache
def _decoder(of: type[Object]) -> "msgspec.json.Decoder[Object]":
    return msgspec.json.Decoder(of)


_ENCODER = msgspec.json.Encoder(order="deterministic")


def decode(kind: Kind, data: bytes | msgspec.Raw) -> Object:
    """A stored record; unknown fields are ignored. Raises: msgspec.DecodeError for what is not such a record."""
    return _decoder(kind.type).decode(data)


def encode(obj: Object, *, status: bool = False) -> bytes:
    """Canonical bytes for the store: equal objects are equal bytes. Without what the store never keeps in a desired
    record: resourceVersion, managedFields, selfLink and (unless asked for) status.
    """
    meta = obj.metadata
    if meta.resource_version or meta.managed_fields or meta.self_link:
        meta = msgspec.structs.replace(meta, resource_version="", managed_fields=(), self_link="")
        obj = msgspec.structs.replace(obj, metadata=meta)
    if not status and kind_of_object(obj).status_type is not None:
        obj = msgspec.structs.replace(obj, status=_empty_status(type(obj)))
    return _ENCODER.encode(obj)


@functools.cache
def _empty_status(of: type[Object]) -> msgspec.Struct:
    """The very default of the field: msgspec leaves out a value that *is* its default."""
    defaults = dict(zip(of.__struct_fields__[-len(of.__struct_defaults__) :], of.__struct_defaults__, strict=True))
    empty: msgspec.Struct = defaults["status"]
    return empty


def key_of(obj: Object) -> ObjectKey:
    kind = kind_of_object(obj)
    return ObjectKey(kind.resource, obj.metadata.namespace if kind.namespaced else "", obj.metadata.name)
