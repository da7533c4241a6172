"""The example that `up` applies, and how it waits until that runs."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal import wire
from shoal.client import Client
from shoal.errors import NotFound, ShoalError, Unavailable, from_status

SELECTOR = "example=hello"
NAMESPACE = "default"
RUN_SECONDS = 90.0


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    podIP: str = ""  # noqa: N815
    conditions: list[_Condition] = []


class _Metadata(msgspec.Struct):
    name: str
    deletionTimestamp: str = ""  # noqa: N815  (wire name)


class _Pod(msgspec.Struct):
    """As much of a pod as matters here."""

    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


def text() -> str:
    """In a checkout it is also `examples/hello.yaml`."""
    return Path(__file__).with_name("hello.yaml").read_text()


async def apply(client: Client, manifest: str, traceparent: str) -> tuple[list[wire.DocumentResult], int]:
    """What of it is not there yet; what is stays as somebody left it (`unchanged`). And how many pods that amounts to.

    Raises: what the api refused.
    """
    from shoal.model.manifest import parse

    results: list[wire.DocumentResult] = []
    missing: list[bytes] = []
    pods = 0
    for document in parse(manifest):
        name = document.object.metadata.name
        try:
            there = await client.get(document.kind.resource, NAMESPACE, name)
        except NotFound:
            missing.append(msgspec.json.encode(document.raw))
            pods += _pods(msgspec.json.encode(document.raw))
        else:
            result = wire.DocumentResult(
                document=document.document,
                resource=document.kind.resource,
                kind=document.kind.kind,
                namespace=NAMESPACE,
                name=name,
                result="unchanged",
            )
            results.append(result)
            pods += _pods(there)
    if missing:
        request = wire.ApplyRequest(manifest=b"\n---\n".join(missing).decode(), source="examples/hello.yaml")
        reply = await client.apply(request, namespace=NAMESPACE, traceparent=traceparent)
        for failed in (reply.error, *(r.error for r in reply.results)):
            if failed is not None:
                raise from_status(failed)
        results += reply.results
    return results, pods


class _Sized(msgspec.Struct):
    replicas: int = 1


class _Counted(msgspec.Struct):
    kind: str
    spec: _Sized = msgspec.field(default_factory=_Sized)


def _pods(raw: bytes | msgspec.Raw) -> int:
    """How many an object amounts to: a ReplicaSet or a Pod."""
    return msgspec.json.decode(raw, type=_Counted).spec.replicas


async def wait(client: Client, wanted: int, show: Callable[[str], None]) -> str:
    """Until that many pods of the example are ready; the address of a web server among them.

    Raises: Unavailable with what they wait for, after 90 s.
    """
    pods: dict[str, _Pod] = {}
    try:
        async with asyncio.timeout(RUN_SECONDS):
            listed = await client.list("pods", NAMESPACE, label_selector=SELECTOR)
            for raw in listed.items:
                _keep(pods, raw)
            show(_line(pods, wanted))
            if _running(pods) >= wanted:
                return _address(pods)
            since = listed.metadata.get("resourceVersion", "")
            async for event in client.watch("pods", NAMESPACE, since=since, label_selector=SELECTOR):
                _keep(pods, event.object, gone=event.type == "DELETED")
                show(_line(pods, wanted))
                if _running(pods) >= wanted:
                    return _address(pods)
            raise Unavailable("the watch of the example's pods ended")
    except TimeoutError:
        why = await _why(client, pods)
        raise Unavailable(f"the example does not run after {RUN_SECONDS:.0f} s: {_line(pods, wanted)}{why}") from None


def _keep(pods: dict[str, _Pod], raw: msgspec.Raw, *, gone: bool = False) -> None:
    pod = msgspec.json.decode(raw, type=_Pod)
    if gone or pod.metadata.deletionTimestamp:
        pods.pop(pod.metadata.name, None)
    else:
        pods[pod.metadata.name] = pod


def _running(pods: Mapping[str, _Pod]) -> int:
    return sum(pod.ready for pod in pods.values())


def _address(pods: Mapping[str, _Pod]) -> str:
    """Of the last by name: the ReplicaSet's come after the clock."""
    return max(pods.items())[1].status.podIP if pods else ""


def _line(pods: Mapping[str, _Pod], wanted: int) -> str:
    return f"{_running(pods)} of {wanted} pods run"


async def _why(client: Client, pods: Mapping[str, _Pod]) -> str:
    """The newest event of a pod that does not run."""
    waiting = next((pod.metadata.name for pod in pods.values() if not pod.ready), "")
    if not waiting:
        return ""
    try:
        request = wire.EventsRequest(resource="pods", name=waiting)
        events: Any = await client.events(NAMESPACE, request)
    except ShoalError:
        return ""
    return f"; {waiting}: {events[-1].message}" if events else f"; {waiting} waits"
