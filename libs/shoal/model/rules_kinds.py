"""Rules of the kinds themselves, Pod aside (all of a pod's are its spec's)."""

from shoal.model import naming
from shoal.model.event import Event
from shoal.model.meta import LabelSelector
from shoal.model.namespace import Namespace
from shoal.model.node import NodeSpec, Taint
from shoal.model.problem import Path, Problem, clipped
from shoal.model.replicaset import ReplicaSetSpec
from shoal.model.rules import Found, duplicates, named, rule
from shoal.model.selectors import format_label_selector, matches


@rule(ReplicaSetSpec)
def selector_matches_template(spec: ReplicaSetSpec, at: Path) -> Found:
    selector, labels = spec.selector, spec.template.metadata.labels
    if not (selector.match_labels or selector.match_expressions):
        yield Problem(at / "selector", "selects every pod, expected labels of its template")
    elif _well_formed(selector) and not matches(selector, labels):
        has = ", ".join(f"{k}={v}" for k, v in labels.items()) or "none"
        yield Problem(
            at / "template" / "metadata" / "labels",
            f"found {has}, expected labels that spec.selector ({format_label_selector(selector)}) selects",
            beside=at / "selector",
        )


def _well_formed(selector: LabelSelector) -> bool:
    """Else its own rule has spoken."""
    return all(e.values or e.operator not in ("In", "NotIn") for e in selector.match_expressions)


@rule(ReplicaSetSpec)
def template_is_replaceable(spec: ReplicaSetSpec, at: Path) -> Found:
    policy = spec.template.spec.restart_policy
    if policy not in ("", "Always"):
        yield Problem(at / "template" / "spec" / "restartPolicy", f"found {policy}, expected Always in a ReplicaSet")


@rule(Namespace)
def namespace_name(namespace: Namespace, at: Path) -> Found:
    name = namespace.metadata.name
    if name and not naming.dns_subdomain(name):
        yield from named(name, naming.dns_label(name), at / "metadata" / "name")


@rule(NodeSpec)
def node_spec(spec: NodeSpec, at: Path) -> Found:
    for index, network in enumerate(spec.pod_cidrs):
        yield from named(network, naming.cidr(network), at / "podCIDRs" / index)
    if spec.pod_cidr and spec.pod_cidrs and spec.pod_cidr != spec.pod_cidrs[0]:
        yield Problem(at / "podCIDR", f"found {clipped(spec.pod_cidr)}, expected the first of podCIDRs")
    taints = (((t.key, t.effect), at / "taints" / i) for i, t in enumerate(spec.taints) if t.key)
    yield from duplicates(taints, "taint")


@rule(Taint)
def taint(taint: Taint, at: Path) -> Found:
    if taint.key:
        yield from named(taint.key, naming.qualified_name(taint.key), at / "key")
    yield from named(taint.value, naming.label_value(taint.value), at / "value")


@rule(Event)
def event_namespace(event: Event, at: Path) -> Found:
    about, own = event.involved_object.namespace, event.metadata.namespace
    if about and about != own:
        where = at / "involvedObject" / "namespace"
        yield Problem(where, f"found {clipped(about)}, expected the event's own namespace {clipped(own)}")
