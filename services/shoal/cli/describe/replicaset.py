"""ReplicaSets, in full."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from shoal.cli.describe import page as blocks
from shoal.cli.describe.containers import containers, volumes
from shoal.cli.describe.page import Page
from shoal.model.event import Event
from shoal.model.pod import Pod, PodTemplateSpec
from shoal.model.replicaset import ReplicaSet
from shoal.model.selectors import format_label_selector


def describe(owner: ReplicaSet, pods: Sequence[Pod], events: Sequence[Event], now: datetime) -> str:
    """`pods`: those in its namespace; the ones that it controls are counted."""
    page = Page()
    meta = owner.metadata
    page.line(f"Name:\t{meta.name}")
    page.line(f"Namespace:\t{meta.namespace}")
    page.line(f"Selector:\t{format_label_selector(owner.spec.selector)}")
    blocks.mapping(page, "Labels", meta.labels)
    blocks.annotations(page, meta.annotations)
    blocks.controlled_by(page, meta)
    wanted = 1 if owner.spec.replicas is None else owner.spec.replicas
    page.line(f"Replicas:\t{owner.status.replicas} current / {wanted} desired")
    page.line(f"Pods Status:\t{_phases([p for p in pods if _controls(owner, p)])}")
    template(page, owner.spec.template)
    if owner.status.conditions:
        page.line("Conditions:")
        page.line("Type\tStatus\tReason", 1)
        page.line("----\t------\t------", 1)
        for c in owner.status.conditions:
            page.line(f"{c.type} \t{c.status}\t{c.reason}", 1)
    blocks.events(page, events, now)
    return page.text()


def _controls(owner: ReplicaSet, pod: Pod) -> bool:
    return any(ref.controller and ref.uid == owner.metadata.uid for ref in pod.metadata.owner_references)


def _phases(pods: Sequence[Pod]) -> str:
    count = Counter(pod.status.phase or "Pending" for pod in pods)
    shown = (("Running", "Running"), ("Pending", "Waiting"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))
    return " / ".join(f"{count[phase]} {word}" for phase, word in shown)


def template(page: Page, of: PodTemplateSpec) -> None:
    page.line("Pod Template:")
    blocks.mapping(page, "Labels", of.metadata.labels, indent="  ", gap="  ")
    if of.metadata.annotations:
        blocks.annotations(page, of.metadata.annotations, indent="  ", gap="  ")
    if of.spec.service_account_name:
        page.line(f"  Service Account:\t{of.spec.service_account_name}")
    if of.spec.init_containers:
        containers(page, "Init Containers", of.spec.init_containers, indent="  ")
    containers(page, "Containers", of.spec.containers, indent="  ")
    volumes(page, of.spec.volumes, indent="  ")
    if of.spec.priority_class_name:
        page.line(f"  Priority Class Name:\t{of.spec.priority_class_name}")
    blocks.mapping(page, "Node-Selectors", of.spec.node_selector, indent="  ")
    blocks.tolerations(page, of.spec.tolerations, indent="  ")
