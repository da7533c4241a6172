"""Show objects: as a table, or in full as JSON or YAML, or their names.

Several kinds at once: `pods,rs`, `all` (what runs), or `pod/web rs/db`. With --watch each change adds a line.
"""

import argparse
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_all_namespaces, add_field_selector, add_files, add_selector
from shoal.cli.context import Context
from shoal.cli.failure import sentences
from shoal.cli.output.rows import cells, look, table
from shoal.cli.resources import Target, shown, targets
from shoal.errors import NotFound, ShoalError
from shoal.model.registry import Kind, decode

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "(TYPE[,TYPE…] [NAME…] | TYPE/NAME… | -f PATH) [flags]"
EXAMPLES = """
shoal get pods                               pods of the namespace
shoal get pods -A -o wide                    of all namespaces, with addresses and nodes
shoal get pods,rs -l app=web                 two kinds, by label
shoal get pod/web -o yaml                    one object, in full
shoal get -f web.yaml                        what a manifest names, as it is now
shoal get pods -w                            and every change, until ^C
shoal get pod web -o jsonpath='{.status.podIP}'
"""
FORMATS = ("wide", "json", "yaml", "name", "jsonpath=…", "custom-columns=HEAD:PATH,…")


def arguments(parser: Parser) -> None:
    add_all_namespaces(parser)
    add_files(parser)
    add_selector(parser)
    add_field_selector(parser)
    parser.value("-o", "--output", default="", metavar="FORMAT", type=output_format, help=" | ".join(FORMATS))
    parser.flag("-w", "--watch", help="after what is there, show what changes")
    parser.flag("--watch-only", help="show only what changes")
    parser.flag("--output-watch-events", help="with a watch: say which kind of change each line is")
    parser.flag("--no-headers", help="without the line of column names")
    parser.flag("--show-labels", help="with a column of all labels")
    parser.value(
        "-L", "--label-columns", action="append", default=[], metavar="LABEL", help="with a column of this label"
    )
    parser.flag("--show-kind", help="write pod/web for web")
    parser.value("--sort-by", default="", metavar="PATH", help="a field, such as .metadata.creationTimestamp")
    parser.flag("--ignore-not-found", help="an object that is not there is no error")
    parser.value(
        "--chunk-size", type=int, default=500, metavar="COUNT", help=SUPPRESS
    )  # pages are as large as they may


def output_format(text: str) -> str:
    name, equals, template = text.partition("=")
    if (name in {"", "wide", "json", "yaml", "name"} and not equals) or (
        name in {"jsonpath", "custom-columns"} and template
    ):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(FORMATS)}")


class Found(msgspec.Struct):
    """Objects of one kind, as the api sent them."""

    kind: Kind
    items: Sequence[msgspec.Raw]
    revision: str = ""


async def run(context: Context, args: argparse.Namespace) -> int:
    if args.filename:
        return await _of_files(context, args)
    wanted = targets(args.names)
    if (args.selector or args.field_selector) and any(target.names for target in wanted):
        raise UsageError("a name and a selector exclude each other")
    async with context.connect() as cluster:
        if args.watch or args.watch_only:
            from shoal.cli.output.watched import watch

            if len(wanted) != 1 or len(wanted[0].names) > 1:
                raise UsageError("watch one kind of object, or one object of it")
            if args.output.startswith("custom-columns"):
                raise UsageError("custom-columns cannot be watched; -o jsonpath can")
            return await watch(cluster, context, args, wanted[0])
        errors: list[ShoalError] = []
        found = [f for target in wanted for f in await _fetch(cluster, context, args, target, errors)]
    return _finish(context, args, found, errors, alone=_alone(wanted))


def _finish(
    context: Context, args: argparse.Namespace, found: Sequence[Found], errors: list[ShoalError], *, alone: bool
) -> int:
    _print(context, args, found, alone=alone)
    errors = [e for e in errors if not (args.ignore_not_found and isinstance(e, NotFound))]
    for error in errors:
        for sentence in sentences(error):
            context.note(f"error: {sentence}")
    return 1 if errors else 0


async def _of_files(context: Context, args: argparse.Namespace) -> int:
    """The objects that manifests name, whatever else stands in them."""
    from shoal.cli.files import named_in

    if args.watch or args.watch_only:
        raise UsageError("-f cannot be watched; name one kind")
    wanted = named_in(context, args)
    found: list[Found] = []
    errors: list[ShoalError] = []
    async with context.connect() as cluster:
        for obj in wanted:
            try:
                found.append(Found(obj.kind, [await cluster.get(obj.kind.resource, obj.namespace, obj.name)]))
            except NotFound as e:
                errors.append(e)
    return _finish(context, args, found, errors, alone=len(wanted) == 1)


def _alone(wanted: Sequence[Target]) -> bool:
    """One object was named: its JSON is not a list."""
    return len(wanted) == 1 and len(wanted[0].names) == 1


async def _fetch(
    cluster: "Client", context: Context, args: argparse.Namespace, target: Target, errors: list[ShoalError]
) -> list[Found]:
    kind = target.kind
    namespace = context.namespaces(args) if kind.namespaced else ""
    if not target.names:
        reply = await cluster.list(
            kind.resource, namespace, label_selector=args.selector, field_selector=args.field_selector
        )
        return [Found(kind, reply.items, reply.metadata.get("resourceVersion", ""))]
    if namespace is None:
        raise UsageError("an object cannot be named across all namespaces")
    items = []
    for name in target.names:
        try:
            items.append(await cluster.get(kind.resource, namespace, name))
        except NotFound as e:
            errors.append(e)
    return [Found(kind, items)]


def _print(context: Context, args: argparse.Namespace, found: Sequence[Found], *, alone: bool) -> None:
    if args.sort_by:
        for group in found:
            group.items = _sorted(group.items, args.sort_by)
    form, _, template = args.output.partition("=")
    match form:
        case "json" | "yaml" | "jsonpath":
            _print_objects(context, form, template, [raw for group in found for raw in group.items], alone=alone)
        case "name":
            for group in found:
                for raw in group.items:
                    context.write(shown(group.kind, decode(group.kind, raw).metadata.name) + "\n")
        case "custom-columns":
            _print_columns(context, template, found, headers=not args.no_headers)
        case _:
            _print_tables(context, args, found, quiet=alone)


def _print_objects(context: Context, form: str, template: str, items: Sequence[msgspec.Raw], *, alone: bool) -> None:
    objects = [msgspec.json.decode(raw) for raw in items]
    if alone and not objects:
        return
    value = objects[0] if alone else as_list(objects)
    if form == "jsonpath":
        from shoal.cli.output.paths import render

        context.write(render(value, template))
        return
    from shoal.cli.output.text import to_json, to_yaml

    context.write(to_json(value) if form == "json" else to_yaml(value))


def as_list(objects: Sequence[Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": list(objects), "kind": "List", "metadata": {"resourceVersion": ""}}


def _print_columns(context: Context, template: str, found: Sequence[Found], *, headers: bool) -> None:
    from shoal.cli.output.paths import find, show
    from shoal.cli.output.table import Table

    pairs = [part.partition(":") for part in template.split(",")]
    if not all(head and path for head, _, path in pairs):
        raise UsageError("custom-columns are written HEAD:PATH,HEAD:PATH, such as NAME:.metadata.name")
    lines = []
    for group in found:
        for raw in group.items:
            value = msgspec.json.decode(raw)
            lines.append([",".join(map(show, find(value, path.strip("{}")))) or "<none>" for _, _, path in pairs])
    context.write(Table([head for head, _, _ in pairs], show_headers=headers).render(lines))


def _print_tables(context: Context, args: argparse.Namespace, found: Sequence[Found], *, quiet: bool) -> None:
    now = context.now()
    shown_groups = [group for group in found if group.items]
    seen = look(args, kinds=len({group.kind for group in found}) > 1)
    merged: dict[str, list[msgspec.Raw]] = {}
    kinds = {group.kind.resource: group.kind for group in shown_groups}
    for group in shown_groups:  # `pod/a pod/b` is one table
        merged.setdefault(group.kind.resource, []).extend(group.items)
    texts = []
    for resource, items in merged.items():
        kind = kinds[resource]
        rows = [cells(kind, decode(kind, raw), seen, now) for raw in items]
        texts.append(table(kind, seen).render(rows))
    context.write("\n".join(texts))
    if not texts and not quiet and not args.ignore_not_found:
        context.note(nothing_found(context, args, [group.kind for group in found]))


def nothing_found(context: Context, args: argparse.Namespace, kinds: Sequence[Kind]) -> str:
    namespace = context.namespaces(args)
    if namespace is None or not any(kind.namespaced for kind in kinds):
        return "No resources found"
    return f"No resources found in {namespace} namespace."


def _sorted(items: Sequence[msgspec.Raw], path: str) -> list[msgspec.Raw]:
    from shoal.cli.output.paths import find

    def key(raw: msgspec.Raw) -> tuple[int, float, str]:
        match find(msgspec.json.decode(raw), path.strip("{}")):
            case [bool() as value, *_]:
                return 1, float(value), ""
            case [int() | float() as value, *_]:
                return 1, float(value), ""
            case [value, *_]:
                return 2, 0.0, str(value)
            case _:
                return 0, 0.0, ""

    return sorted(items, key=key)
