"""Change fields of an object by a JSON merge patch: what is given replaces, null removes, the rest stays."""

import argparse

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_files, one_of
from shoal.cli.context import Context
from shoal.cli.files import named_in
from shoal.cli.resources import Named, one
from shoal.cli.tracing import publish_span
from shoal.errors import BadRequest
from shoal.wire import PatchRequest

USAGE = "(TYPE/NAME | TYPE NAME | -f PATH) -p PATCH [flags]"
EXAMPLES = """
shoal patch rs/web -p '{"spec": {"replicas": 3}}'
shoal patch pod web -p '{"metadata": {"labels": {"tier": null}}}'
shoal patch -f web.yaml -p '{"spec": {"replicas": 3}}'      each object that it names
shoal patch node n1 -p '{"spec": {"unschedulable": true}}'
"""


def arguments(parser: Parser) -> None:
    add_files(parser)
    parser.value("-p", "--patch", default="", help="the patch, JSON or YAML")
    parser.value("--type", default="merge", type=one_of("merge"), help="merge (RFC 7396) is the one that is known")
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "json", "yaml", "name"),
                 help="json | yaml | name")  # fmt: skip
    add_dry_run(parser)


async def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.cli.output.changed import print_changed

    patch = _patch(args.patch)
    async with context.connect() as cluster:
        with publish_span(context.env) as traceparent:
            for obj in _chosen(context, args):
                resource = obj.kind.resource
                request = PatchRequest(name=obj.name, patch=patch, dry_run=args.dry_run != "none")
                before = await cluster.get(resource, obj.namespace, obj.name)
                after = await cluster.patch(resource, obj.namespace, request, traceparent=traceparent)
                result = "patched" if bytes(before) != bytes(after) else "patched (no change)"
                print_changed(context, args.output, obj.shown, result, after, dry_run=args.dry_run)
    return 0


def _chosen(context: Context, args: argparse.Namespace) -> list[Named]:
    if args.filename:
        return named_in(context, args)
    kind, name = one(args.names)
    return [Named(kind, context.namespace(args) if kind.namespaced else "", name)]


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
