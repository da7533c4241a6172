"""An object as clients see it: what every object has from its first moment on, though nobody has reported it yet. Pure.

A pod that no node has seen is Pending, a namespace is Active until it is being deleted: in Kubernetes the server writes
that at creation; here it follows from the record, and costs no write.
"""

from typing import Any

import msgspec
from msgspec.structs import replace as changed

from shoal.api.history import Facts
from shoal.model.defaults import initial_status
from shoal.model.meta import LabelSelector, Object
from shoal.model.registry import Kind, by_resource
from shoal.model.selectors import (
    EVERYTHING,
    FieldTerm,
    field_matches,
    field_text,
    matches,
    parse_field_selector,
    parse_label_selector,
    selectable,
)
from shoal.names import PODS, ObjectKey
from shoal.store.stored import Stored, merge_status

NAMESPACES = "namespaces"


def shown(resource: str, obj: Object) -> Object:
    status: Any = getattr(obj, "status", None)
    if (resource == PODS and not (status.phase and status.qos_class)) or (resource == NAMESPACES and not status.phase):
        made: dict[str, Any] = {"status": merge_status(initial_status(obj), status)}
        return changed(obj, **made)
    return obj


def body(stored: Stored[Object]) -> bytes:
    return msgspec.json.encode(shown(stored.key.resource, stored.object))


def body_of(resource: str, obj: Object, revision: int) -> bytes:
    """Of an object that was just decided or written: `revision` 0 = it is not stored."""
    version = str(revision) if revision else ""
    obj = changed(obj, metadata=changed(obj.metadata, resource_version=version))
    return msgspec.json.encode(shown(resource, obj))


def facts(resource: str, obj: Object) -> Facts:
    obj = shown(resource, obj)
    fields = {path: field_text(obj, path) for path in selectable(by_resource(resource))}
    return Facts(obj.metadata.labels, fields)


class Selection(msgspec.Struct, frozen=True):
    """Which objects a list or a watch is about. `namespace` and `name` "" = any."""

    resource: str
    namespace: str = ""
    name: str = ""
    labels: LabelSelector = EVERYTHING
    fields: tuple[FieldTerm, ...] = ()

    def takes(self, key: ObjectKey) -> bool:
        """By its key alone."""
        return key.resource == self.resource and self.namespace in ("", key.namespace) and self.name in ("", key.name)

    def selects(self, key: ObjectKey, facts: Facts) -> bool:
        return (
            self.takes(key)
            and matches(self.labels, facts.labels)
            and all((facts.fields.get(t.path, "") == t.value) == t.equal for t in self.fields)
        )

    def selects_object(self, stored: Stored[Object]) -> bool:
        obj = shown(self.resource, stored.object)
        return self.takes(stored.key) and matches(self.labels, obj.metadata.labels) and field_matches(self.fields, obj)


def selection(kind: Kind, namespace: str, name: str = "", labels: str = "", fields: str = "") -> Selection:
    """From a request's texts. Raises: BadRequest."""
    return Selection(
        kind.resource,
        namespace if kind.namespaced else "",
        name,
        parse_label_selector(labels),
        parse_field_selector(fields, kind),
    )
