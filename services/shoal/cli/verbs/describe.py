"""Show one or many objects in full, with what belongs to them and their events.

A name that is not there is taken as the beginning of names.
"""

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_all_namespaces, add_files, add_selector
from shoal.cli.context import Context
from shoal.cli.failure import sentences
from shoal.cli.files import named_in
from shoal.cli.resources import Named, Target, targets
from shoal.cli.verbs.get import nothing_found
from shoal.errors import NotFound, ShoalError
from shoal.model.event import Event
from shoal.model.meta import Object
from shoal.model.namespace import Namespace
from shoal.model.node import Node
from shoal.model.pod import Pod
from shoal.model.registry import Kind, by_resource, decode
from shoal.model.replicaset import ReplicaSet
from shoal.wire import EventsRequest

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "(-f PATH | TYPE [NAME…] | TYPE/NAME…) [flags]"
EXAMPLES = """
shoal describe pod web                  one pod, with its events
shoal describe rs/web pod/web-0         two objects
shoal describe -f web.yaml              what a manifest names
shoal describe pods -l app=web          all with that label
shoal describe nodes                    hosts: conditions, capacity, what runs there
"""


def arguments(parser: Parser) -> None:
    add_files(parser)
    add_all_namespaces(parser)
    add_selector(parser)
    parser.flag("--show-events", default=True, help="with events")


async def run(context: Context, args: argparse.Namespace) -> int:
    in_files = named_in(context, args) if args.filename else []
    wanted = () if args.filename else targets(args.names)
    if args.selector and any(target.names for target in wanted):
        raise UsageError("a name and a selector exclude each other")
    errors: list[ShoalError] = []
    async with context.connect() as cluster:
        found = await _read(cluster, in_files, errors)
        found += [obj for target in wanted for obj in await _fetch(cluster, context, args, target, errors)]
        pages = [await describe(cluster, obj, context.now(), with_events=args.show_events) for obj in found]
    context.write("\n\n".join(pages))
    for error in errors:
        for sentence in sentences(error):
            context.note(f"error: {sentence}")
    if not pages and not errors:
        context.note(nothing_found(context, args, [target.kind for target in wanted]))
    return 1 if errors else 0


async def _read(cluster: "Client", objects: Sequence[Named], errors: list[ShoalError]) -> list[Object]:
    found = []
    for obj in objects:
        try:
            found.append(decode(obj.kind, await cluster.get(obj.kind.resource, obj.namespace, obj.name)))
        except NotFound as e:
            errors.append(e)
    return found


async def _fetch(
    cluster: "Client", context: Context, args: argparse.Namespace, target: Target, errors: list[ShoalError]
) -> list[Object]:
    kind = target.kind
    namespace = context.namespaces(args) if kind.namespaced else ""
    if not target.names:
        return await _list(cluster, kind, namespace, labels=args.selector)
    found: list[Object] = []
    for name in target.names:
        try:
            if namespace is None:
                raise UsageError("an object cannot be named across all namespaces")
            found.append(decode(kind, await cluster.get(kind.resource, namespace, name)))
        except NotFound as e:
            begin = [o for o in await _list(cluster, kind, namespace) if o.metadata.name.startswith(name)]
            found += begin
            if not begin:
                errors.append(e)
    return found


async def _list(
    cluster: "Client", kind: Kind, namespace: str | None, *, labels: str = "", fields: str = ""
) -> list[Object]:
    reply = await cluster.list(kind.resource, namespace, label_selector=labels, field_selector=fields)
    return [decode(kind, raw) for raw in reply.items]


async def describe(cluster: "Client", obj: Object, now: datetime, *, with_events: bool = True) -> str:
    """Fetch what belongs to an object, and lay it out."""
    from shoal.model.registry import kind_of_object

    meta = obj.metadata
    events: list[Event] = []
    if with_events:
        request = EventsRequest(resource=kind_of_object(obj).resource, name=meta.name, uid=meta.uid)
        events = await cluster.events(meta.namespace, request)
    match obj:
        case Pod():
            from shoal.cli.describe import pod

            return pod.describe(obj, events, now)
        case ReplicaSet():
            from shoal.cli.describe import replicaset

            pods = await _pods(cluster, meta.namespace)
            return replicaset.describe(obj, pods, events, now)
        case Node():
            from shoal.cli.describe import node

            return node.describe(obj, await _pods(cluster, None, f"spec.nodeName={meta.name}"), events, now)
        case Namespace():
            from shoal.cli.describe import namespace

            return namespace.describe(obj, events, now)
        case _:
            from shoal.cli.describe import generic

            return generic.describe(msgspec.to_builtins(obj), events, now)


async def _pods(cluster: "Client", namespace: str | None, fields: str = "") -> Sequence[Pod]:
    return cast("list[Pod]", await _list(cluster, by_resource("pods"), namespace, fields=fields))
