"""Print the JSON schema of a kind: every field, its type and what is allowed. Editors complete manifests by it."""

import argparse

from shoal.cli.arguments import Parser, UsageError, add_output
from shoal.cli.context import Context
from shoal.cli.output.text import to_json, to_yaml
from shoal.model.registry import by_resource

USAGE = "KIND [flags]"
EXAMPLES = """
shoal schema pod > pod.schema.json
shoal schema rs -o yaml
"""


def arguments(parser: Parser) -> None:
    add_output(parser, "json", "yaml")


def run(context: Context, args: argparse.Namespace) -> int:
    from shoal.model.schema import json_schema

    if len(args.names) != 1:
        raise UsageError("name one kind, such as pod")
    schema = json_schema(by_resource(args.names[0]))
    context.write(to_yaml(schema) if args.output == "yaml" else to_json(schema))
    return 0
