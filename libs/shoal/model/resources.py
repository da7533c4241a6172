"""What pods ask for, as whole numbers, and the class that follows from it."""

from collections.abc import Iterable, Mapping

import msgspec

from shoal.model import quantity
from shoal.model.container import Container
from shoal.model.pod import PodSpec


class Resources(msgspec.Struct, frozen=True):
    """Thousandths of a core, and bytes."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    ephemeral_storage_bytes: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_milli + other.cpu_milli,
            self.memory_bytes + other.memory_bytes,
            self.ephemeral_storage_bytes + other.ephemeral_storage_bytes,
        )

    def at_least(self, other: "Resources") -> "Resources":
        """The larger of the two, each by itself."""
        return Resources(
            max(self.cpu_milli, other.cpu_milli),
            max(self.memory_bytes, other.memory_bytes),
            max(self.ephemeral_storage_bytes, other.ephemeral_storage_bytes),
        )


def of(quantities: Mapping[str, str]) -> Resources:
    return Resources(
        quantity.milli(quantities.get("cpu", "0")),
        quantity.whole(quantities.get("memory", "0")),
        quantity.whole(quantities.get("ephemeral-storage", "0")),
    )


def pod_requests(spec: PodSpec) -> Resources:
    """Containers run together, init containers one after the other before them: the larger of both counts."""
    total = sum((of(c.resources.requests) for c in spec.containers), Resources())
    for container in spec.init_containers:
        total = total.at_least(of(container.resources.requests))
    return total


def qos_class(spec: PodSpec) -> str:
    """Guaranteed: every container limits cpu and memory, and asks for just that. BestEffort: none says anything."""
    containers = (*spec.containers, *spec.init_containers)
    if not any(_said(c) for c in containers):
        return "BestEffort"
    return "Guaranteed" if _all_guaranteed(containers) else "Burstable"


def _said(container: Container) -> bool:
    resources = container.resources
    named = {**resources.requests, **resources.limits}
    return any(name in named and quantity.parse(named[name]) > 0 for name in ("cpu", "memory"))


def _all_guaranteed(containers: Iterable[Container]) -> bool:
    for container in containers:
        limits, requests = container.resources.limits, container.resources.requests
        for name in ("cpu", "memory"):
            limit = quantity.parse(limits.get(name, "0"))
            if not limit or quantity.parse(requests.get(name, limits[name])) != limit:
                return False
    return True
