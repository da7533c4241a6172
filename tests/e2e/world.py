"""What end-to-end tests say and see: manifests by a few words, the cluster through its client, engines as they are."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from shoal import names, wire
from shoal.client import Client
from shoal.errors import Expired
from shoal.model.pod import Pod
from shoal.model.replicaset import ReplicaSet

T = TypeVar("T")

PATIENCE_S = 60.0
SLEEPER = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")


def container(
    name: str = "main", *, command: Sequence[str] = SLEEPER, image: str = "shoal/busybox", **more: Any
) -> dict[str, Any]:
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": list(command), **more}


def pod(name: str, namespace: str, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 1, **spec},
    }


def replicaset(name: str, namespace: str, replicas: int, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    template = {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 1, **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template},
        },
    }


def manifest(*documents: Mapping[str, Any]) -> str:
    """As a stream of JSON documents, which is YAML too."""
    return "\n---\n".join(msgspec.json.encode(d).decode() for d in documents)


async def apply(client: Client, *documents: Mapping[str, Any]) -> wire.ApplyReply:
    reply = await client.apply(wire.ApplyRequest(manifest=manifest(*documents)))
    assert reply.error is None, reply.error
    assert all(r.error is None for r in reply.results), reply.results
    return reply


async def pods(client: Client, namespace: str, selector: str = "") -> list[Pod]:
    reply = await client.list("pods", namespace, label_selector=selector)
    return [msgspec.json.decode(item, type=Pod) for item in reply.items]


async def until(
    client: Client,
    namespace: str | None,
    holds: Callable[[list[Pod]], bool],
    *,
    selector: str = "",
    patience_s: float = PATIENCE_S,
) -> list[Pod]:
    """The pods of a namespace as soon as `holds(pods)`; by the watch, without polling.

    Raises: AssertionError with what was there instead after `patience_s`.
    """
    seen: list[Pod] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while True:
                reply = await client.list("pods", namespace, label_selector=selector)
                known = {p.metadata.uid: p for p in (msgspec.json.decode(i, type=Pod) for i in reply.items)}
                seen = list(known.values())
                if holds(seen):
                    return seen
                with suppress(Expired):
                    async for event in client.watch(
                        "pods", namespace, since=reply.metadata["resourceVersion"], label_selector=selector
                    ):
                        changed = msgspec.json.decode(event.object, type=Pod)
                        known[changed.metadata.uid] = changed
                        if event.type == "DELETED":
                            del known[changed.metadata.uid]
                        seen = list(known.values())
                        if holds(seen):
                            return seen
    raise AssertionError(f"not within {patience_s:g} s; there is {[summary(p) for p in seen]}")


async def until_status(
    client: Client, namespace: str, name: str, *, ready: int, patience_s: float = 30.0
) -> ReplicaSet:
    """A ReplicaSet as soon as its status says that `ready` pods are."""
    async with asyncio.timeout(patience_s):
        reply = await client.list("replicasets", namespace, field_selector=f"metadata.name={name}")
        [now] = [msgspec.json.decode(i, type=ReplicaSet) for i in reply.items]
        changes = client.watch("replicasets", namespace, since=reply.metadata["resourceVersion"], name=name)
        while now.status.ready_replicas != ready:
            now = msgspec.json.decode((await anext(changes)).object, type=ReplicaSet)
    return now


async def eventually(
    look: Callable[[], Awaitable[T]], wanted: T, *, patience_s: float = 10.0, every_s: float = 0.1
) -> None:
    """Until `look()` gives `wanted`: for what tells nobody when it changes (a process table, a log)."""
    seen: list[T] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while True:
                seen = [await look()]
                if seen == [wanted]:
                    return
                await asyncio.sleep(every_s)
    raise AssertionError(f"not {wanted!r} within {patience_s:g} s, but {seen}")


def running(pods: Sequence[Pod]) -> list[Pod]:
    """Those whose every container runs, and that are not being deleted."""
    return [
        p
        for p in pods
        if p.metadata.deletion_timestamp is None
        and p.status.phase == "Running"
        and len(p.status.container_statuses) == len(p.spec.containers)
        and all(s.state.running is not None for s in p.status.container_statuses)
    ]


def count_running(n: int) -> Callable[[list[Pod]], bool]:
    """Exactly `n` pods there are, and all of them run."""
    return lambda pods: len(pods) == n and len(running(pods)) == n


def summary(p: Pod) -> str:
    states = [
        s.state.waiting.reason if s.state.waiting else "terminated" if s.state.terminated else "running"
        for s in p.status.container_statuses
    ]
    ending = " (ending)" if p.metadata.deletion_timestamp else ""
    return (
        f"{p.metadata.name} {p.status.phase}{ending} on {p.spec.node_name or '-'} {states} {p.status.message}".strip()
    )


async def containers_of(docker: Any, namespace: str) -> list[Mapping[str, Any]]:
    """Every container of a namespace that an engine has, running or not, the sandboxes among them."""
    labels = [f"{names.CONTAINER_POD_NAMESPACE}={namespace}"]
    found = await docker.containers.list(all=True, filters=msgspec.json.encode({"label": labels}).decode())
    return [c._container for c in found]


def running_container(found: Sequence[Mapping[str, Any]], pod: Pod, container: str) -> Mapping[str, Any]:
    """The one container of that name of a pod that runs now."""
    [one] = [
        c
        for c in found
        if c["State"] == "running"
        and c["Labels"].get(names.CONTAINER_POD_UID) == pod.metadata.uid
        and c["Labels"].get(names.CONTAINER_NAME) == container
    ]
    return one


async def run_in(client: Client, namespace: str, pod: str, *command: str, container: str = "") -> tuple[int, str]:
    """Exec: the exit code, and both outputs together."""
    out = b""
    opened = await client.exec(namespace, wire.ExecRequest(name=pod, container=container, command=list(command)))
    async with opened as session:
        async for chunk in session:
            out += chunk.data
    assert session.exit_code is not None
    return session.exit_code, out.decode(errors="replace")
