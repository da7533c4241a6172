"""Change fields of an object by a JSON merge patch: what is given replaces, null removes, the rest stays."""

import argparse

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_dry_run, one_of
from shoal.cli.context import Context
from shoal.cli.resources import one, shown
from shoal.errors import BadRequest
from shoal.wire import PatchRequest

USAGE = "TYPE/NAME -p PATCH [flags]"
EXAMPLES = """
shoal patch rs/web -p '{"spec": {"replicas": 3}}'
shoal patch pod web -p '{"metadata": {"labels": {"tier": null}}}'
shoal patch node n1 -p '{"spec": {"unschedulable": true}}'
"""


def arguments(parser: Parser) -> None:
    parser.value("-p", "--patch", default="", help="the patch, JSON or YAML")
    parser.value("--type", default="merge", type=one_of("merge"), help="merge (RFC 7396) is the one that is known")
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "json", "yaml", "name"),
                 help="json | yaml | name")  # fmt: skip
    add_dry_run(parser)


async def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.cli.output.changed import print_changed

    kind, name = one(args.names)
    namespace = context.namespace(args) if kind.namespaced else ""
    request = PatchRequest(name=name, patch=_patch(args.patch), dry_run=args.dry_run != "none")
    async with context.connect() as cluster:
        before = await cluster.get(kind.resource, namespace, name)
        after = await cluster.patch(kind.resource, namespace, request)
    result = "patched" if bytes(before) != bytes(after) else "patched (no change)"
    print_changed(context, args.output, shown(kind, name), result, after, dry_run=args.dry_run)
    return 0


def _patch(text: str) -> dict[str, object]:
    if not text:
        raise UsageError("-p PATCH is needed")
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        import yaml

        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise BadRequest("the patch is neither JSON nor YAML") from e
    if not isinstance(value, dict):
        raise BadRequest('the patch must be an object, such as {"spec": {"replicas": 3}}')
    return value
