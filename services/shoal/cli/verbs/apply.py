"""Make the cluster as manifests say: what is missing is created, what differs is changed, the rest is left alone.

A file is checked whole before anything of it is written. A field that was applied once and is no longer in the manifest
is removed; what others set stays.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal.cli.arguments import Parser, UsageError, add_dry_run, add_files, duration_s, one_of
from shoal.cli.context import Context
from shoal.cli.failure import of_status, sentences
from shoal.cli.files import ManifestFile, read
from shoal.cli.output.changed import print_changed
from shoal.cli.resources import Named, shown
from shoal.cli.tracing import publish_span
from shoal.errors import Retryable, ShoalError
from shoal.model.registry import by_resource
from shoal.wire import ApplyReply, ApplyRequest, DocumentResult

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "-f PATH [flags]"
EXAMPLES = """
shoal apply -f web.yaml
shoal apply -f manifests/ -R                 a folder and the folders in it
shoal apply -f web.yaml --dry-run=server     what it would do
shoal apply -f web.yaml --wait               and come back when it runs
generate | shoal apply -f -
"""


def arguments(parser: Parser) -> None:
    add_files(parser)
    add_dry_run(parser)
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "name", "json", "yaml"),
                 help="name | json | yaml")  # fmt: skip
    parser.flag("--ignore-unknown", help="an unknown field is a warning, not an error")
    parser.value(
        "--validate", implied="strict", default="strict", metavar="strict|warn|ignore",
        type=one_of("strict", "true", "warn", "ignore", "false"), help="warn and ignore are --ignore-unknown",
    )  # fmt: skip
    parser.flag("--wait", default=False, help="until all of it is ready")
    parser.value("--timeout", type=duration_s, default=300.0, metavar="TIME", help="of --wait (default 5m)")


async def run(context: Context, args: argparse.Namespace) -> int:
    if args.names:
        raise UsageError(f"{args.names[0]!r} is not expected here; manifests are named by -f")
    files = list(read(args.filename, recursive=args.recursive))
    if args.dry_run == "client":
        return _check_here(context, args, files)
    failed = False
    applied: list[DocumentResult] = []
    async with context.connect() as cluster:
        for file in files:
            try:
                with publish_span(context.env) as traceparent:
                    reply = await cluster.apply(request(args, file), traceparent=traceparent)
            except Retryable:
                raise
            except ShoalError as error:  # the next file may still be right
                failed = True
                for sentence in sentences(error):
                    context.note(f"error: {_placed(sentence, file)}")
                continue
            failed |= await _tell(cluster, context, args, file, reply)
            applied += [result for result in reply.results if result.error is None]
        if args.wait and args.dry_run == "none" and applied:
            await _wait(cluster, context, args, applied)
    return 1 if failed else 0


def request(args: argparse.Namespace, file: ManifestFile) -> ApplyRequest:
    lenient = args.ignore_unknown or args.validate in {"warn", "ignore", "false"}
    return ApplyRequest(
        manifest=file.text,
        source=file.source,
        dry_run=args.dry_run == "server",
        ignore_unknown=lenient,
        namespace=args.namespace or "",
    )


def _placed(sentence: str, file: ManifestFile) -> str:
    return sentence if file.source in sentence else f"{file.source}: {sentence}"


async def _tell(
    cluster: "Client", context: Context, args: argparse.Namespace, file: ManifestFile, reply: ApplyReply
) -> bool:
    """Print what became of a file. True: something of it failed."""
    if reply.error is not None:
        for sentence in of_status(reply.error).splitlines():
            context.note(f"error: {_placed(sentence, file)}")
    for result in reply.results:
        for warning in result.warnings:
            context.note(f"Warning: {_placed(warning, file)}")
        if result.error is not None:
            for sentence in of_status(result.error).splitlines():
                context.note(f"error: {_placed(f'document {result.document}: {sentence}', file)}")
            continue
        kind = by_resource(result.resource)
        obj = None
        if args.output in {"json", "yaml"} and args.dry_run == "none":
            obj = await cluster.get(result.resource, result.namespace, result.name)
        print_changed(context, args.output, shown(kind, result.name), result.result, obj, dry_run=args.dry_run)
    return reply.error is not None or any(result.error is not None for result in reply.results)


def _check_here(context: Context, args: argparse.Namespace, files: Sequence[ManifestFile]) -> int:
    """--dry-run=client: the same rules, without a cluster (so nobody can say whether it would change anything)."""
    import msgspec

    from shoal.model.manifest import parse
    from shoal.model.registry import kind_of_object

    failed = False
    for file in files:
        try:
            documents = parse(file.text, source=file.source, namespace=args.namespace or "")
        except ShoalError as error:
            failed = True
            for sentence in sentences(error):
                context.note(f"error: {_placed(sentence, file)}")
            continue
        for document in documents:
            kind = kind_of_object(document.object)
            raw = msgspec.Raw(msgspec.json.encode(document.object))
            name = shown(kind, document.object.metadata.name)
            print_changed(context, args.output, name, "created", raw, dry_run="client")
    return 1 if failed else 0


async def _wait(
    cluster: "Client", context: Context, args: argparse.Namespace, applied: Sequence[DocumentResult]
) -> None:
    from shoal.cli.waiting import is_ready, wait_all

    named = [Named(by_resource(result.resource), result.namespace, result.name) for result in applied]
    await wait_all(cluster, context, named, is_ready, "ready", timeout=args.timeout)
