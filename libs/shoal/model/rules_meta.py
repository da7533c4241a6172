"""Rules of what every object has: metadata, labels, owner references, selectors."""

from collections.abc import Mapping

from shoal.model import naming
from shoal.model.meta import LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference
from shoal.model.problem import Path, Problem, clipped
from shoal.model.rules import Found, duplicates, named, rule

ANNOTATIONS_BYTES_MAX = 256 * 1024
_BARE_FINALIZERS = ("foregroundDeletion", "orphan", "kubernetes")


def label_problems(labels: Mapping[str, str], at: Path) -> Found:
    for key, value in labels.items():
        yield from named(key, naming.qualified_name(key), at)
        yield from named(value, naming.label_value(value), at / key)


@rule(ObjectMeta)
def labels_and_annotations(meta: ObjectMeta, at: Path) -> Found:
    yield from label_problems(meta.labels, at / "labels")
    for key in meta.annotations:
        yield from named(key, naming.qualified_name(key.lower()), at / "annotations")
    size = sum(len(k.encode()) + len(v.encode()) for k, v in meta.annotations.items())
    if size > ANNOTATIONS_BYTES_MAX:
        yield Problem(at / "annotations", f"{size} bytes, expected at most {ANNOTATIONS_BYTES_MAX} together")


@rule(ObjectMeta)
def finalizers_are_qualified(meta: ObjectMeta, at: Path) -> Found:
    for index, finalizer in enumerate(meta.finalizers):
        wrong = naming.qualified_name(finalizer)
        if not wrong and "/" not in finalizer and finalizer not in _BARE_FINALIZERS:
            wrong = "is not a finalizer: expected a domain and a name, such as example.com/cleanup"
        yield from named(finalizer, wrong, at / "finalizers" / index)


@rule(ObjectMeta)
def one_controller(meta: ObjectMeta, at: Path) -> Found:
    controllers = [index for index, owner in enumerate(meta.owner_references) if owner.controller]
    for index in controllers[1:]:
        yield Problem(at / "ownerReferences" / index / "controller", "a second controller, expected one at most")
    owners = [(o.uid, at / "ownerReferences" / i / "uid") for i, o in enumerate(meta.owner_references)]
    yield from duplicates(owners, "owner")


@rule(OwnerReference)
def owner_is_named(owner: OwnerReference, at: Path) -> Found:
    for wire, value in (
        ("apiVersion", owner.api_version),
        ("kind", owner.kind),
        ("name", owner.name),
        ("uid", owner.uid),
    ):
        if not value:
            yield Problem(at / wire, "empty, expected text")


@rule(LabelSelector)
def selector_labels(selector: LabelSelector, at: Path) -> Found:
    yield from label_problems(selector.match_labels, at / "matchLabels")


@rule(LabelSelectorRequirement)
def selector_requirement(requirement: LabelSelectorRequirement, at: Path) -> Found:
    yield from named(requirement.key, naming.qualified_name(requirement.key), at / "key")
    wants_values = requirement.operator in ("In", "NotIn")
    if wants_values and not requirement.values:
        yield Problem(at / "values", f"missing, expected at least one value with {requirement.operator}")
    if not wants_values and requirement.values:
        yield Problem(
            at / "values", f"found {len(requirement.values)}, expected none with {clipped(requirement.operator)}"
        )
    for index, value in enumerate(requirement.values):
        yield from named(value, naming.label_value(value), at / "values" / index)
