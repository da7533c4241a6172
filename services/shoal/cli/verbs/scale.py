"""Set the number of replicas of a ReplicaSet."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_files, add_selector
from shoal.cli.context import Context
from shoal.cli.files import named_in
from shoal.cli.output.changed import print_changed
from shoal.cli.resources import Named, targets
from shoal.cli.tracing import publish_span
from shoal.errors import BadRequest, NotFound
from shoal.model.registry import Kind, decode
from shoal.wire import ScaleRequest

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "--replicas=COUNT (-f PATH | TYPE NAME… | TYPE/NAME…) [flags]"
EXAMPLES = """
shoal scale rs/web --replicas=5
shoal scale rs web db --replicas=0                          two of them
shoal scale -f web.yaml --replicas=0                        what a manifest names
shoal scale rs/web --replicas=5 --current-replicas=3        only if it is 3 now
"""


def arguments(parser: Parser) -> None:
    add_files(parser)
    add_selector(parser)
    parser.value("--replicas", type=int, default=None, metavar="COUNT", help="how many there shall be")
    parser.value(
        "--current-replicas", type=int, default=None, metavar="COUNT", help="refuse if it is another number now"
    )
    parser.flag("--all", help="all of the kind in the namespace")
    add_dry_run(parser)


async def run(context: Context, args: argparse.Namespace) -> int:
    if args.replicas is None or args.replicas < 0:
        raise UsageError("--replicas=COUNT is needed, 0 or more")
    async with context.connect() as cluster:
        with publish_span(context.env) as traceparent:
            for obj in await _chosen(cluster, context, args):
                request = ScaleRequest(
                    name=obj.name, replicas=args.replicas, current_replicas=args.current_replicas,
                    dry_run=args.dry_run == "server",
                )  # fmt: skip
                if args.dry_run != "client":
                    await cluster.scale(obj.kind.resource, obj.namespace, request, traceparent=traceparent)
                print_changed(context, "", obj.shown, "scaled", dry_run=args.dry_run)
    return 0


async def _chosen(cluster: "Client", context: Context, args: argparse.Namespace) -> list[Named]:
    """Raises: UsageError, BadRequest for a kind that has no replicas, NotFound if nothing is chosen."""
    if args.filename:
        found = named_in(context, args)
        _check_kinds(obj.kind for obj in found)
        return found
    wanted = targets(args.names)
    _check_kinds(target.kind for target in wanted)
    namespace = context.namespace(args)
    found = []
    for target in wanted:
        names = list(target.names)
        if not names:
            if not (args.selector or args.all):
                raise UsageError("name what to scale, or use -l LABELS or --all")
            reply = await cluster.list(target.kind.resource, namespace, label_selector=args.selector)
            names = [decode(target.kind, raw).metadata.name for raw in reply.items]
            if not names:
                raise NotFound("no objects passed to scale")
        found += [Named(target.kind, namespace, name) for name in names]
    return found


def _check_kinds(kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        if kind.resource != "replicasets":
            raise BadRequest(f"{kind.resource} cannot be scaled: they have no number of replicas")
