"""Nodes, in full: conditions, what they have, what runs there and how much of the node it takes."""

from collections.abc import Sequence
from datetime import datetime

from shoal.cli.describe import page as blocks
from shoal.cli.describe.page import NONE, Page, when
from shoal.model.age import age
from shoal.model.event import Event
from shoal.model.node import Node
from shoal.model.pod import Pod, PodSpec
from shoal.model.quantity import format_bytes, format_milli
from shoal.model.resources import Resources, of, pod_requests

ROLE = "node-role.kubernetes.io/"


def describe(node: Node, pods: Sequence[Pod], events: Sequence[Event], now: datetime) -> str:
    """`pods`: those of this node."""
    page = Page()
    meta = node.metadata
    page.line(f"Name:\t{meta.name}")
    roles = sorted(label.removeprefix(ROLE) for label in meta.labels if label.startswith(ROLE))
    page.line(f"Roles:\t{','.join(roles) or NONE}")
    blocks.mapping(page, "Labels", meta.labels)
    blocks.annotations(page, meta.annotations)
    page.line(f"CreationTimestamp:\t{when(meta.creation_timestamp)}")
    _taints(page, node)
    page.line(f"Unschedulable:\t{str(node.spec.unschedulable).lower()}")
    _conditions(page, node)
    page.line("Addresses:")
    for address in node.status.addresses:
        page.line(f"{address.type}:\t{address.address}", 1)
    blocks.quantities(page, "Capacity", node.status.capacity, 0)
    blocks.quantities(page, "Allocatable", node.status.allocatable, 0)
    _system(page, node)
    if node.spec.pod_cidr:
        page.line(f"PodCIDR:\t{node.spec.pod_cidr}")
        page.line(f"PodCIDRs:\t{','.join(node.spec.pod_cidrs) or node.spec.pod_cidr}")
    running = [pod for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]
    _pods(page, node, running, now)
    _allocated(page, node, running)
    blocks.events(page, events, now)
    return page.text()


def _taints(page: Page, node: Node) -> None:
    ordered = sorted(node.spec.taints, key=lambda t: (t.effect, t.key))
    lines = [f"{t.key}={t.value}:{t.effect}" if t.value else f"{t.key}:{t.effect}" for t in ordered] or [NONE]
    page.line(f"Taints:\t{lines[0]}")
    for text in lines[1:]:
        page.line(f"\t{text}")


def _conditions(page: Page, node: Node) -> None:
    if not node.status.conditions:
        return
    page.line("Conditions:")
    page.line("Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage", 1)
    page.line("----\t------\t-----------------\t------------------\t------\t-------", 1)
    for c in node.status.conditions:
        times = f"{when(c.last_heartbeat_time)} \t{when(c.last_transition_time)}"
        page.line(f"{c.type} \t{c.status} \t{times} \t{c.reason} \t{c.message}", 1)


def _system(page: Page, node: Node) -> None:
    info = node.status.node_info
    if info is None:
        return
    page.line("System Info:")
    for title, value in (
        ("Machine ID", info.machine_id),
        ("System UUID", info.system_uuid),
        ("Boot ID", info.boot_id),
        ("Kernel Version", info.kernel_version),
        ("OS Image", info.os_image),
        ("Operating System", info.operating_system),
        ("Architecture", info.architecture),
        ("Container Runtime Version", info.container_runtime_version),
        ("Kubelet Version", info.kubelet_version),
        ("Kube-Proxy Version", info.kube_proxy_version),
        ("Sandbox", info.sandbox),
    ):
        if value or title not in {"Kube-Proxy Version", "Sandbox"}:
            page.line(f"{title}:\t{value}", 1)


def _pods(page: Page, node: Node, pods: Sequence[Pod], now: datetime) -> None:
    have = of(node.status.allocatable)
    page.line(f"Non-terminated Pods:\t({len(pods)} in total)")
    page.line("Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge", 1)
    page.line("---------\t----\t\t------------\t----------\t---------------\t-------------\t---", 1)
    for pod in sorted(pods, key=lambda p: (p.metadata.namespace, p.metadata.name)):
        asks, limits = pod_requests(pod.spec), pod_limits(pod.spec)
        page.line(
            f"{pod.metadata.namespace}\t{pod.metadata.name}\t"
            f"\t{_share(format_milli(asks.cpu_milli), asks.cpu_milli, have.cpu_milli)}"
            f"\t{_share(format_milli(limits.cpu_milli), limits.cpu_milli, have.cpu_milli)}"
            f"\t{_share(format_bytes(asks.memory_bytes), asks.memory_bytes, have.memory_bytes)}"
            f"\t{_share(format_bytes(limits.memory_bytes), limits.memory_bytes, have.memory_bytes)}"
            f"\t{age(pod.metadata.creation_timestamp, now)}",
            1,
        )


def _allocated(page: Page, node: Node, pods: Sequence[Pod]) -> None:
    have = of(node.status.allocatable)
    asks = sum((pod_requests(pod.spec) for pod in pods), Resources())
    limits = sum((pod_limits(pod.spec) for pod in pods), Resources())
    page.line("Allocated resources:")
    page.line("(Total limits may be over 100 percent, i.e., overcommitted.)", 1)
    page.line("Resource\tRequests\tLimits", 1)
    page.line("--------\t--------\t------", 1)
    for name, form, field in (
        ("cpu", format_milli, "cpu_milli"),
        ("memory", format_bytes, "memory_bytes"),
        ("ephemeral-storage", format_bytes, "ephemeral_storage_bytes"),
    ):
        asked, limit, there = getattr(asks, field), getattr(limits, field), getattr(have, field)
        page.line(f"{name}\t{_share(form(asked), asked, there)}\t{_share(form(limit), limit, there)}", 1)


def pod_limits(spec: PodSpec) -> Resources:
    """As `pod_requests`, of limits; a container without one counts as 0."""
    total = sum((of(c.resources.limits) for c in spec.containers), Resources())
    for container in spec.init_containers:
        total = total.at_least(of(container.resources.limits))
    return total


def _share(text: str, part: int, whole: int) -> str:
    return f"{text} ({part * 100 // whole if whole else 0}%)"
