"""Print the version of this client, and of the cluster if it answers."""

import argparse

from shoal.cli.arguments import Parser, add_output
from shoal.cli.context import Context
from shoal.errors import ShoalError

USAGE = "[flags]"
EXAMPLES = """
shoal version
shoal version --client -o json
"""


def arguments(parser: Parser) -> None:
    parser.flag("--client", help="of this client alone")
    add_output(parser, "json", "yaml")


async def run(context: Context, args: argparse.Namespace) -> int:
    from importlib.metadata import version

    found = {"clientVersion": f"v{version('shoal')}"}
    error: ShoalError | None = None
    if not args.client:
        try:
            async with context.connect() as cluster:
                found["serverVersion"] = f"v{await cluster.version()}"
        except ShoalError as e:
            error = e
    if args.output:
        from shoal.cli.output.text import to_json, to_yaml

        context.write(to_json(found) if args.output == "json" else to_yaml(found))
    else:
        context.write(f"Client Version: {found['clientVersion']}\n")
        if "serverVersion" in found:
            context.write(f"Server Version: {found['serverVersion']}\n")
    if error:
        raise error
    return 0
