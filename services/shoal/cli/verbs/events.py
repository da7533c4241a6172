"""Show what happened: newest last, each kind of happening once with its count."""

import argparse
from collections.abc import Sequence
from typing import cast

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_all_namespaces, add_output
from shoal.cli.context import Context
from shoal.cli.describe.page import last_seen
from shoal.cli.output.rows import Look, cells, table
from shoal.cli.output.table import Table
from shoal.cli.resources import one
from shoal.cli.watching import changes
from shoal.model.event import Event
from shoal.model.registry import by_resource, decode

USAGE = "[flags]"
EXAMPLES = """
shoal events                         of the namespace
shoal events -A --types=Warning      what went wrong anywhere
shoal events --for pod/web           about one object
shoal events -w                      and what happens from now on, until ^C
"""
KIND = by_resource("events")


def arguments(parser: Parser) -> None:
    add_all_namespaces(parser)
    parser.value("--for", dest="about", default="", metavar="TYPE/NAME", help="only those about this object")
    parser.value("--types", default="", metavar="TYPE,…", help="only Normal, or Warning")
    parser.flag("-w", "--watch", help="go on with what happens")
    parser.flag("--no-headers", help="without the line of column names")
    add_output(parser, "json", "yaml")


async def run(context: Context, args: argparse.Namespace) -> int:
    if args.names:
        raise UsageError("events takes no names; --for TYPE/NAME chooses an object")
    wanted = {name.strip().lower() for name in args.types.split(",") if name.strip()}
    if wanted - {"normal", "warning"}:
        raise UsageError("--types are Normal and Warning")
    look = Look(namespaces=args.all_namespaces, headers=not args.no_headers)
    printed = table(KIND, look)
    first = True
    async with context.connect() as cluster:
        async for told in changes(cluster, KIND, context.namespaces(args), fields=_fields(args)):
            events = [cast("Event", decode(KIND, raw)) for _, raw in told]
            events = sorted((e for e in events if not wanted or e.type.lower() in wanted), key=last_seen)
            if events or (first and not args.watch):
                _print(context, args, printed, look, events)
            context.flush()
            first = False
            if not args.watch:
                break
    return 0


def _fields(args: argparse.Namespace) -> str:
    if not args.about:
        return ""
    kind, name = one([args.about])
    return f"involvedObject.kind={kind.kind},involvedObject.name={name}"


def _print(context: Context, args: argparse.Namespace, printed: Table, look: Look, events: Sequence[Event]) -> None:
    if args.output:
        from shoal.cli.output.text import to_json, to_yaml
        from shoal.cli.verbs.get import as_list

        value = as_list([msgspec.to_builtins(event) for event in events])
        context.write(to_json(value) if args.output == "json" else "---\n" * args.watch + to_yaml(value))
    elif events:
        now = context.now()
        context.write(printed.render(cells(KIND, event, look, now) for event in events))
    else:
        where = "" if args.all_namespaces else f" in {context.namespace(args)} namespace"
        context.note(f"No events found{where}.")
