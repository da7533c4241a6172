"""Whose a container is, as its labels say it. Pure."""

from collections.abc import Mapping

import msgspec

from shoal import names
from shoal.node_agent.runtime.port import Labels


class Owner(msgspec.Struct, frozen=True):
    """Whose containers: an agent touches only those that carry both."""

    cluster: str
    node: str


def labels_of(labels: Labels, owner: Owner) -> dict[str, str]:
    made = {
        names.CONTAINER_CLUSTER: owner.cluster,
        names.CONTAINER_NODE: owner.node,
        names.CONTAINER_POD_NAMESPACE: labels.namespace,
        names.CONTAINER_POD_NAME: labels.pod,
        names.CONTAINER_POD_UID: labels.uid,
        names.CONTAINER_NAME: labels.container or "POD",
        names.CONTAINER_ATTEMPT: str(labels.attempt),
        names.CONTAINER_FAILURES: str(labels.failures),
        names.CONTAINER_GENERATION: str(labels.generation),
    }
    return {**made, names.CONTAINER_ADDRESS: labels.address} if labels.address else made


def read_labels(raw: Mapping[str, str]) -> Labels:
    """Total: a label that is missing or no number counts as 0."""

    def number(name: str) -> int:
        text = raw.get(name, "")
        return int(text) if text.isdigit() else 0

    container = raw.get(names.CONTAINER_NAME, "")
    return Labels(
        uid=raw.get(names.CONTAINER_POD_UID, ""),
        namespace=raw.get(names.CONTAINER_POD_NAMESPACE, ""),
        pod=raw.get(names.CONTAINER_POD_NAME, ""),
        container="" if container == "POD" else container,
        attempt=number(names.CONTAINER_ATTEMPT),
        failures=number(names.CONTAINER_FAILURES),
        generation=number(names.CONTAINER_GENERATION),
        address=raw.get(names.CONTAINER_ADDRESS, ""),
    )
