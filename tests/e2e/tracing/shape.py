"""What a trace must look like, whoever collected it."""

from collections.abc import Iterable, Mapping, Sequence

from tests.e2e.tracing.receiver import SpanSeen

# The way of a pod: what begins before what. A sandbox and its containers are made side by side; a pull may be missing.
ORDER = (
    ("publish", "admit"),
    ("admit", "write"),
    ("write", "reconcile"),
    ("reconcile", "bind"),
    ("bind", "sandbox"),
    ("bind", "create"),
    ("sandbox", "start"),
    ("create", "start"),
)
SERVICE_OF = {  # (writes are the api's, and the replica-controller's)
    "admit": "shoal-api",
    "reconcile": "shoal-replica-controller",
    "bind": "shoal-scheduler",
    "sandbox": "shoal-node-agent",
    "create": "shoal-node-agent",
    "start": "shoal-node-agent",
}
SLACK_NS = 2_000_000  # Jaeger keeps microseconds; a parent may begin in the same one as its child


def faults(spans: Sequence[SpanSeen], root_parent: str = "") -> list[str]:
    """Why these spans are not one connected trace in good order; [] if they are. `root_parent`: a span of the client's."""
    known = {s.span_id: s for s in spans}
    found = [f"{len({s.trace_id for s in spans})} traces"] if len({s.trace_id for s in spans}) != 1 else []
    roots = [s for s in spans if s.parent_id in ("", root_parent)]
    if len(roots) != 1:
        found.append(f"{len(roots)} roots: {sorted(s.name for s in roots)}")
    for s in spans:
        parent = known.get(s.parent_id)
        if parent is None and s not in roots:
            found.append(f"{s.service} {s.name}: its parent {s.parent_id} is nowhere")
        elif parent is not None and s.start_ns + SLACK_NS < parent.start_ns:
            found.append(f"{s.service} {s.name} began before its parent {parent.name}")
        if s.name in SERVICE_OF and s.service != SERVICE_OF[s.name]:
            found.append(f"{s.name} is told by {s.service}")
    return found


def by_pod(spans: Iterable[SpanSeen]) -> dict[str, list[SpanSeen]]:
    """Spans that name a pod, by its uid."""
    pods: dict[str, list[SpanSeen]] = {}
    for s in spans:
        if uid := s.attributes.get("k8s.pod.uid"):
            pods.setdefault(str(uid), []).append(s)
    return pods


def way_up(span: SpanSeen, spans: Sequence[SpanSeen]) -> list[str]:
    """The names from the root down to this span, following parents."""
    known: Mapping[str, SpanSeen] = {s.span_id: s for s in spans}
    names, at = [span.name], known.get(span.parent_id)
    while at is not None and len(names) < 100:
        names.append(at.name)
        at = known.get(at.parent_id)
    return names[::-1]
