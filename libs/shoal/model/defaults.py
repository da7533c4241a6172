"""What Kubernetes fills in where a manifest is silent. By the struct a value stands in, so that every kind with a pod
template gets a pod's defaults.

Works on JSON values in the form that `model.structure` cleaned. Filling twice is filling once.
What needs a clock or chance (uid, timestamps, generation, names by generateName) is the api's.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.model.container import Container, ContainerPort, ObjectFieldSelector
from shoal.model.meta import Object
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.model.node import NodeSpec
from shoal.model.pod import DEFAULT_GRACE_S, DEFAULT_SCHEDULER, Pod, PodSpec, PodStatus, PodTemplateSpec
from shoal.model.registry import Kind, kind_of_object
from shoal.model.replicaset import ReplicaSet
from shoal.model.resources import qos_class
from shoal.model.shape import ListOf, MapOf, Shape, StructOf, fields
from shoal.model.volume import Volume

Json = dict[str, Any]

PRIORITY_CLASSES: Mapping[str, int] = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
NAME_LABEL = "kubernetes.io/metadata.name"


def fill(document: Mapping[str, Any], kind: Kind) -> Json:
    """A filled copy."""
    filled = copy.deepcopy(dict(document))
    filled["apiVersion"], filled["kind"] = kind.api_version, kind.kind
    filled.setdefault("metadata", {})
    _each(filled, StructOf(kind.type), DEFAULTS)
    return filled


def fold(document: Json, kind: Kind) -> None:
    """Other names for one thing become the one name, in place: before anything is compared."""
    document["apiVersion"], document["kind"] = kind.api_version, kind.kind
    _each(document, StructOf(kind.type), ALIASES)


Table = Mapping[type[msgspec.Struct], Callable[[Json], None]]


def _each(value: Any, shape: Shape, table: Table) -> None:
    """Outer before inner: a pod's host network decides its containers' host ports."""
    match shape:
        case StructOf(type=of) if isinstance(value, dict):
            if own := table.get(of):
                own(value)
            known = _composed(of)
            for wire, found in value.items():
                if wire in known:
                    _each(found, known[wire], table)
        case ListOf(item=item) if isinstance(value, list):
            for element in value:
                _each(element, item, table)
        case MapOf(value=item) if isinstance(value, dict):
            for element in value.values():
                _each(element, item, table)


@functools.cache
def _composed(of: type[msgspec.Struct]) -> Mapping[str, Shape]:
    """The fields that hold structs."""
    return {wire: field.shape for wire, field in fields(of).items() if _holds_struct(field.shape)}


def _holds_struct(shape: Shape) -> bool:
    match shape:
        case ListOf(item=inner) | MapOf(value=inner):
            return _holds_struct(inner)
        case _:
            return isinstance(shape, StructOf)


def initial_status(obj: Object) -> msgspec.Struct | None:
    """What a new object's status says before anybody has reported: None for kinds without one."""
    match obj:
        case Pod(spec=spec):
            return PodStatus(phase="Pending", qos_class=qos_class(spec))
        case Namespace(metadata=meta):
            return NamespaceStatus(phase="Terminating" if meta.deletion_timestamp else "Active")
        case _:
            status_type = kind_of_object(obj).status_type
            return status_type() if status_type is not None else None


def _unless(value: Json, **defaults: Any) -> None:
    """Sets what is absent or empty text."""
    for wire, default in defaults.items():
        if value.get(wire) in (None, ""):
            value[wire] = default


def _pod_spec(spec: Json) -> None:
    _unless(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=DEFAULT_GRACE_S,
        dnsPolicy="ClusterFirst",
        schedulerName=DEFAULT_SCHEDULER,
        enableServiceLinks=True,
        serviceAccountName="default",
        securityContext={},  # kubectl 1.33's debug cannot do without
        priority=PRIORITY_CLASSES.get(spec.get("priorityClassName", ""), 0),
        preemptionPolicy="PreemptLowerPriority",
    )
    if spec.get("hostNetwork"):
        for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
            for port in container.get("ports", ()):
                if not port.get("hostPort") and "containerPort" in port:
                    port["hostPort"] = port["containerPort"]


def _service_account(spec: Json) -> None:
    if account := spec.pop("serviceAccount", ""):
        _unless(spec, serviceAccountName=account)


def _container(container: Json) -> None:
    _unless(
        container,
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy=pull_policy(container.get("image", "")),
    )
    resources = container.setdefault("resources", {})
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **resources.get("requests", {})}


def pull_policy(image: str) -> str:
    """Always for the tag `latest`, said or not; an image by digest, or by any other tag, does not change."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _volume(volume: Json) -> None:
    if not any(wire in volume for wire in fields(Volume) if wire != "name"):
        volume["emptyDir"] = {}


def _replica_set(replica_set: Json) -> None:
    spec = replica_set.setdefault("spec", {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    labels = spec.get("template", {}).get("metadata", {}).get("labels")
    if labels and not replica_set["metadata"].get("labels"):
        replica_set["metadata"]["labels"] = dict(labels)


def _namespace(namespace: Json) -> None:
    spec = namespace.setdefault("spec", {})
    if not spec.get("finalizers"):
        spec["finalizers"] = ["kubernetes"]
    if name := namespace["metadata"].get("name"):
        namespace["metadata"].setdefault("labels", {})[NAME_LABEL] = name


def _node_spec(spec: Json) -> None:
    if cidrs := spec.get("podCIDRs"):
        _unless(spec, podCIDR=cidrs[0])
    elif cidr := spec.get("podCIDR"):
        spec["podCIDRs"] = [cidr]


ALIASES: Table = {PodSpec: _service_account}

DEFAULTS: Table = {
    Pod: lambda pod: _unless(pod, spec={}),
    PodTemplateSpec: lambda template: _unless(template, spec={}),
    PodSpec: _pod_spec,
    Container: _container,
    ContainerPort: lambda port: _unless(port, protocol="TCP"),
    ObjectFieldSelector: lambda selector: _unless(selector, apiVersion="v1"),
    Volume: _volume,
    ReplicaSet: _replica_set,
    Namespace: _namespace,
    NodeSpec: _node_spec,
}
