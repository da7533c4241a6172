"""`get --watch`: a line, or an object, for each change."""

import argparse
from typing import TYPE_CHECKING

import msgspec

from shoal.cli.context import Context
from shoal.cli.output.rows import cells, look, table
from shoal.cli.resources import Target, shown
from shoal.cli.watching import Changes, changes
from shoal.errors import NotFound
from shoal.model.registry import Kind, decode

if TYPE_CHECKING:
    from shoal.client import Client


async def watch(cluster: "Client", context: Context, args: argparse.Namespace, target: Target) -> int:
    """Until ^C."""
    printer = _Printer(context, args, target.kind)
    namespace = context.namespaces(args) if target.kind.namespaced else ""
    name = target.names[0] if target.names else ""
    fields = ",".join(part for part in (args.field_selector, f"metadata.name={name}" if name else "") if part)
    first = True
    async for told in changes(cluster, target.kind, namespace, labels=args.selector, fields=fields):
        if first and name and not told and not args.ignore_not_found:
            raise NotFound(f'{target.kind.qualified} "{name}" not found')
        if not (first and args.watch_only):
            printer.show(told)
        first = False
    return 0


class _Printer:
    def __init__(self, context: Context, args: argparse.Namespace, kind: Kind) -> None:
        self._context = context
        self._kind = kind
        self._form, _, self._template = args.output.partition("=")
        self._events = bool(args.output_watch_events)
        self._look = look(args, events=self._events)
        self._table = table(kind, self._look)

    def show(self, told: Changes) -> None:
        if told:
            self._context.write(self._text(told))
            self._context.flush()

    def _text(self, told: Changes) -> str:
        if self._form in {"", "wide"}:
            now = self._context.now()
            return self._table.render(
                cells(self._kind, decode(self._kind, raw), self._look, now, event=event) for event, raw in told
            )
        return "".join(self._one(event, raw) for event, raw in told)

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
