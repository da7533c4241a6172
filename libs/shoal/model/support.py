"""Every field of a Pod that Kubernetes (up to 1.37) has, and what Shoal makes of it: one table, for the docs.

python -m shoal.model.support          the table as Markdown
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from shoal.model.pod import Pod
from shoal.model.shape import Field, ListOf, MapOf, Scalar, Shape, StructOf, fields, walk
from shoal.model.unsupported import UNSUPPORTED, UNSUPPORTED_VALUES

# What supported means where it is not all that Kubernetes means by it.
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "spec.automountServiceAccountToken": "accepted; there are no tokens to mount",
        "spec.containers[].env[].valueFrom.fieldRef.fieldPath": (
            "metadata.name, .namespace, .uid, .labels['KEY'], .annotations['KEY'], spec.nodeName, "
            "spec.serviceAccountName, status.hostIP(s), status.podIP(s)"
        ),
        "spec.containers[].resources.limits": (
            "cpu, memory; ephemeral-storage counts for the place alone, the engine cannot limit it; others are refused by name"
        ),
        "spec.containers[].resources.requests": "cpu, memory, ephemeral-storage; other resources are refused by name",
        "spec.dnsPolicy": "ClusterFirst is the host's resolvers until services have names",
        "spec.enableServiceLinks": "accepted; there are no services yet",
        "spec.initContainers": "one after the other, each to its end; the same fields as containers",
        "spec.preemptionPolicy": "accepted; nothing is preempted yet",
        "spec.priority": "orders what waits for a place; nothing is preempted yet",
        "spec.priorityClassName": "system-cluster-critical and system-node-critical; other classes come later",
        "spec.schedulerName": "default-scheduler alone",
        "spec.securityContext.fsGroup": "of emptyDir volumes; a hostPath keeps its owner, as in Kubernetes",
        "spec.securityContext.fsGroupChangePolicy": "accepted; an emptyDir is new, so both mean the same",
        "spec.securityContext.sysctls": "of the pod's own namespaces: net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*",
        "spec.serviceAccount": "the old name of serviceAccountName",
        "spec.serviceAccountName": "accepted; it names who the pod is to env",
        "spec.tolerations[].tolerationSeconds": "accepted; nothing is evicted by taints yet",
        "spec.volumes[].emptyDir.sizeLimit": "of medium Memory; on disk it is accepted, and nothing is limited by it yet",
    }
)
_SAME = "spec.initContainers[]"  # as containers[], not listed twice


class FieldRow(msgspec.Struct, frozen=True):
    """`note`: the values that are known, a restriction, or why the field is refused."""

    path: str
    supported: bool
    note: str = ""


def pod_fields() -> list[FieldRow]:
    """Below `spec`, sorted by path."""
    rows = []
    for path, _of, field in walk(StructOf(Pod)):
        if path.startswith("spec."):
            rows.append(FieldRow(path, True, NOTES.get(path) or _values(field)))
            rows += _refused(path, field.shape)
    rows += [FieldRow(f"spec.{wire}", False, why) for wire, why in UNSUPPORTED[_spec_type()].items()]
    return sorted((row for row in rows if not row.path.startswith(_SAME)), key=lambda row: row.path)


def _spec_type() -> type[msgspec.Struct]:
    shape = fields(Pod)["spec"].shape
    assert isinstance(shape, StructOf)
    return shape.type


def _refused(path: str, shape: Shape) -> Iterator[FieldRow]:
    match shape:
        case StructOf(type=of):
            for wire, why in UNSUPPORTED.get(of, {}).items():
                yield FieldRow(f"{path}.{wire}", False, why)
            for (owner, wire), values in UNSUPPORTED_VALUES.items():
                if owner is of:
                    yield from (FieldRow(f"{path}.{wire}: {value}", False, why) for value, why in values.items())
        case ListOf(item=item):
            yield from _refused(path + "[]", item)
        case MapOf(value=value):
            yield from _refused(path + "{}", value)


def _values(field: Field) -> str:
    shape = field.shape
    return ", ".join(v or '""' for v in shape.one_of) if isinstance(shape, Scalar) else ""


def markdown() -> str:
    lines = ["| field of a Pod | supported | |", "|---|---|---|"]
    lines += (f"| `{row.path}` | {'yes' if row.supported else 'no'} | {row.note} |" for row in pod_fields())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
