"""Help: what a verb does, how it is written, examples, flags."""

import textwrap
from argparse import Action

from shoal.cli.arguments import Flag, Parser, add_global
from shoal.cli.catalogue import GROUPS, VERBS
from shoal.cli.loading import load

WIDTH = 100

HEAD = """\
shoal runs containers on Docker hosts, as Kubernetes manifests say, over NATS.

Usage: shoal VERB [flags]

"""

TAIL = """
Try first:
  shoal up                         a cluster on this machine
  shoal apply -f web.yaml          make it run
  shoal get pods -o wide           see where
  shoal logs -f web                read along

'shoal VERB --help' tells the rest. Where kubectl has the verb, flags and output are kubectl's.
The cluster is found by $NATS_URL ($NATS_CREDS, $NATS_CA), or --server URL.
"""


def of_all() -> str:
    lines = [HEAD]
    for title, verbs in GROUPS.items():
        lines.append(f"{title}:\n")
        lines += [f"  {verb.name:15}{verb.summary}\n" for verb in verbs]
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n" + TAIL


def of_verb(name: str) -> str:
    verb = VERBS[name]
    if not verb.module:
        from shoal.cli.mounted import run_mounted

        run_mounted([name, "--help"])
        return ""
    parser, module = load(name, verb.module)
    more = textwrap.dedent(module.__doc__ or "").strip()
    usage: str = module.USAGE
    examples: str = textwrap.indent(textwrap.dedent(module.EXAMPLES).strip(), "  ")
    common = Parser(name)
    add_global(common)
    everywhere = {action.dest for action in common.shown()}
    own = [_flag(action) for action in parser.shown() if action.dest not in everywhere]
    text = f"{more}\n\nUsage: shoal {name} {usage}\n\nExamples:\n{examples}\n"
    if own:
        text += "\nFlags:\n" + "".join(own)
    return text + "\nFlags of every command:\n" + "".join(_flag(action) for action in common.shown())


def _flag(action: Action) -> str:
    names = getattr(action, "shown", None) or action.option_strings
    default = action.default
    head = ", ".join(names)
    if isinstance(action, Flag):
        head += "=true" if default else ""
    else:
        head += f" {action.metavar}"
    said = action.help or ""
    worth = default not in (None, "", [], False, True, "none") and "default" not in said
    text = textwrap.wrap(f"{said} (default {default})" if worth else said, WIDTH - 34)
    lines = [f"  {head:30}  {text[0]}"] if len(head) <= 30 else [f"  {head}", " " * 34 + text[0]]
    return "\n".join([*lines, *(" " * 34 + line for line in text[1:])]) + "\n"
