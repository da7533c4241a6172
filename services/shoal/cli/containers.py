"""Which pods and containers a person means: `web`, `pod/web`, `rs/web`, `-l app=web`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from shoal.cli.context import Context
from shoal.cli.resources import one
from shoal.errors import BadRequest, NotFound
from shoal.model.container import Container
from shoal.model.pod import Pod
from shoal.model.registry import by_resource, decode

if TYPE_CHECKING:
    from shoal.client import Client

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def pods_by_label(cluster: "Client", namespace: str, labels: str) -> list[Pod]:
    kind = by_resource("pods")
    reply = await cluster.list(kind.resource, namespace, label_selector=labels)
    return cast("list[Pod]", [decode(kind, raw) for raw in reply.items])


async def pods_named(cluster: "Client", namespace: str, words: Sequence[str]) -> list[Pod]:
    """The pod; or those that the object controls, the ones that run first. Raises: NotFound, UsageError."""
    kind, name = one(words, default="pod")
    found = decode(kind, await cluster.get(kind.resource, namespace if kind.namespaced else "", name))
    if isinstance(found, Pod):
        return [found]
    if not kind.namespaced:
        raise BadRequest(f"{kind.resource} have no containers")
    uid = found.metadata.uid
    pods = [pod for pod in await pods_by_label(cluster, namespace, "") if _controlled_by(pod, uid)]
    if not pods:
        raise NotFound(f"{kind.singular}/{name} has no pods now")
    return sorted(pods, key=lambda pod: (pod.status.phase != "Running", pod.metadata.name))


def _controlled_by(pod: Pod, uid: str) -> bool:
    return any(owner.controller and owner.uid == uid for owner in pod.metadata.owner_references)


async def one_pod(cluster: "Client", context: Context, namespace: str, words: Sequence[str]) -> Pod:
    pods = await pods_named(cluster, namespace, words)
    if len(pods) > 1:
        context.note(f"Found {len(pods)} pods, using pod/{pods[0].metadata.name}")
    return pods[0]


def container_of(context: Context, pod: Pod, wanted: str) -> str:
    """The container asked for, else the one an annotation names, else the first (and a note which of them it is).

    Raises: BadRequest for one that the pod does not have.
    """
    known: list[Container] = [*pod.spec.containers, *pod.spec.init_containers]
    names = [container.name for container in known]
    if wanted:
        if wanted not in names:
            raise BadRequest(f"pod/{pod.metadata.name} has no container {wanted}: it has {', '.join(names)}")
        return wanted
    if not names:
        raise BadRequest(f"pod/{pod.metadata.name} has no containers")
    by_annotation = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if by_annotation in names:
        return by_annotation
    if len(names) > 1:
        shown = ", ".join(
            [*names[: len(pod.spec.containers)], *(f"{n} (init)" for n in names[len(pod.spec.containers) :])]
        )
        context.note(f'Defaulted container "{names[0]}" out of: {shown}')
    return names[0]
