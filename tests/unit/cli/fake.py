"""A cluster in memory for the verbs: answers what the api would, remembers what it was asked."""

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

import msgspec

from shoal import wire
from shoal.cli.catalogue import VERBS
from shoal.cli.context import Context
from shoal.cli.loading import load
from shoal.client import Client, Session
from shoal.errors import NotFound
from shoal.model.event import Event
from shoal.model.registry import by_resource
from shoal.model.selectors import field_matches, matches, parse_field_selector, parse_label_selector

Events = list[Event]  # in the class `list` is a verb

NOW = datetime(2020, 1, 1, 0, 5, tzinfo=UTC)


class FakeSession(Session):
    """Gives its chunks, then ends with its exit code."""

    def __init__(self, *chunks: tuple[int, bytes], exit_code: int | None = None) -> None:
        self.chunks = chunks
        self.exit_code = exit_code
        self.typed = b""
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self.backlog = 0
        self.kept = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[wire.Chunk]:
        for stream, data in self.chunks:
            yield wire.Chunk(stream=stream, data=data)

    @property
    def unsent(self) -> int:
        return self.backlog

    async def keep(self) -> None:
        self.kept += 1

    def write(self, data: bytes) -> None:
        self.typed += data

    def close_stdin(self) -> None:
        self.closed = True

    def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))


class FakeCluster(Client):
    """`objects`: as the api would show them. `changes`: what a watch tells, a list an item, one for each watch."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = list(objects)
        self.changes: list[list[wire.WatchEvent]] = []
        self.happened: list[Event] = []
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.apply_reply = wire.ApplyReply()
        self.traceparents: list[str] = []  # of what writes
        self.sessions: dict[str, FakeSession] = {}

    def _find(self, resource: str, namespace: str | None) -> Iterator[dict[str, Any]]:
        kind = by_resource(resource).kind
        for obj in self.objects:
            if obj["kind"] == kind and namespace in (None, "", obj["metadata"].get("namespace", "")):
                yield obj

    def _one(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        for obj in self._find(resource, namespace):
            if obj["metadata"]["name"] == name:
                return obj
        raise NotFound(f'{resource} "{name}" not found')

    async def apply(self, request: wire.ApplyRequest, *, namespace: str = "", traceparent: str = "") -> wire.ApplyReply:
        self.traceparents.append(traceparent)
        self.asked.append(("apply", "", namespace, request))
        return self.apply_reply

    async def create(
        self, resource: str, namespace: str, request: wire.CreateRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        self.traceparents.append(traceparent)
        self.asked.append(("create", resource, namespace, request))
        return request.object

    async def get(self, resource: str, namespace: str, name: str) -> msgspec.Raw:
        self.asked.append(("get", resource, namespace, name))
        return raw(self._one(resource, namespace, name))

    async def list(
        self, resource: str, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> wire.ListReply:
        self.asked.append(("list", resource, namespace, (label_selector, field_selector)))
        kind = by_resource(resource)
        labels, fields = parse_label_selector(label_selector), parse_field_selector(field_selector)
        items = []
        for obj in self._find(resource, namespace):
            decoded = msgspec.convert(obj, kind.type)
            if matches(labels, decoded.metadata.labels) and field_matches(fields, decoded):
                items.append(raw(obj))
        return wire.ListReply(
            kind=f"{kind.kind}List", api_version=kind.api_version, metadata={"resourceVersion": "7"}, items=items
        )

    async def watch(
        self,
        resource: str,
        namespace: str | None,
        *,
        since: str,
        name: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[wire.WatchEvent]:
        self.asked.append(("watch", resource, namespace, (since, label_selector, field_selector)))
        for event in self.changes.pop(0) if self.changes else ():
            yield event

    async def patch(
        self, resource: str, namespace: str, request: wire.PatchRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        self.traceparents.append(traceparent)
        self.asked.append(("patch", resource, namespace, request))
        return raw({**self._one(resource, namespace, request.name), **request.patch})

    async def delete(
        self, resource: str, namespace: str, request: wire.DeleteRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        self.traceparents.append(traceparent)
        self.asked.append(("delete", resource, namespace, request))
        found = self._one(resource, namespace, request.name)
        if not request.dry_run:
            self.objects.remove(found)
        return raw(found)

    async def scale(
        self, resource: str, namespace: str, request: wire.ScaleRequest, *, traceparent: str = ""
    ) -> msgspec.Raw:
        self.traceparents.append(traceparent)
        self.asked.append(("scale", resource, namespace, request))
        return raw(self._one(resource, namespace, request.name))

    async def events(self, namespace: str | None, request: wire.EventsRequest) -> Events:
        self.asked.append(("events", "", namespace, request))
        return self.happened

    async def logs(self, namespace: str, request: wire.LogsRequest, *, traceparent: str = "") -> FakeSession:
        self.asked.append(("logs", "pods", namespace, request))
        return self.sessions[f"{request.name}/{request.container}"]

    async def exec(self, namespace: str, request: wire.ExecRequest, *, traceparent: str = "") -> FakeSession:
        self.asked.append(("exec", "pods", namespace, request))
        return self.sessions[f"{request.name}/{request.container}"]

    async def attach(self, namespace: str, request: wire.ExecRequest, *, traceparent: str = "") -> FakeSession:
        self.asked.append(("attach", "pods", namespace, request))
        return self.sessions[f"{request.name}/{request.container}"]

    async def version(self) -> str:
        return "0.9.9"

    def requests(self, verb: str) -> Sequence[Any]:
        """What was asked by this verb, oldest first."""
        return [request for asked, _, _, request in self.asked if asked == verb]


def raw(obj: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(obj))


class Ran(msgspec.Struct):
    code: int
    out: str
    err: str


async def shoal(cluster: FakeCluster, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Ran:
    """Run a command line against the fake. What a verb raises comes out as it is."""
    out, err = io.StringIO(), io.StringIO()
    verb, *rest = words
    parser, module = load(verb, VERBS[verb].module)
    args = parser.parse(rest)
    code = module.run(Context(env, out=out, err=err, cluster=cluster, now=lambda: NOW), args)
    if not isinstance(code, int):
        code = await code
    return Ran(code, out.getvalue(), err.getvalue())


# --- objects ------------------------------------------------------------------------------------------------------------


def a_pod(name: str = "web", **more: Any) -> dict[str, Any]:
    """Runs on n1. `more`: namespace, labels, phase, spec (merged), status (merged), owner (uid)."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": more.get("namespace", "default"),
        "uid": f"uid-{name}",
        "resourceVersion": "5",
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "labels": more.get("labels", {"app": "web"}),
    }
    if owner := more.get("owner"):
        meta["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": owner, "controller": True}
        ]
    running = {
        "name": "main",
        "ready": True,
        "restartCount": 0,
        "image": "shoal/busybox",
        "imageID": "sha256:1",
        "containerID": "docker://c1",
        "state": {"running": {"startedAt": "2020-01-01T00:00:02Z"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [{"name": "main", "image": "shoal/busybox"}], "nodeName": "n1", **more.get("spec", {})},
        "status": {
            "phase": more.get("phase", "Running"),
            "podIP": "10.208.0.2",
            "podIPs": [{"ip": "10.208.0.2"}],
            "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [running],
            **more.get("status", {}),
        },
    }


def a_replica_set(name: str = "web", *, replicas: int = 2, ready: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-rs-{name}",
            "generation": 1,
            "creationTimestamp": "2020-01-01T00:00:00Z",
            "labels": {"app": "web"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "shoal/busybox"}]},
            },
        },
        "status": {"replicas": replicas, "readyReplicas": ready, "observedGeneration": 1, **more.get("status", {})},
    }


def a_node(name: str = "n1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": "2020-01-01T00:00:00Z",
            "labels": {"kubernetes.io/os": "linux"},
        },
        "spec": {"podCIDR": "10.208.0.0/23", "podCIDRs": ["10.208.0.0/23"]},
        "status": {
            "capacity": {"cpu": "2", "memory": "4Gi", "pods": "500"},
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "500"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady", "message": "all is well"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "kernelVersion": "6.1.0",
                "osImage": "Debian GNU/Linux 12",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "containerRuntimeVersion": "docker://24.0.7",
                "kubeletVersion": "v0.1.0",
                "sandbox": "fast",
            },
        },
    }


def an_event(reason: str, message: str, **more: Any) -> Event:
    return msgspec.convert(
        {
            "metadata": {"name": f"web.{reason}", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web", "apiVersion": "v1"},
            "reason": reason,
            "message": message,
            "type": "Normal",
            "source": {"component": "scheduler"},
            "firstTimestamp": "2020-01-01T00:00:01Z",
            "lastTimestamp": "2020-01-01T00:00:01Z",
            "count": 1,
            **more,
        },
        Event,
    )
