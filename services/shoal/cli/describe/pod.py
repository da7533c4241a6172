"""Pods, in full."""

from collections.abc import Sequence
from datetime import datetime

from shoal.cli.describe import page as blocks
from shoal.cli.describe.containers import containers, volumes
from shoal.cli.describe.page import NONE, Page, when
from shoal.model.age import human, parse_time
from shoal.model.event import Event
from shoal.model.pod import Pod


def describe(pod: Pod, events: Sequence[Event], now: datetime) -> str:
    page = Page()
    _head(page, pod)
    _status(page, pod, now)
    _addresses(page, pod)
    blocks.controlled_by(page, pod.metadata)
    if pod.status.nominated_node_name:
        page.line(f"NominatedNodeName:\t{pod.status.nominated_node_name}")

    def resolve(path: str) -> str:
        return field_of(pod, path)

    if pod.spec.init_containers:
        statuses = pod.status.init_container_statuses
        containers(page, "Init Containers", pod.spec.init_containers, statuses, resolve=resolve)
    containers(page, "Containers", pod.spec.containers, pod.status.container_statuses, resolve=resolve)
    _conditions(page, pod)
    volumes(page, pod.spec.volumes)
    page.line(f"QoS Class:\t{pod.status.qos_class}")
    blocks.mapping(page, "Node-Selectors", pod.spec.node_selector)
    blocks.tolerations(page, pod.spec.tolerations)
    blocks.events(page, events, now)
    return page.text()


def _head(page: Page, pod: Pod) -> None:
    spec, status = pod.spec, pod.status
    page.line(f"Name:\t{pod.metadata.name}")
    page.line(f"Namespace:\t{pod.metadata.namespace}")
    if spec.priority is not None:
        page.line(f"Priority:\t{spec.priority}")
    if spec.priority_class_name:
        page.line(f"Priority Class Name:\t{spec.priority_class_name}")
    if spec.service_account_name:
        page.line(f"Service Account:\t{spec.service_account_name}")
    page.line(f"Node:\t{f'{spec.node_name}/{status.host_ip}' if spec.node_name else NONE}")
    if status.start_time:
        page.line(f"Start Time:\t{when(status.start_time)}")
    blocks.mapping(page, "Labels", pod.metadata.labels)
    blocks.annotations(page, pod.metadata.annotations)


def _status(page: Page, pod: Pod, now: datetime) -> None:
    meta, status = pod.metadata, pod.status
    if meta.deletion_timestamp and status.phase not in {"Failed", "Succeeded"}:
        left = (parse_time(meta.deletion_timestamp) - now).total_seconds()  # it is when the grace period ends
        page.line(f"Status:\tTerminating ({f'within {human(left)}' if left >= 1 else f'lasts {human(-left)}'})")
        page.line(f"Termination Grace Period:\t{meta.deletion_grace_period_seconds or 0}s")
    else:
        page.line(f"Status:\t{status.phase}")
    if status.reason:
        page.line(f"Reason:\t{status.reason}")
    if status.message:
        page.line(f"Message:\t{status.message}")
    if pod.spec.security_context and (profile := pod.spec.security_context.seccomp_profile):
        page.line(f"SeccompProfile:\t{profile.type}")
        if profile.type == "Localhost":
            page.line(f"LocalhostProfile:\t{profile.localhost_profile}")


def _addresses(page: Page, pod: Pod) -> None:
    page.line(f"IP:\t{pod.status.pod_ip}")
    page.line("IPs:" + ("" if pod.status.pod_ips else f"\t{NONE}"))
    for address in pod.status.pod_ips:
        page.line(f"IP:\t{address.ip}", 1)


def _conditions(page: Page, pod: Pod) -> None:
    """Kubectl's two columns; and why, where a condition does not hold and says so: *pending* must have a reason."""
    if not pod.status.conditions:
        return
    why = any(c.status != "True" and (c.reason or c.message) for c in pod.status.conditions)
    page.line("Conditions:")
    page.line("Type\tStatus" + ("\tReason\tMessage" if why else ""), 1)
    for c in pod.status.conditions:
        reason = f"\t{c.reason}\t{c.message}" if why and c.status != "True" else "\t\t" if why else ""
        page.line(f"{c.type} \t{c.status} {reason}", 1)


def field_of(pod: Pod, path: str) -> str:
    """What a variable that names a field of its pod (`status.podIP`) has as its value, as far as it is known."""
    values = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": pod.status.host_ip,
        "status.podIP": pod.status.pod_ip,
        "status.podIPs": ",".join(address.ip for address in pod.status.pod_ips),
    }
    head, bracket, key = path.partition("['")
    if bracket:
        pairs = {"metadata.labels": pod.metadata.labels, "metadata.annotations": pod.metadata.annotations}
        return pairs.get(head, {}).get(key.removesuffix("']"), "")
    return values.get(path, "")
