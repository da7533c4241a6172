"""Set, change and remove labels: KEY=VALUE sets one, KEY- removes it. Selectors and owners see the change at once."""

import argparse

from shoal.cli import marking
from shoal.cli.arguments import Parser
from shoal.cli.context import Context

USAGE = "(TYPE NAME… | TYPE/NAME… | TYPE -l LABELS | TYPE --all | -f PATH) KEY=VALUE… KEY-… [flags]"
EXAMPLES = """
shoal label pod web tier=front
shoal label --overwrite pod/web tier=back           another value than it has
shoal label pods -l app=web canary-                 removed from all of them
shoal label node n1 disk=ssd --dry-run=server -o yaml
shoal label pod web --list
"""
MARK = marking.Mark(field="labels", noun="label", done="labeled", undone="unlabeled")


def arguments(parser: Parser) -> None:
    marking.arguments(parser, MARK)


async def run(context: Context, args: argparse.Namespace) -> int:
    return await marking.run(context, args, MARK)
