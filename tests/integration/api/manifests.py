"""Manifests and objects for the api's integration tests."""

from typing import Any

import msgspec

from shoal import wire
from shoal.client import Client

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  containers:
  - {name: c, image: "shoal/busybox:1"}
"""

REPLICA_SET = """
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: %s}
spec:
  replicas: %s
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "shoal/busybox:1"}
"""

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n"


def pod(name: str) -> str:
    return POD % name


def replica_set(name: str, replicas: Any = 3) -> str:
    return REPLICA_SET % (name, replicas)


def several(*documents: str) -> str:
    return "\n---\n".join(documents)


async def apply(client: Client, text: str, *, namespace: str = "", **how: Any) -> wire.ApplyReply:
    return await client.apply(wire.ApplyRequest(manifest=text, **how), namespace=namespace)


async def get(client: Client, resource: str, name: str, namespace: str = "") -> Any:
    return msgspec.json.decode(await client.get(resource, namespace, name))


async def names(client: Client, resource: str, namespace: str | None = None, **how: str) -> list[str]:
    reply = await client.list(resource, namespace, **how)
    return [msgspec.json.decode(item)["metadata"]["name"] for item in reply.items]


def results(reply: wire.ApplyReply) -> list[str]:
    assert reply.error is None, reply.error
    return [r.result for r in reply.results]
