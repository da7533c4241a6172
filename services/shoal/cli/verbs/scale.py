"""Set the number of replicas of a ReplicaSet."""

import argparse

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_selector
from shoal.cli.context import Context
from shoal.cli.resources import shown, targets
from shoal.errors import BadRequest, NotFound
from shoal.model.registry import Kind, decode
from shoal.wire import ScaleRequest

USAGE = "--replicas=COUNT (TYPE NAME… | TYPE/NAME…) [flags]"
EXAMPLES = """
shoal scale rs/web --replicas=5
shoal scale rs web db --replicas=0                          two of them
shoal scale rs/web --replicas=5 --current-replicas=3        only if it is 3 now
"""


def arguments(parser: Parser) -> None:
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
    wanted = targets(args.names)
    for target in wanted:
        if target.kind.resource != "replicasets":
            raise BadRequest(f"{target.kind.resource} cannot be scaled: they have no number of replicas")
    namespace = context.namespace(args)
    async with context.connect() as cluster:
        for target in wanted:
            names = list(target.names)
            if not names:
                if not (args.selector or args.all):
                    raise UsageError("name what to scale, or use -l LABELS or --all")
                reply = await cluster.list(target.kind.resource, namespace, label_selector=args.selector)
                names = [decode(target.kind, raw).metadata.name for raw in reply.items]
                if not names:
                    raise NotFound("no objects passed to scale")
            for name in names:
                request = ScaleRequest(
                    name=name, replicas=args.replicas, current_replicas=args.current_replicas,
                    dry_run=args.dry_run == "server",
                )  # fmt: skip
                if args.dry_run != "client":
                    await cluster.scale(target.kind.resource, namespace, request)
                context.write(_done(target.kind, name, args.dry_run))
    return 0


def _done(kind: Kind, name: str, dry_run: str) -> str:
    suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")
    return f"{shown(kind, name)} scaled{suffix}\n"
