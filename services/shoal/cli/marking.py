"""`label` and `annotate`: one way for both kinds of marks in an object's metadata."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.cli.arguments import (
    Parser,
    UsageError,
    add_all_namespaces,
    add_dry_run,
    add_field_selector,
    add_files,
    add_selector,
    one_of,
)
from shoal.cli.context import Context
from shoal.cli.failure import sentences
from shoal.cli.output.changed import print_changed
from shoal.cli.resources import Named
from shoal.cli.tracing import publish_span
from shoal.cli.verbs.wait import named
from shoal.errors import BadRequest, Conflict, NotFound, Retryable, ShoalError
from shoal.wire import PatchRequest

if TYPE_CHECKING:
    from shoal.client import Client

TRIES = 5


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """`field`: of the metadata. `done`, `undone`: how an object is called afterwards."""

    field: str
    noun: str
    done: str
    undone: str


class Wanted(msgspec.Struct, frozen=True):
    """None: to be removed."""

    changes: dict[str, str | None]
    overwrite: bool = False


def arguments(parser: Parser, mark: Mark) -> None:
    parser.flag("--overwrite", help=f"a {mark.noun} that has another value is changed; else that is an error")
    add_selector(parser)
    add_field_selector(parser)
    parser.flag("--all", help="all of the kind in the namespace")
    add_all_namespaces(parser)
    add_files(parser)
    parser.flag("--list", help=f"print the {mark.noun}s, one a line")
    parser.value("--resource-version", default="", metavar="REVISION", help="only if the object is at this one")
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", "name", "json", "yaml"),
                 help="name | json | yaml")  # fmt: skip
    add_dry_run(parser)


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """What names objects, then what marks them: `pods web app=x tier-`. Raises: UsageError."""
    at = next((n for n, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    changes: dict[str, str | None] = {}
    for word in words[at:]:
        key, equals, value = word.partition("=")
        if not equals and not word.endswith("-"):
            raise UsageError(f"{word!r} is neither KEY=VALUE nor KEY-; objects are named before them")
        name = key if equals else word[:-1]
        if not name or name in changes:
            raise UsageError(f"{name!r} is changed twice" if name else f"{word!r} has no key")
        changes[name] = value if equals else None
    return list(words[:at]), changes


def change(current: Mapping[str, str], wanted: Wanted) -> dict[str, str | None]:
    """What differs, as a merge patch. Raises: BadRequest for what would be overwritten and may not be."""
    if not wanted.overwrite:
        for key, value in wanted.changes.items():
            if value is not None and current.get(key, value) != value:
                raise BadRequest(f"'{key}' already has a value ({current[key]}), and --overwrite is false")
    return {key: value for key, value in wanted.changes.items() if current.get(key) != value}


async def run(context: Context, args: argparse.Namespace, mark: Mark) -> int:
    words, changes = split(args.names)
    if not changes and not args.list:
        raise UsageError(f"say what to change: KEY=VALUE sets a {mark.noun}, KEY- removes it")
    args.names = words
    failed = False
    async with context.connect() as cluster:
        objects = await named(cluster, context, args)
        if not objects:
            raise NotFound("no resources found")
        with publish_span(context.env) as traceparent:
            for obj in objects:
                try:
                    await _mark(cluster, context, args, mark, obj, Wanted(changes, args.overwrite), traceparent)
                except Retryable as error:
                    if not isinstance(error, Conflict):
                        raise
                    failed = _told(context, error)
                except ShoalError as error:
                    failed = _told(context, error)
    return 1 if failed else 0


def _told(context: Context, error: ShoalError) -> bool:
    for sentence in sentences(error):
        context.note(f"error: {sentence}")
    return True


async def _mark(
    cluster: "Client",
    context: Context,
    args: argparse.Namespace,
    mark: Mark,
    obj: Named,
    wanted: Wanted,
    traceparent: str,
) -> None:
    """What was looked at is what is changed: who writes in between makes it look again."""
    for last in (*[False] * (TRIES - 1), True):
        before = msgspec.json.decode(await cluster.get(obj.kind.resource, obj.namespace, obj.name))
        meta = before["metadata"]
        current: dict[str, str] = meta.get(mark.field, {})
        differing = change(current, wanted)
        after: Any = {**before, "metadata": {**meta, mark.field: _merged(current, differing)}}
        if not differing or args.dry_run == "client":
            break
        request = PatchRequest(
            name=obj.name, patch={"metadata": {mark.field: differing}}, dry_run=args.dry_run == "server",
            resource_version=args.resource_version or meta.get("resourceVersion", ""),
        )  # fmt: skip
        try:
            raw = await cluster.patch(obj.kind.resource, obj.namespace, request, traceparent=traceparent)
            after = msgspec.json.decode(raw)
            break
        except Conflict:
            if last or args.resource_version:
                raise
    if args.list:
        context.write(f"Listing {mark.noun}s for {obj.shown}:\n" if not args.output else "")
        marks = after["metadata"].get(mark.field, {})
        context.write("".join(f" {key}={value}\n" for key, value in sorted(marks.items())))
        return
    for key in (k for k, v in wanted.changes.items() if v is None and k not in current):
        context.note(f'{mark.noun} "{key}" not found.')
    raw = msgspec.Raw(msgspec.json.encode(after))
    print_changed(context, args.output, obj.shown, _word(mark, differing), raw, dry_run=args.dry_run)


def _merged(current: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**current, **patch}.items() if value is not None}


def _word(mark: Mark, differing: Mapping[str, str | None]) -> str:
    """Kubectl's."""
    if not differing:
        return f"not {mark.done}"
    return mark.undone if all(value is None for value in differing.values()) else mark.done
