"""List the kinds of objects that can be written in manifests, with their short names."""

import argparse

from shoal.cli.arguments import Parser, add_output
from shoal.cli.context import Context
from shoal.cli.output.table import Table
from shoal.model.registry import KINDS

USAGE = "[flags]"
EXAMPLES = """
shoal api-resources
shoal api-resources --namespaced=false      those that live in no namespace
shoal api-resources --api-group=apps        of one group; --api-group= is the core group
shoal api-resources --verbs=create,delete   with which all of that can be done
shoal api-resources -o name
"""


def arguments(parser: Parser) -> None:
    parser.flag("--namespaced", default=None, help="only those that live in a namespace (=false: only the others)")
    parser.value("--api-group", default=None, metavar="GROUP", help="only those of this group")
    parser.value("--verbs", default="", metavar="VERB,…", help="only those with which all of that can be done")
    parser.flag("--no-headers", help="without the line of column names")
    add_output(parser, "wide", "name", "json", "yaml")


def run(context: Context, args: argparse.Namespace) -> int:
    verbs = {verb for verb in args.verbs.split(",") if verb}
    kinds = [
        kind
        for kind in KINDS
        if args.namespaced in (None, kind.namespaced)
        and args.api_group in (None, kind.group)
        and verbs <= set(kind.verbs)
    ]
    if args.output in {"json", "yaml"}:
        from shoal.cli.output.text import to_json, to_yaml

        value = [
            {
                "name": kind.resource, "singularName": kind.singular, "shortNames": list(kind.short_names),
                "apiVersion": kind.api_version, "kind": kind.kind, "namespaced": kind.namespaced,
                "categories": list(kind.categories), "verbs": list(kind.verbs),
            }
            for kind in kinds
        ]  # fmt: skip
        context.write(to_json(value) if args.output == "json" else to_yaml(value))
        return 0
    if args.output == "name":
        context.write("".join(f"{kind.qualified}\n" for kind in kinds))
        return 0
    wide = args.output == "wide"
    heads = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", *(["VERBS", "CATEGORIES"] if wide else [])]
    rows = [
        [
            kind.resource, ",".join(kind.short_names), kind.api_version, str(kind.namespaced).lower(), kind.kind,
            *([",".join(kind.verbs), ",".join(kind.categories)] if wide else []),
        ]
        for kind in kinds
    ]  # fmt: skip
    context.write(Table(heads, show_headers=not args.no_headers).render(rows))
    return 0
