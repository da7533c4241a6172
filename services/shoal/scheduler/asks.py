"""What a pod asks of a node, taken from its spec once. Pure.

Two pods with equal asks are judged alike by every node, so an ask is what placement caches by.
"""

import functools

import msgspec

from shoal.model import quantity
from shoal.model.container import Container
from shoal.model.node import Taint
from shoal.model.pod import Pod, Toleration

# A pod that asks for nothing still counts this much when nodes are compared (kube-scheduler, non_zero.go).
UNASKED_CPU_MILLI = 100
UNASKED_MEMORY_BYTES = 200 * 1024 * 1024

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
NOT_READY_TAINT = Taint(key="node.kubernetes.io/not-ready", effect=NO_SCHEDULE)
UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect=NO_SCHEDULE)
NETWORK_TAINT = Taint(key="node.kubernetes.io/network-unavailable", effect=NO_SCHEDULE)
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  (what a manifest may say, nothing is bound here)


class HostPort(msgspec.Struct, frozen=True, order=True):
    """`address` "": every address of the host."""

    protocol: str
    port: int
    address: str = ""

    def clashes(self, other: "HostPort") -> bool:
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.address == other.address or not self.address or not other.address


class Ask(msgspec.Struct, frozen=True):
    """`scored_*`: with what counts for a container that asks for nothing. Selector and ports are sorted."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    scored_cpu_milli: int = UNASKED_CPU_MILLI
    scored_memory_bytes: int = UNASKED_MEMORY_BYTES
    ports: tuple[HostPort, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


def ask_of(pod: Pod) -> Ask:
    """The sum over containers or the dearest init container, whichever is more: init containers run before."""
    spec = pod.spec
    cpu, memory, storage, scored_cpu, scored_memory = _sum(spec.containers)
    for container in spec.init_containers:
        one = _sum((container,))
        cpu, memory, storage = max(cpu, one[0]), max(memory, one[1]), max(storage, one[2])
        scored_cpu, scored_memory = max(scored_cpu, one[3]), max(scored_memory, one[4])
    return Ask(
        cpu_milli=cpu,
        memory_bytes=memory,
        storage_bytes=storage,
        scored_cpu_milli=scored_cpu,
        scored_memory_bytes=scored_memory,
        ports=_ports(spec.containers) if any(c.ports for c in spec.containers) else (),
        selector=tuple(sorted(spec.node_selector.items())),
        tolerations=spec.tolerations,
    )


def _sum(containers: tuple[Container, ...]) -> tuple[int, int, int, int, int]:
    cpu = memory = storage = scored_cpu = scored_memory = 0
    for container in containers:
        requests = container.resources.requests
        if not requests:
            scored_cpu += UNASKED_CPU_MILLI
            scored_memory += UNASKED_MEMORY_BYTES
            continue
        own_cpu = milli(requests["cpu"]) if "cpu" in requests else None
        own_memory = whole(requests["memory"]) if "memory" in requests else None
        cpu += own_cpu or 0
        memory += own_memory or 0
        storage += whole(requests["ephemeral-storage"]) if "ephemeral-storage" in requests else 0
        scored_cpu += UNASKED_CPU_MILLI if own_cpu is None else own_cpu
        scored_memory += UNASKED_MEMORY_BYTES if own_memory is None else own_memory
    return cpu, memory, storage, scored_cpu, scored_memory


@functools.lru_cache(maxsize=4096)
def milli(text: str) -> int:
    return quantity.milli(text)


@functools.lru_cache(maxsize=4096)
def whole(text: str) -> int:
    return quantity.whole(text)


def _ports(containers: tuple[Container, ...]) -> tuple[HostPort, ...]:
    taken = {
        HostPort(p.protocol or "TCP", p.host_port, "" if p.host_ip in ANY_ADDRESS else p.host_ip)
        for c in containers
        for p in c.ports
        if p.host_port
    }
    return tuple(sorted(taken))


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    return any(_tolerated_by(t, taint) for t in tolerations)


def _tolerated_by(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value
