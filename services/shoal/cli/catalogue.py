"""The verbs: name, module and one line each, in the groups of `shoal --help`. A verb's module is imported when it runs.

A module of `cli.verbs` has `USAGE` (what follows the verb), `EXAMPLES` (a block of text), `arguments(parser)` and
`async def run(context, args) -> int` (or a plain function, for what needs no cluster). `summary` may have a longer
text behind it in the module's docstring: it is shown by `shoal VERB --help`.
"""

from typing import NamedTuple


class Verb(NamedTuple):
    name: str
    module: str  # "" for what is mounted from cyclopts (`mounted.py`)
    summary: str


GROUPS: dict[str, tuple[Verb, ...]] = {
    "A cluster on this machine": (
        Verb("up", "", "Start a whole cluster here: nats-server and every process"),
        Verb("down", "", "Stop it and leave nothing behind"),
        Verb("env", "", "Print the exports that point any client at it"),
        Verb("lab", "", "Several real Docker hosts on this machine, to try and to break"),
    ),
    "Objects": (
        Verb("apply", "apply", "Make the cluster as manifests say: create what is missing, change what differs"),
        Verb("create", "create", "Create objects from files; what exists already is an error"),
        Verb("get", "get", "Show objects, as a table or as JSON, YAML, names"),
        Verb("describe", "describe", "Show one or many objects in full, with their events"),
        Verb("delete", "delete", "Delete objects by file, name or label"),
        Verb("patch", "patch", "Change fields of an object by a JSON merge patch"),
        Verb("edit", "edit", "Change an object in your editor"),
        Verb("label", "label", "Set and remove labels"),
        Verb("annotate", "annotate", "Set and remove annotations"),
        Verb("scale", "scale", "Set the number of replicas"),
        Verb("wait", "wait", "Wait until a condition holds, or until objects are gone"),
        Verb("events", "events", "Show what happened"),
    ),
    "Containers": (
        Verb("logs", "logs", "Print, or follow, what containers wrote"),
        Verb("exec", "execute", "Run a command in a container"),
        Verb("attach", "attach", "Join the process that runs in a container"),
    ),
    "About": (
        Verb("api-resources", "api_resources", "List the kinds of objects, with their short names"),
        Verb("explain", "explain", "Say what a kind's fields are"),
        Verb("schema", "schema", "Print the JSON schema of a kind"),
        Verb("version", "version", "Print the versions of client and cluster"),
        Verb("completion", "completion", "Print the completion script for bash, zsh or fish"),
    ),
}

VERBS: dict[str, Verb] = {verb.name: verb for group in GROUPS.values() for verb in group}
