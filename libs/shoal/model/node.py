"""Nodes: made by the api when a host registers, described by the host's own agent."""

from typing import Annotated

import msgspec

from shoal.model.container import Quantities
from shoal.model.field import MERGE_SET, REQUIRED, TIME, merge_key, one_of
from shoal.model.meta import Condition, Object, Record, always

RANGE_RESTS_S = 3600  # a removed node's pod range is given to nobody for that long


class Taint(Record, frozen=True, kw_only=True):
    key: Annotated[str, REQUIRED] = ""
    value: str = ""
    effect: Annotated[str, REQUIRED, one_of("NoSchedule", "PreferNoSchedule", "NoExecute")] = ""
    time_added: Annotated[str, TIME] | None = None


class NodeSpec(Record, frozen=True, kw_only=True):
    pod_cidr: str = ""
    pod_cidrs: Annotated[tuple[str, ...], MERGE_SET] = ()
    provider_id: str = ""
    unschedulable: bool = False
    taints: Annotated[tuple[Taint, ...], merge_key("key")] = ()


class NodeAddress(Record, frozen=True, kw_only=True):
    """`type`: InternalIP, ExternalIP, Hostname."""

    type: str = ""
    address: str = ""


class NodeSystemInfo(Record, frozen=True, kw_only=True):
    """`kubelet_version` is Shoal's. `sandbox` is ours: how pods are made there, `fast` or `engine`."""

    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = ""
    architecture: str = ""
    sandbox: str = ""


class NodeStatus(Record, frozen=True, kw_only=True):
    """`capacity` and `allocatable` are quantities of cpu, memory, ephemeral-storage and pods."""

    capacity: Quantities = {}
    allocatable: Quantities = {}
    phase: str = ""
    conditions: Annotated[tuple[Condition, ...], merge_key("type")] = ()
    addresses: Annotated[tuple[NodeAddress, ...], merge_key("type")] = ()
    node_info: NodeSystemInfo | None = None


class Node(Object, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Node")
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class PodRange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """shared.podranges._.<node>: pods in `cidr` are reached by way of `address`, the node's own."""

    node: str
    cidr: str
    address: str = ""
