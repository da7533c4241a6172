"""kubectl's columns for each kind. A kind without an entry in `COLUMNS` shows NAME and AGE."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shoal.model.age import age
from shoal.model.event import Event, ObjectReference
from shoal.model.meta import Object
from shoal.model.namespace import Namespace
from shoal.model.node import Node
from shoal.model.pod import Pod
from shoal.model.podsummary import summarise
from shoal.model.registry import KINDS, Kind, kind_of_object
from shoal.model.replicaset import ReplicaSet
from shoal.model.selectors import format_label_selector

NONE = "<none>"
UNKNOWN = "<unknown>"


class Column(msgspec.Struct, frozen=True):
    """`cell` answers an int where `type` is integer. `wide`: only with `-o wide` (priority 1 in Kubernetes' tables)."""

    name: str
    cell: Callable[[Any, dt.datetime], str | int]
    wide: bool = False
    type: str = "string"
    format: str = ""
    description: str = ""


def columns(kind: Kind, *, wide: bool = False) -> tuple[Column, ...]:
    known = COLUMNS.get(kind.type, (_NAME, _AGE))
    return tuple(column for column in known if wide or not column.wide)


def row(obj: Object, *, now: dt.datetime, wide: bool = False) -> tuple[str, ...]:
    return tuple(str(column.cell(obj, now)) for column in columns(kind_of_object(obj), wide=wide))


# --- common -----------------------------------------------------------------------------------------------------------


def _name(obj: Object, _now: dt.datetime) -> str:
    return obj.metadata.name


def _age(obj: Object, now: dt.datetime) -> str:
    return age(obj.metadata.creation_timestamp, now)


_NAME = Column("NAME", _name, format="name")
_AGE = Column("AGE", _age)


def _joined(texts: Sequence[str]) -> str:
    return ",".join(texts) or NONE


# --- pods -------------------------------------------------------------------------------------------------------------


def _ready(pod: Pod, _now: dt.datetime) -> str:
    summary = summarise(pod)
    return f"{summary.ready}/{summary.total}"


def _restarts(pod: Pod, now: dt.datetime) -> str:
    summary = summarise(pod)
    if summary.restarts and summary.last_restart:
        return f"{summary.restarts} ({age(summary.last_restart, now)} ago)"
    return str(summary.restarts)


def _pod_ip(pod: Pod, _now: dt.datetime) -> str:
    return pod.status.pod_ips[0].ip if pod.status.pod_ips else pod.status.pod_ip or NONE


_POD = (
    _NAME,
    Column("READY", _ready),
    Column("STATUS", lambda pod, _: summarise(pod).status),
    Column("RESTARTS", _restarts),
    _AGE,
    Column("IP", _pod_ip, wide=True),
    Column("NODE", lambda pod, _: pod.spec.node_name or NONE, wide=True),
    Column("NOMINATED NODE", lambda pod, _: pod.status.nominated_node_name or NONE, wide=True),
    Column("READINESS GATES", lambda _pod, _: NONE, wide=True),
)

# --- replica sets -------------------------------------------------------------------------------------------------------


def _containers(replica_set: ReplicaSet, _now: dt.datetime) -> str:
    return ",".join(c.name for c in replica_set.spec.template.spec.containers)


def _images(replica_set: ReplicaSet, _now: dt.datetime) -> str:
    return ",".join(c.image for c in replica_set.spec.template.spec.containers)


_REPLICA_SET = (
    _NAME,
    Column("DESIRED", lambda rs, _: rs.spec.replicas or 0, type="integer"),
    Column("CURRENT", lambda rs, _: rs.status.replicas, type="integer"),
    Column("READY", lambda rs, _: rs.status.ready_replicas, type="integer"),
    _AGE,
    Column("CONTAINERS", _containers, wide=True),
    Column("IMAGES", _images, wide=True),
    Column("SELECTOR", lambda rs, _: format_label_selector(rs.spec.selector), wide=True),
)

# --- nodes --------------------------------------------------------------------------------------------------------------

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE = "kubernetes.io/role"


def _node_status(node: Node, _now: dt.datetime) -> str:
    ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
    word = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if node.spec.unschedulable else word


def _roles(node: Node, _now: dt.datetime) -> str:
    labels = node.metadata.labels
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get(_ROLE, ""))
    return _joined(sorted(filter(None, roles)))


def _address(kind: str) -> Callable[[Node, dt.datetime], str]:
    return lambda node, _: next((a.address for a in node.status.addresses if a.type == kind), NONE)


def _info(field: str) -> Callable[[Node, dt.datetime], str]:
    return lambda node, _: (getattr(node.status.node_info, field) if node.status.node_info else "") or UNKNOWN


_NODE = (
    _NAME,
    Column("STATUS", _node_status),
    Column("ROLES", _roles),
    _AGE,
    Column("VERSION", lambda node, _: node.status.node_info.kubelet_version if node.status.node_info else ""),
    Column("INTERNAL-IP", _address("InternalIP"), wide=True),
    Column("EXTERNAL-IP", _address("ExternalIP"), wide=True),
    Column("OS-IMAGE", _info("os_image"), wide=True),
    Column("KERNEL-VERSION", _info("kernel_version"), wide=True),
    Column("CONTAINER-RUNTIME", _info("container_runtime_version"), wide=True),
    Column("SANDBOX", _info("sandbox"), wide=True),
)

# --- namespaces and events ------------------------------------------------------------------------------------------------


def _namespace_status(namespace: Namespace, _now: dt.datetime) -> str:
    deleting = namespace.metadata.deletion_timestamp is not None
    return "Terminating" if deleting else namespace.status.phase or "Active"


_NAMESPACE = (_NAME, Column("STATUS", _namespace_status), _AGE)


def _first_seen(event: Event, now: dt.datetime) -> str:
    return age(event.first_timestamp or event.event_time, now)


def _last_seen(event: Event, now: dt.datetime) -> str:
    if event.series is not None and event.series.last_observed_time:
        return age(event.series.last_observed_time, now)
    return age(event.last_timestamp or event.first_timestamp or event.event_time, now)


def _involved(event: Event, _now: dt.datetime) -> str:
    about: ObjectReference = event.involved_object
    resource = next((k.singular for k in KINDS if k.kind == about.kind), about.kind.lower())
    return f"{resource}/{about.name}" if resource else about.name


def _source(event: Event, _now: dt.datetime) -> str:
    component = event.source.component or event.reporting_component
    host = event.source.host or event.reporting_instance
    return ", ".join(filter(None, (component, host)))


def _count(event: Event, _now: dt.datetime) -> int:
    return (event.series.count if event.series else event.count) or 1


_EVENT = (
    Column("LAST SEEN", _last_seen),
    Column("TYPE", lambda event, _: event.type),
    Column("REASON", lambda event, _: event.reason),
    Column("OBJECT", _involved),
    Column("SUBOBJECT", lambda event, _: event.involved_object.field_path, wide=True),
    Column("SOURCE", _source, wide=True),
    Column("MESSAGE", lambda event, _: event.message.strip()),
    Column("FIRST SEEN", _first_seen, wide=True),
    Column("COUNT", _count, wide=True, type="integer"),
    Column("NAME", _name, wide=True, format="name"),
)

COLUMNS: Mapping[type[Object], tuple[Column, ...]] = {
    Pod: _POD,
    ReplicaSet: _REPLICA_SET,
    Node: _NODE,
    Namespace: _NAMESPACE,
    Event: _EVENT,
}
