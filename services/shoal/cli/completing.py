"""What could stand where the cursor is: called by the shell's completion script as `shoal __complete WORD… LAST`."""

import asyncio
from collections.abc import Sequence

from shoal.cli.arguments import VALUED_GLOBALS
from shoal.cli.catalogue import VERBS
from shoal.cli.context import Context
from shoal.cli.loading import find_verb, load
from shoal.errors import ShoalError

NAMES_WITHIN_S = 0.3  # a person who pressed the tab key does not wait for a cluster that is away
BY_POD = {"logs", "exec", "attach"}
BY_KIND = {"get", "describe", "delete", "scale", "wait", "patch", "edit", "label", "annotate"}


def complete(words: Sequence[str]) -> int:
    *before, last = words or [""]
    try:
        for word in candidates(list(before), last):
            if word.startswith(last):
                print(word)
    except ShoalError:
        return 1
    return 0


def candidates(before: list[str], last: str) -> list[str]:
    """`before`: the whole words. Not yet narrowed to what begins with `last`."""
    verb, rest = find_verb(before)
    if not verb:
        return [*VERBS]
    if verb == "help":
        return [*VERBS]
    if verb not in VERBS or not VERBS[verb].module or "--" in rest:
        return []
    if last.startswith("-"):
        return _flags(verb)
    return _words(verb, rest, last)


def _flags(verb: str) -> list[str]:
    from shoal.cli.arguments import Flag

    parser, _ = load(verb, VERBS[verb].module)
    return [
        name if isinstance(action, Flag) else f"{name}="
        for action in parser.shown()
        for name in getattr(action, "shown", action.option_strings)
        if name.startswith("--")
    ]


def _words(verb: str, rest: list[str], last: str) -> list[str]:
    from shoal.model.registry import KINDS

    match rest[-1:]:
        case ["-n" | "--namespace"]:
            return _names("namespaces", "")
        case ["-o" | "--output"]:
            return ["wide", "yaml", "json", "name"]
        case ["-f" | "--filename"]:
            return []
    named = _named(rest)
    namespace = _namespace(rest)
    if verb == "completion":
        return ["bash", "zsh", "fish"]
    if verb in {"schema", "explain"}:
        return [kind.singular for kind in KINDS]
    if verb in BY_POD:
        return [] if named else _names("pods", namespace)
    if verb not in BY_KIND:
        return []
    kinds = [kind.resource for kind in KINDS] if verb != "scale" else ["replicasets"]
    if "/" in last:
        resource = last.partition("/")[0]
        return [f"{resource}/{name}" for name in _names(resource, namespace)]
    return _names(named[0], namespace) if named else kinds


def _named(rest: Sequence[str]) -> list[str]:
    """The words that are neither flags nor (as far as can be told without a parser) their values."""
    valued = (*VALUED_GLOBALS, "-o", "--output", "-l", "--selector", "-f", "--filename", "-c", "--container")
    return [
        word
        for number, word in enumerate(rest)
        if not word.startswith("-") and (number == 0 or rest[number - 1] not in valued)
    ]


def _namespace(rest: Sequence[str]) -> str:
    for flag, value in zip(rest, [*rest[1:], ""], strict=False):
        if flag in {"-n", "--namespace"}:
            return value
        if flag.startswith("--namespace="):
            return flag.partition("=")[2]
    return ""


def _names(resource: str, namespace: str) -> list[str]:
    """Raises: ShoalError."""
    from shoal.model.registry import by_resource, decode

    kind = by_resource(resource)
    context = Context()

    async def ask() -> list[str]:
        async with asyncio.timeout(NAMES_WITHIN_S), context.connect() as cluster:
            reply = await cluster.list(
                kind.resource, (namespace or context.default_namespace) if kind.namespaced else ""
            )
            return [decode(kind, raw).metadata.name for raw in reply.items]

    try:
        return asyncio.run(ask())
    except TimeoutError:
        return []
