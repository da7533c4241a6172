"""Why a pod fits nowhere: the sentence that kubectl's users know, with the number of nodes a reason. Pure."""

from collections.abc import Iterable

NOT_READY = "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
NOT_READY_THOUGH_TOLERATED = "node(s) were not ready"
NO_NETWORK = "node(s) had untolerated taint {node.kubernetes.io/network-unavailable: }"
UNSCHEDULABLE = "node(s) were unschedulable"
SELECTOR = "node(s) didn't match Pod's node selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"
TOO_MANY_PODS = "Too many pods"
NO_NODES = "no nodes available to schedule pods"
GATED = "Scheduling is blocked due to non-empty scheduling gates"


def untolerated(key: str, value: str) -> str:
    return f"node(s) had untolerated taint {{{key}: {value}}}"


def insufficient(resource: str) -> str:
    return f"Insufficient {resource}"


def sentence(reasons: Iterable[tuple[str, ...]]) -> str:
    """As in "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.".

    One tuple a node; a node that lacks two resources counts for both, as in kube-scheduler (types.go, FitError).
    """
    counts: dict[str, int] = {}
    nodes = 0
    for of_node in reasons:
        nodes += 1
        for reason in of_node:
            counts[reason] = counts.get(reason, 0) + 1
    if not nodes:
        return NO_NODES
    return f"0/{nodes} nodes are available: {', '.join(sorted(f'{n} {why}' for why, n in counts.items()))}."
