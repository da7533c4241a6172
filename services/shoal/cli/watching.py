"""Following objects: a line for each change (`get --watch`), and one object until it is as it should be (`wait`)."""

import argparse
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from shoal.cli.cluster import Cluster
from shoal.cli.context import Context
from shoal.cli.output.rows import cells, look, table
from shoal.cli.resources import Target, shown
from shoal.errors import Expired, NotFound
from shoal.model.registry import Kind, decode

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


async def watch(cluster: Cluster, context: Context, args: argparse.Namespace, target: Target) -> int:
    """Until ^C. What the table showed is remembered, so that a list after a gap shows only what is new."""
    printer = _Printer(context, args, target.kind)
    namespace = context.namespaces(args) if target.kind.namespaced else ""
    name = target.names[0] if target.names else ""
    fields = ",".join(part for part in (args.field_selector, f"metadata.name={name}" if name else "") if part)
    silent = bool(args.watch_only)
    known: dict[str, str] = {}
    while True:
        reply = await cluster.list(target.kind.resource, namespace, label_selector=args.selector, field_selector=fields)
        if name and not reply.items and not known and not args.ignore_not_found:
            raise NotFound(f'{target.kind.qualified} "{name}" not found')
        fresh = [(ADDED, raw) for raw in reply.items if _is_new(raw, known)]
        if not silent:
            printer.show(fresh)
        silent = False
        try:
            async for event in cluster.watch(
                target.kind.resource, namespace, since=reply.metadata.get("resourceVersion", ""),
                label_selector=args.selector, field_selector=fields,
            ):  # fmt: skip
                _is_new(event.object, known)
                printer.show([(event.type, event.object)])
        except Expired:
            continue


class _Head(msgspec.Struct):
    class Meta(msgspec.Struct, rename="camel"):
        uid: str = ""
        resource_version: str = ""

    metadata: Meta


def _is_new(raw: msgspec.Raw, known: dict[str, str]) -> bool:
    """And remember it."""
    meta = msgspec.json.decode(raw, type=_Head).metadata
    new = known.get(meta.uid) != meta.resource_version
    known[meta.uid] = meta.resource_version
    return new


class _Printer:
    def __init__(self, context: Context, args: argparse.Namespace, kind: Kind) -> None:
        self._context = context
        self._kind = kind
        self._form, _, self._template = args.output.partition("=")
        self._events = bool(args.output_watch_events)
        self._look = look(args, events=self._events)
        self._table = table(kind, self._look)

    def show(self, changes: Sequence[tuple[str, msgspec.Raw]]) -> None:
        if not changes:
            return
        self._context.write(self._text(changes))
        self._context.flush()

    def _text(self, changes: Sequence[tuple[str, msgspec.Raw]]) -> str:
        if self._form in {"", "wide"}:
            now = datetime.now(UTC)
            return self._table.render(
                cells(self._kind, decode(self._kind, raw), self._look, now, event=event) for event, raw in changes
            )
        return "".join(self._one(event, raw) for event, raw in changes)

    def _one(self, event: str, raw: msgspec.Raw) -> str:
        from shoal.cli.output.paths import render
        from shoal.cli.output.text import to_json, to_yaml

        value = msgspec.json.decode(raw)
        match self._form:
            case "name":
                return (f"{event} " if self._events else "") + shown(self._kind, value["metadata"]["name"]) + "\n"
            case "jsonpath":
                return render(value, self._template)
        if self._events:
            value = {"type": event, "object": value}
        return to_json(value) if self._form == "json" else "---\n" + to_yaml(value)


async def states(cluster: Cluster, kind: Kind, namespace: str, name: str) -> AsyncIterator[Any | None]:
    """An object as it is now and after each change, decoded; None while there is none. Never ends by itself."""
    by_name = f"metadata.name={name}"
    while True:
        reply = await cluster.list(kind.resource, namespace, field_selector=by_name)
        yield msgspec.json.decode(reply.items[0]) if reply.items else None
        try:
            async for event in cluster.watch(
                kind.resource, namespace, since=reply.metadata.get("resourceVersion", ""), field_selector=by_name
            ):
                yield None if event.type == DELETED else msgspec.json.decode(event.object)
        except Expired:
            continue
