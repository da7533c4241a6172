"""Create objects from files. What exists already is an error: `shoal apply` changes it."""

import argparse

import msgspec

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_files, one_of
from shoal.cli.context import Context
from shoal.cli.failure import sentences
from shoal.cli.files import read
from shoal.cli.output.changed import print_changed
from shoal.cli.resources import shown
from shoal.cli.tracing import publish_span
from shoal.errors import Retryable, ShoalError
from shoal.wire import CreateRequest

USAGE = "(-f PATH | namespace NAME) [flags]"
EXAMPLES = """
shoal create -f web.yaml
shoal create namespace prod
shoal create -f web.yaml --dry-run=client -o yaml       with every default filled in
"""


def arguments(parser: Parser) -> None:
    add_files(parser)
    add_dry_run(parser)
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "name", "json", "yaml"),
                 help="name | json | yaml")  # fmt: skip


async def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.model.manifest import parse
    from shoal.model.registry import kind_of_object

    documents = [
        document
        for source, text in _texts(args)
        for document in parse(text, source=source, namespace=args.namespace or "", need_name=False)
    ]
    failed = False
    if args.dry_run == "client":
        for document in documents:
            kind = kind_of_object(document.object)
            name = shown(kind, document.object.metadata.name)
            raw = msgspec.Raw(msgspec.json.encode(document.object))
            print_changed(context, args.output, name, "created", raw, dry_run="client")
        return 0
    async with context.connect() as cluster:
        with publish_span(context.env) as traceparent:
            for document in documents:
                kind = kind_of_object(document.object)
                namespace = document.object.metadata.namespace or context.namespace(args) if kind.namespaced else ""
                body = CreateRequest(
                    object=msgspec.Raw(msgspec.json.encode(document.raw)), dry_run=args.dry_run == "server"
                )
                try:
                    made = await cluster.create(kind.resource, namespace, body, traceparent=traceparent)
                except Retryable:
                    raise
                except ShoalError as error:
                    failed = True
                    for sentence in sentences(error):
                        context.note(f"error: {sentence}")
                    continue
                name = shown(kind, msgspec.json.decode(made)["metadata"]["name"])
                print_changed(context, args.output, name, "created", made, dry_run=args.dry_run)
    return 1 if failed else 0


def _texts(args: argparse.Namespace) -> list[tuple[str, str]]:
    match args.names:
        case ["namespace" | "ns", name]:
            head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            return [("", msgspec.json.encode(head).decode())]
        case []:
            return [(file.source, file.text) for file in read(args.filename, recursive=args.recursive)]
        case _:
            raise UsageError(f"cannot create {args.names[0]!r} by words; write a manifest and use -f")
