"""Show what happened: newest last, each kind of happening once with its count."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_all_namespaces, add_output
from shoal.cli.context import Context
from shoal.cli.output.rows import Look, cells, table
from shoal.cli.resources import one
from shoal.model.event import Event
from shoal.model.registry import by_resource
from shoal.wire import EventsRequest

USAGE = "[flags]"
EXAMPLES = """
shoal events                         of the namespace
shoal events -A --types=Warning      what went wrong anywhere
shoal events --for pod/web           about one object
shoal events -w                      and what happens from now on, until ^C
"""


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
    request = EventsRequest()
    namespace = context.namespaces(args)
    if args.about:
        kind, name = one([args.about])
        request = EventsRequest(resource=kind.resource, name=name)
        namespace = namespace if kind.namespaced else ""
    async with context.connect() as cluster:
        found = [e for e in await cluster.events(namespace, request) if not wanted or e.type.lower() in wanted]
        _print(context, args, sorted(found, key=_seen))
        if args.watch:
            raise UsageError("not yet")
    return 0


def _seen(event: Event) -> str:
    return event.last_timestamp or event.event_time or event.first_timestamp or ""


def _print(context: Context, args: argparse.Namespace, found: Sequence[Event]) -> None:
    if args.output:
        from shoal.cli.output.text import to_json, to_yaml
        from shoal.cli.verbs.get import as_list

        value = as_list([msgspec.to_builtins(event) for event in found])
        context.write(to_json(value) if args.output == "json" else to_yaml(value))
    elif found:
        kind = by_resource("events")
        look = Look(namespaces=args.all_namespaces, headers=not args.no_headers)
        now = datetime.now(UTC)
        context.write(table(kind, look).render(cells(kind, event, look, now) for event in found))
    else:
        where = "" if args.all_namespaces else f" in {context.namespace(args)} namespace."
        context.note(f"No events found{where}")
