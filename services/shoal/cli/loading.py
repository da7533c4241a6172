"""From words to a verb that runs: which word is the verb, its module and parser, its run."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from shoal.cli.arguments import VALUED_GLOBALS, Parser, add_global


def find_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The first word that is neither a flag nor its value; and all the others (`-n prod get pods` is `get -n prod pods`)."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        if argv[at] == "--version":
            return "version", [*argv[:at], "--client", *argv[at + 1 :]]
        at += 2 if argv[at] in VALUED_GLOBALS else 1
    if at >= len(argv):
        return "", list(argv)
    return argv[at], [*argv[:at], *argv[at + 1 :]]


def load(name: str, module_name: str) -> tuple[Parser, Any]:
    """The verb's module and its parser."""
    module = import_module(f"shoal.cli.verbs.{module_name}")
    parser = Parser(name)
    module.arguments(parser)
    add_global(parser)
    return parser, module


def execute(module: Any, args: Namespace) -> int:
    """Raises whatever the verb raises."""
    from shoal.cli.context import Context

    result = module.run(Context(server=args.server), args)
    if isinstance(result, int):
        return result
    code: int = asyncio.run(result)
    return code
