"""Delete objects, and wait until they are gone (containers stopped, addresses free).

By file, by name, by label, or all of a kind in the namespace. What an object owns goes with it, unless --cascade=orphan.
"""

import argparse
from typing import TYPE_CHECKING

import msgspec

from shoal.cli.arguments import (
    Parser,
    UsageError,
    add_all_namespaces,
    add_dry_run,
    add_field_selector,
    add_files,
    add_selector,
    duration_s,
    one_of,
)
from shoal.cli.context import Context
from shoal.cli.failure import sentences
from shoal.cli.resources import Named
from shoal.cli.tracing import publish_span
from shoal.cli.verbs.wait import named
from shoal.cli.waiting import State, wait_all
from shoal.errors import NotFound, Retryable, ShoalError
from shoal.wire import DeleteRequest

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "(-f PATH | TYPE/NAME… | TYPE NAME… | TYPE -l LABELS | TYPE --field-selector FIELDS | TYPE --all) [flags]"
EXAMPLES = """
shoal delete -f web.yaml
shoal delete pod web                          wait until its containers are gone
shoal delete rs -l app=web --wait=false
shoal delete pods --field-selector=status.phase=Failed
shoal delete rs web --cascade=orphan          its pods stay
shoal delete pod web --force --grace-period=0    the record goes now, whatever its node says
"""
POLICIES = {
    "background": "Background",
    "foreground": "Foreground",
    "orphan": "Orphan",
    "true": "Background",
    "false": "Orphan",
}
FORCED = (
    "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated."
    " The resource may continue to run on the cluster indefinitely."
)
A_WEEK = 7 * 86400.0


def arguments(parser: Parser) -> None:
    add_files(parser)
    add_selector(parser)
    add_field_selector(parser)
    add_all_namespaces(parser)
    parser.flag("--all", help="all of the kind in the namespace")
    parser.value("--grace-period", type=int, default=-1, metavar="SECONDS", help="to stop in; -1: as the object says")
    parser.flag("--now", help="a grace period of 1")
    parser.flag("--force", help="with a grace period of 0: remove the record at once")
    parser.value(
        "--cascade", implied="background", default="background", metavar="background|foreground|orphan",
        type=one_of(*POLICIES), help="what becomes of what it owns: goes after it, before it, or stays",
    )  # fmt: skip
    parser.flag("--wait", default=True, help="until all of it is gone")
    parser.value("--timeout", type=duration_s, default=0.0, metavar="TIME", help="of the wait (default: none)")
    parser.flag(
        "--ignore-not-found", default=None, help="what is not there is no error (default with --all and selectors)"
    )
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "name"), help="name")
    add_dry_run(parser)


class Gone(msgspec.Struct, frozen=True):
    """An object whose deletion was asked for: gone too when another of its name stands there (`uid`)."""

    named: Named
    uid: str


async def run(context: Context, args: argparse.Namespace) -> int:
    _check_grace(args)
    failed = False
    doomed: list[Gone] = []
    async with context.connect() as cluster:
        objects = await named(cluster, context, args)
        if args.filename:
            objects.reverse()  # the last document first, as it was made last
        if not objects and not args.filename:
            context.write("No resources found\n")
        if args.force and objects:
            context.note(FORCED)
        with publish_span(context.env) as traceparent:
            for obj in objects:
                try:
                    doomed.append(await _delete(cluster, context, args, obj, traceparent))
                except NotFound as error:
                    if args.ignore_not_found or (
                        args.ignore_not_found is None and (args.all or args.selector or args.field_selector)
                    ):
                        continue
                    failed = True
                    context.note(f"error: {error}")
                except Retryable:
                    raise
                except ShoalError as error:
                    failed = True
                    for sentence in sentences(error):
                        context.note(f"error: {sentence}")
        if args.wait and args.dry_run == "none" and doomed:
            await _wait(cluster, context, args, doomed)
    return 1 if failed else 0


def _check_grace(args: argparse.Namespace) -> None:
    if args.now:
        if args.grace_period >= 0:
            raise UsageError("--now and --grace-period exclude each other")
        args.grace_period = 1
    if args.force and args.grace_period < 0:
        args.grace_period = 0
    if args.force and args.grace_period > 0:
        raise UsageError("--force goes with --grace-period=0")
    if args.grace_period == 0 and not args.force:
        args.grace_period = 1  # as kubectl: 0 is for --force alone


async def _delete(cluster: "Client", context: Context, args: argparse.Namespace, obj: Named, traceparent: str) -> Gone:
    request = DeleteRequest(
        name=obj.name,
        propagation_policy=POLICIES[args.cascade],
        grace_period_seconds=args.grace_period if args.grace_period >= 0 else None,
        force=args.force,
        dry_run=args.dry_run != "none",
    )
    raw = await cluster.delete(obj.kind.resource, obj.namespace, request, traceparent=traceparent)
    suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
    if args.output == "name":
        context.write(f"{obj.shown}\n")
    else:
        word = "force deleted" if args.force else "deleted"
        context.write(
            f'{obj.kind.singular}{f".{obj.kind.group}" if obj.kind.group else ""} "{obj.name}" {word}{suffix}\n'
        )
    context.flush()
    return Gone(obj, msgspec.json.decode(raw)["metadata"].get("uid", ""))


async def _wait(cluster: "Client", context: Context, args: argparse.Namespace, doomed: list[Gone]) -> None:
    uids = {gone.uid for gone in doomed}

    def gone(state: State) -> bool:
        return state is None or state["metadata"].get("uid") not in uids

    timeout = args.timeout or A_WEEK
    await wait_all(cluster, context, [gone.named for gone in doomed], gone, "", timeout=timeout)
