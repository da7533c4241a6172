"""Change an object in your editor ($KUBE_EDITOR, $EDITOR, else vi): what you save is applied.

Only what you changed is sent, with the revision that you saw. What is refused comes back into the editor with the reason
as a comment; if somebody else changed the object meanwhile, your changes come back on top of theirs. Saving without a
change, or an empty file, ends it.
"""

import argparse
import asyncio
import shlex
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.cli.arguments import Parser, UsageError, one_of
from shoal.cli.context import Context
from shoal.cli.failure import Failed, sentences
from shoal.cli.merging import difference, merged
from shoal.cli.output.changed import print_changed
from shoal.cli.output.text import to_json, to_yaml
from shoal.cli.resources import Named, one
from shoal.cli.tracing import publish_span
from shoal.errors import BadRequest, Conflict, Refused, ShoalError
from shoal.wire import PatchRequest

if TYPE_CHECKING:
    from shoal.client import Client

USAGE = "TYPE/NAME [flags]"
EXAMPLES = """
shoal edit rs/web
shoal edit pod web -o json
shoal edit node n1
"""
HEAD = """\
# Edit the object below. Lines that begin with '#' are ignored, and an empty file ends the edit.
# What is refused comes back here with the reason. The status is not shown: it is what is seen, not what is wanted.
#
"""


def arguments(parser: Parser) -> None:
    parser.value("-o", "--output", default="yaml", metavar="FORMAT", type=one_of("yaml", "json"),
                 help="what to edit it as: yaml | json")  # fmt: skip


async def run(context: Context, args: argparse.Namespace) -> int:
    kind, name = one(args.names)
    obj = Named(kind, context.namespace(args) if kind.namespaced else "", name)
    async with context.connect() as cluster:
        draft = Draft(obj, await _get(cluster, obj), as_json=args.output == "json")
        with tempfile.TemporaryDirectory(prefix="shoal-edit-") as folder:
            return await _rounds(cluster, context, draft, Path(folder) / f"{kind.singular}-{name}.{args.output}")


async def _get(cluster: "Client", obj: Named) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(await cluster.get(obj.kind.resource, obj.namespace, obj.name))
    found.pop("status", None)
    return found


class Draft:
    """What the person is shown: an object as text, and why it is shown again."""

    def __init__(self, obj: Named, seen: dict[str, Any], *, as_json: bool) -> None:
        self.obj = obj
        self.seen = seen
        self.reasons: list[str] = []
        self.unsaved = False  # the text itself is a change: saving it as it stands applies it
        self._as_json = as_json
        self.text = self._shown(seen)

    def _shown(self, value: dict[str, Any]) -> str:
        return to_json(value) if self._as_json else to_yaml(value)

    @property
    def file(self) -> str:
        return HEAD + "".join(f"# {reason}\n" for reason in self.reasons) + self.text

    def save(self, edited: str) -> PatchRequest | None:
        """What is to be sent; None where nothing is. Raises: BadRequest for a text that is no object."""
        if not edited.strip() or (edited == self.text and not self.unsaved):
            return None
        self.text, self.unsaved = edited, False
        patch = difference(self.seen, _object(edited))
        revision = self.seen["metadata"]["resourceVersion"]
        return PatchRequest(name=self.obj.name, patch=patch, resource_version=revision) if patch else None

    def refused(self, error: ShoalError) -> None:
        self.reasons = [f"{self.obj.shown} was not accepted: {sentence}" for sentence in sentences(error)]

    def overtaken(self, newest: dict[str, Any], patch: dict[str, Any]) -> None:
        self.seen, self.unsaved = newest, True
        self.text = self._shown(merged(newest, patch))
        self.reasons = [f"{self.obj.shown} was changed by somebody else. What follows is the newest with your changes:"]
        self.reasons.append("save it to apply them.")


async def _rounds(cluster: "Client", context: Context, draft: Draft, file: Path) -> int:
    """Until it is applied or given up. Raises: Failed, after what was typed last has a place of its own."""
    obj = draft.obj
    while True:
        request = None
        edited = await _edited(context, file, draft.file)
        try:
            request = draft.save(edited)
            if request is None:
                break
            with publish_span(context.env) as traceparent:
                await cluster.patch(obj.kind.resource, obj.namespace, request, traceparent=traceparent)
        except Conflict:
            assert request is not None
            draft.overtaken(await _get(cluster, obj), request.patch)
        except Refused as error:
            draft.refused(error)
        else:
            print_changed(context, "", obj.shown, "edited")
            return 0
    if not draft.reasons:
        context.note("Edit cancelled, no changes made.")
        return 0
    for reason in draft.reasons:
        context.note(f"error: {reason}")
    kept = _keep(file, draft.text)
    context.note(f"Edit cancelled, no valid changes were saved. A copy of your changes is in {kept}")
    raise Failed


async def _edited(context: Context, file: Path, text: str) -> str:
    """As the editor leaves it, without comments. Raises: UsageError if the editor fails."""
    await asyncio.to_thread(file.write_text, text)
    editor = context.env.get("KUBE_EDITOR") or context.env.get("EDITOR") or "vi"
    before = signal.signal(signal.SIGINT, lambda *_: None)  # ^C is the editor's
    try:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"{editor} {shlex.quote(str(file))}")
        code = await process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if code != 0:
        raise UsageError(f"the editor {editor!r} ended with {code}; $EDITOR names another")
    saved = await asyncio.to_thread(file.read_text)
    return "".join(line for line in saved.splitlines(keepends=True) if not line.startswith("#"))


def _object(text: str) -> dict[str, Any]:
    from shoal.model.yamltext import Unreadable, read

    try:
        documents = read(text)
    except Unreadable as e:
        raise BadRequest(str(e.problem.message)) from e
    match [document.value for document in documents]:
        case [dict() as value]:
            return value
        case _:
            raise BadRequest("the text is not one object")


def _keep(file: Path, text: str) -> str:
    number, kept = tempfile.mkstemp(prefix="shoal-edit-", suffix=file.suffix)
    with open(number, "w") as out:  # noqa: PTH123  (a descriptor)
        out.write(text)
    return kept
