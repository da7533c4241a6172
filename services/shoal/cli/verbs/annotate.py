"""Set, change and remove annotations (texts for people and tools; nothing selects by them): KEY=VALUE sets, KEY- removes."""

import argparse

from shoal.cli import marking
from shoal.cli.arguments import Parser
from shoal.cli.context import Context

USAGE = "(TYPE NAME… | TYPE/NAME… | TYPE -l LABELS | TYPE --all | -f PATH) KEY=VALUE… KEY-… [flags]"
EXAMPLES = """
shoal annotate pod web note='restarted by hand'
shoal annotate --overwrite rs/web owner=ops
shoal annotate pods --all note-
"""
MARK = marking.Mark(field="annotations", noun="annotation", done="annotated", undone="annotated")


def arguments(parser: Parser) -> None:
    marking.arguments(parser, MARK)


async def run(context: Context, args: argparse.Namespace) -> int:
    return await marking.run(context, args, MARK)
