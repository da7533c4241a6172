"""What becomes of a document: the record to store, or the reason why not. Pure.

The rules are those of Kubernetes' registry (pkg/registry/rest: BeforeCreate, BeforeUpdate; pkg/apis/core/validation):
what the system sets (uid, creationTimestamp, generation, deletionTimestamp) no writer changes; generation counts
changes of spec after defaulting, nothing else; what a kind calls immutable stays (`model.validation.check_update`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace as changed

from shoal.api.owners import check_owners
from shoal.errors import BadRequest, Conflict, Forbidden, Invalid
from shoal.model.manifest import Document, decode_input
from shoal.model.meta import Object, ObjectMeta
from shoal.model.patch import merge_patch, three_way
from shoal.model.problem import ManifestErrors
from shoal.model.registry import Kind, encode, kind_of_object
from shoal.model.validation import check_update
from shoal.names import HOST_UID, LAST_APPLIED

CREATED, CONFIGURED, UNCHANGED = "created", "configured", "unchanged"

NAME_BASE_MAX = 58  # of a generateName, as Kubernetes cuts it: five characters more make 63

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Admission(msgspec.Struct, frozen=True):
    """`object` is the record to store; the live one's where `result` is unchanged."""

    object: Object
    result: str
    warnings: tuple[str, ...] = ()


def create(obj: Object, *, uid: str, now: str, suffix: str = "") -> Object:
    """A new object's record. `suffix`: five characters for a `generateName`.

    Raises: BadRequest, Forbidden for kinds that people do not make, Invalid for an owner it cannot have.
    """
    kind = kind_of_object(obj)
    if kind.not_made:
        raise Forbidden(f"nobody creates {kind.resource}: {kind.not_made}")
    meta = obj.metadata
    if meta.resource_version:
        raise BadRequest("resourceVersion should not be set on objects to be created", path="metadata.resourceVersion")
    check_owners(obj)
    made = changed(
        meta,
        name=meta.name or meta.generate_name[:NAME_BASE_MAX] + suffix,
        uid=uid,
        creation_timestamp=now,
        generation=1 if hasattr(obj, "spec") else 0,
        deletion_timestamp=None,
        deletion_grace_period_seconds=None,
    )
    return bare(changed(obj, metadata=made))


def update(live: Object, new: Object) -> Object:
    """The record of `new` in the place of `live`; the same as `bare(live)` if nothing differs.

    Raises: ManifestErrors (what cannot be changed), Invalid, Conflict (another uid), BadRequest (another name).
    """
    old, meta = live.metadata, new.metadata
    if meta.uid and meta.uid != old.uid:
        raise Conflict(f"the object with uid {meta.uid} is gone: {old.name} has uid {old.uid} now", path="metadata.uid")
    if (meta.name, meta.namespace) != (old.name, old.namespace):
        raise BadRequest(f"the name of the object ({meta.name}) cannot change ({old.name})", path="metadata.name")
    _check_finalizers(old, meta)
    check_owners(new, old.owner_references)
    kept = changed(
        meta,
        uid=old.uid,
        creation_timestamp=old.creation_timestamp,
        generation=old.generation,
        deletion_timestamp=old.deletion_timestamp,
        deletion_grace_period_seconds=old.deletion_grace_period_seconds,
    )
    made = bare(changed(new, metadata=kept))
    if problems := check_update(live, made):
        raise ManifestErrors(problems)
    if HOST_UID in old.annotations and made.metadata.annotations.get(HOST_UID) != old.annotations[HOST_UID]:
        raise Invalid("cannot be changed", path=f"metadata.annotations['{HOST_UID}']")
    if getattr(made, "spec", None) != getattr(live, "spec", None):
        made = changed(made, metadata=changed(made.metadata, generation=old.generation + 1))
    return made


def apply(document: Document, live: Object | None, *, uid: str, now: str) -> Admission:
    """`kubectl apply`: what the document says holds, what it said before and says no more goes, the rest stays.

    Raises: Refused, Conflict.
    """
    obj = document.object
    text = last_applied(document.raw)
    if live is None:
        return Admission(create(_annotated(obj, text), uid=uid, now=now), CREATED, document.warnings)
    meta = live.metadata
    if document.uid and document.uid != meta.uid:
        raise Conflict(
            f"the document is about uid {document.uid}; {meta.name} has uid {meta.uid} now", path="metadata.uid"
        )
    if document.resource_version and document.resource_version != meta.resource_version:
        raise Conflict(
            f"the document was made from revision {document.resource_version}; it is {meta.resource_version} now",
            path="metadata.resourceVersion",
        )
    previous, warnings = _previous(live)
    merged = three_way(previous, stored_form(live), _with_annotation(document.raw, text), document.kind)
    made = update(live, decode_input(document.kind, merged))
    if same(live, made):
        return Admission(bare(live), UNCHANGED, document.warnings)
    if meta.deletion_timestamp is not None:
        warnings = (*warnings, f"{document.kind.kind} {meta.name} is being deleted: this change goes with it")
    return Admission(made, CONFIGURED, (*document.warnings, *warnings))


def patch(kind: Kind, live: Object, change: Mapping[str, Any]) -> Object:
    """RFC 7396 on the stored form; a `status` in it is left out. Raises: as `update`; Invalid for a wrong form."""
    change = {k: v for k, v in change.items() if k != "status"}
    if isinstance(meta := change.get("metadata"), Mapping):
        change["metadata"] = {k: v for k, v in meta.items() if k not in _NOT_STORED}
    return update(live, decode_input(kind, merge_patch(stored_form(live), change)))


def patch_status(kind: Kind, status: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A status with the patch's `status` merged in. Raises: Invalid for a kind without one, or a wrong form."""
    if kind.status_type is None:
        raise Invalid(f"{kind.resource} have no status")
    merged: dict[str, Any] = merge_patch(status, change.get("status") or {})
    try:
        msgspec.convert(merged, kind.status_type)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), path="status") from None
    return merged


def scale(kind: Kind, live: Object, replicas: int, current: int | None) -> Object:
    """Raises: Invalid for what has no replicas, Conflict where `current` is not what it has."""
    spec = getattr(live, "spec", None)
    if spec is None or not hasattr(spec, "replicas"):
        raise Invalid(f"{kind.resource} cannot be scaled")
    if not 0 <= replicas <= 2**31 - 1:
        raise Invalid(f"found {replicas}, expected 0 or more", path="spec.replicas")
    has = 1 if spec.replicas is None else spec.replicas
    if current is not None and current != has:
        raise Conflict(f"expected {current} replicas, there are {has}", path="spec.replicas")
    changes: dict[str, Any] = {"spec": changed(spec, replicas=replicas)}
    return update(live, changed(live, **changes))


# --- forms of an object -------------------------------------------------------------------------------------------------


def bare(obj: Object) -> Object:
    """As it is stored: without status, resourceVersion and their like."""
    made = changed(obj, metadata=changed(obj.metadata, resource_version="", managed_fields=(), self_link=""))
    status_type = kind_of_object(obj).status_type
    nothing: dict[str, Any] = {} if status_type is None else {"status": status_type()}
    return changed(made, **nothing)


def stored_form(obj: Object) -> dict[str, Any]:
    """The record as JSON values."""
    made: dict[str, Any] = msgspec.json.decode(encode(obj))
    return made


def same(one: Object, other: Object) -> bool:
    return encode(one) == encode(other)


def last_applied(raw: Mapping[str, Any]) -> str:
    """The annotation's value, as kubectl writes it: what the author said, keys sorted, and a newline."""
    meta = raw.get("metadata") or {}
    said = {**raw, "metadata": {**meta, "annotations": dict(meta.get("annotations") or {})}}
    return _encode_sorted(said).decode() + "\n"


_NOT_STORED = ("resourceVersion", "managedFields", "selfLink")


def _annotated(obj: Object, text: str) -> Object:
    annotations = {**obj.metadata.annotations, LAST_APPLIED: text}
    return changed(obj, metadata=changed(obj.metadata, annotations=annotations))


def _with_annotation(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    meta = raw.get("metadata") or {}
    return {**raw, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), LAST_APPLIED: text}}}


def _previous(live: Object) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """What the author said the time before, None if that is not known; and what to tell about it."""
    name, text = live.metadata.name, live.metadata.annotations.get(LAST_APPLIED)
    if text is None:
        return None, (f"{name} was not made by apply: what this document leaves out stays as it is",)
    try:
        return msgspec.json.decode(text, type=dict[str, Any]), ()
    except msgspec.MsgspecError:
        return None, (f"the annotation {LAST_APPLIED} of {name} could not be read, and was written anew",)


def _check_finalizers(old: ObjectMeta, new: ObjectMeta) -> None:
    if old.deletion_timestamp is None:
        return
    if added := sorted(set(new.finalizers) - set(old.finalizers)):
        raise Invalid(
            f"no new finalizers can be added if the object is being deleted, found {', '.join(added)}",
            path="metadata.finalizers",
        )
