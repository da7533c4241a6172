"""Wait until a condition holds for each of the objects; fails when that takes longer than --timeout."""

import argparse
from typing import TYPE_CHECKING

from shoal.cli.arguments import (
    Parser,
    UsageError,
    add_all_namespaces,
    add_field_selector,
    add_files,
    add_selector,
    duration_s,
)
from shoal.cli.context import Context
from shoal.cli.files import named_in
from shoal.cli.resources import Named, targets
from shoal.cli.waiting import condition, wait_all
from shoal.errors import NotFound
from shoal.model.registry import decode

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "--for=WHAT (-f PATH | TYPE/NAME… | TYPE NAME… | TYPE -l LABELS | TYPE --all) [flags]"
EXAMPLES = """
shoal wait --for=condition=Ready pod/web --timeout=60s
shoal wait --for=condition=Ready pods -l app=web
shoal wait --for=delete pod/web
shoal wait --for=condition=Ready -f pod.yaml
shoal wait --for=jsonpath='{.status.readyReplicas}'=3 rs/web
"""


def arguments(parser: Parser) -> None:
    parser.value("--for", dest="what", default="", metavar="WHAT",
                 help="condition=NAME[=VALUE], delete, create, or jsonpath={PATH}[=VALUE]")  # fmt: skip
    parser.value("--timeout", type=duration_s, default=30.0, metavar="TIME", help="30s, 5m; 0 looks once (default 30s)")
    parser.flag("--all", help="all of the kind in the namespace")
    add_files(parser)
    add_all_namespaces(parser)
    add_selector(parser)
    add_field_selector(parser)


async def run(context: Context, args: argparse.Namespace) -> int:
    if not args.what:
        raise UsageError("--for says what to wait for, such as --for=condition=Ready")
    met, word = condition(args.what)
    async with context.connect() as cluster:
        objects = await named(cluster, context, args)
        if not objects and args.what == "delete":
            return 0
        if not objects:
            raise NotFound("no matching resources found")
        await wait_all(
            cluster, context, objects, met, word, timeout=args.timeout,
            missing_is_error=args.what not in {"delete", "create"},
        )  # fmt: skip
    return 0


async def named(cluster: "Client", context: Context, args: argparse.Namespace) -> list[Named]:
    """The objects that -f, the words, selectors or --all choose. Raises: UsageError."""
    if args.filename:
        return named_in(context, args)
    found: list[Named] = []
    for target in targets(args.names):
        kind = target.kind
        if target.names:
            namespace = context.namespace(args) if kind.namespaced else ""
            found += [Named(kind, namespace, name) for name in target.names]
            continue
        if not (args.selector or args.field_selector or args.all):
            raise UsageError("give names, -l LABELS, --field-selector FIELDS or --all")
        everywhere = context.namespaces(args) if kind.namespaced else ""
        reply = await cluster.list(
            kind.resource, everywhere, label_selector=args.selector, field_selector=args.field_selector
        )
        metas = [decode(kind, raw).metadata for raw in reply.items]
        found += [Named(kind, meta.namespace, meta.name) for meta in metas]
    return found
