"""Pods: what is wanted of one (spec), what is seen of it (status), and the copy that its node reads.

"" / 0 / None / () mean *not said*; `model.defaults` fills in what Kubernetes fills in, so that a reader of stored pods
finds `restart_policy`, `image_pull_policy`, `termination_grace_period_seconds` and their like set.
"""

from typing import Annotated

import msgspec

from shoal.model.container import Container, ContainerStatus
from shoal.model.field import REQUIRED, TIME, at_least, merge_key, one_of
from shoal.model.meta import Condition, Object, ObjectMeta, Record, always
from shoal.model.security import PodSecurityContext
from shoal.model.volume import Volume

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
DEFAULT_SCHEDULER = "default-scheduler"
DEFAULT_GRACE_S = 30


class Toleration(Record, frozen=True, kw_only=True):
    """`operator` "" is Equal; key "" with Exists tolerates everything; `effect` "" is every effect."""

    key: str = ""
    operator: Annotated[str, one_of("Equal", "Exists")] = ""
    value: str = ""
    effect: Annotated[str, one_of("NoSchedule", "PreferNoSchedule", "NoExecute")] = ""
    toleration_seconds: int | None = None


class HostAlias(Record, frozen=True, kw_only=True):
    ip: Annotated[str, REQUIRED] = ""
    hostnames: tuple[str, ...] = ()


class PodDNSConfigOption(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED] = ""
    value: str | None = None


class PodDNSConfig(Record, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: Annotated[tuple[PodDNSConfigOption, ...], merge_key("name")] = ()


class PodSchedulingGate(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED] = ""


class PodOS(Record, frozen=True, kw_only=True):
    name: Annotated[str, REQUIRED, one_of("linux")] = ""


class PodSpec(Record, frozen=True, kw_only=True):
    containers: Annotated[tuple[Container, ...], REQUIRED, merge_key("name")] = ()
    init_containers: Annotated[tuple[Container, ...], merge_key("name")] = ()
    volumes: Annotated[tuple[Volume, ...], merge_key("name", retain_keys=True)] = ()
    restart_policy: Annotated[str, one_of(*RESTART_POLICIES)] = ""
    termination_grace_period_seconds: Annotated[int, at_least(0)] | None = None
    dns_policy: Annotated[str, one_of(*DNS_POLICIES)] = ""
    dns_config: PodDNSConfig | None = None
    node_selector: dict[str, str] = {}
    node_name: str = ""
    service_account_name: str = ""
    service_account: str = ""  # Kubernetes' old name for it; folded into service_account_name on input
    automount_service_account_token: bool | None = None
    enable_service_links: bool | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool | None = None
    security_context: PodSecurityContext | None = None
    hostname: str = ""
    host_aliases: Annotated[tuple[HostAlias, ...], merge_key("ip")] = ()
    os: PodOS | None = None
    scheduler_name: str = ""
    scheduling_gates: Annotated[tuple[PodSchedulingGate, ...], merge_key("name")] = ()
    tolerations: tuple[Toleration, ...] = ()
    priority: int | None = None
    priority_class_name: str = ""
    preemption_policy: Annotated[str, one_of("PreemptLowerPriority", "Never")] = ""


class PodIP(Record, frozen=True, kw_only=True):
    ip: str = ""


class HostIP(Record, frozen=True, kw_only=True):
    ip: str = ""


class PodStatus(Record, frozen=True, kw_only=True):
    """`reason`: why the pod as a whole is where it is (Evicted, NodeLost, ...)."""

    phase: Annotated[str, one_of(*PHASES)] = ""
    conditions: Annotated[tuple[Condition, ...], merge_key("type")] = ()
    message: str = ""
    reason: str = ""
    observed_generation: int = 0
    nominated_node_name: str = ""
    host_ip: str = ""
    host_ips: Annotated[tuple[HostIP, ...], merge_key("ip")] = ()
    pod_ip: str = ""
    pod_ips: Annotated[tuple[PodIP, ...], merge_key("ip")] = ()
    start_time: Annotated[str, TIME] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    qos_class: Annotated[str, one_of("Guaranteed", "Burstable", "BestEffort")] = ""


class Pod(Object, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Pod")
    spec: Annotated[PodSpec, REQUIRED] = PodSpec()
    status: PodStatus = PodStatus()


class PodTemplateSpec(Record, frozen=True, kw_only=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[PodSpec, REQUIRED] = PodSpec()


class BoundPod(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """bound.<node>.pods.<ns>.<name>: the desired record of a pod of that node. `drained`: nothing routes to it any
    more, so that a deleted pod may be stopped.
    """

    pod: Pod
    drained: bool = False
