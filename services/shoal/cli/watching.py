"""Following objects: every change of a selection (`get --watch`, `events --watch`), one object's states (`wait`)."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.errors import Expired
from shoal.model.registry import Kind

if TYPE_CHECKING:
    from shoal.client import Client

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"

Changes = list[tuple[str, msgspec.Raw]]


async def changes(
    cluster: "Client", kind: Kind, namespace: str | None, *, labels: str = "", fields: str = ""
) -> AsyncIterator[Changes]:
    """First what is there (maybe nothing), then what happens, without end.

    After a gap (the api no longer knows what happened meanwhile) it lists again, and tells only what is new to it.
    """
    known: dict[str, str] = {}
    first = True
    while True:
        reply = await cluster.list(kind.resource, namespace, label_selector=labels, field_selector=fields)
        fresh: Changes = [(ADDED, raw) for raw in reply.items if _is_new(raw, known)]
        if fresh or first:
            yield fresh
        first = False
        since = reply.metadata.get("resourceVersion", "")
        try:
            async for event in cluster.watch(
                kind.resource, namespace, since=since, label_selector=labels, field_selector=fields
            ):
                _is_new(event.object, known)
                yield [(event.type, event.object)]
        except Expired:
            continue


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


def _is_new(raw: msgspec.Raw, known: dict[str, str]) -> bool:
    """And remember it."""
    meta = msgspec.json.decode(raw, type=_Head).metadata
    key = meta.uid or meta.name
    new = known.get(key) != meta.resource_version
    known[key] = meta.resource_version
    return new


async def states(cluster: "Client", kind: Kind, namespace: str, name: str) -> AsyncIterator[Any | None]:
    """An object as it is now and after each change, decoded; None while there is none. Never ends by itself."""
    first = True
    async for told in changes(cluster, kind, namespace, fields=f"metadata.name={name}"):
        if first and not told:
            yield None
        first = False
        for event, raw in told:
            yield None if event == DELETED else msgspec.json.decode(raw)
