"""`up`, `down`, `env` and `lab`: written for cyclopts, which they alone pay for (150 ms to import).

They start and stop processes for seconds; what talks to the cluster has no such time (see `__main__`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

EXAMPLES = {
    "up": """\
shoal up                             a cluster, and an example that runs on it
shoal up --no-example --store DIR    keep the data in DIR
shoal up --foreground                stay, and show every process's log""",
    "down": """\
shoal down                           no process, container, network or rule is left""",
    "env": """\
eval "$(shoal env)"                  then any NATS client reaches the cluster
eval "$(shoal lab env h1)"           a lab's, and the engine of its host h1""",
}


def application() -> "App":
    from cyclopts import App, Parameter

    # What is worth knowing of a default a parameter's own text says: `[default: ""]` tells a person nothing.
    quiet = Parameter(show_default=_worth_showing)
    app = App(name="shoal", help_format="plaintext", result_action="return_value", default_parameter=quiet)
    for name, examples in EXAMPLES.items():
        indented = "\n".join(f"  {line}" for line in examples.splitlines())
        app.command(
            f"shoal.cli.up.commands:{name}",
            name=name,
            help_format="plaintext",
            help_epilogue=f"Examples:\n{indented}",
        )
    app.command("shoal.cli.lab.commands:app", name="lab")
    return app


def _lab_words(words: list[str], commands: Sequence[str]) -> list[str]:
    """`lab help cut` is `lab cut --help`. Raises: UsageError for a command that `lab` has not, with those that it has."""
    asked = words[1:]
    if asked[:1] == ["help"]:
        words, asked = ["lab", *asked[1:], "--help"], asked[1:]
    if asked and not asked[0].startswith("-") and asked[0] not in commands:
        from difflib import get_close_matches

        from shoal.cli.arguments import UsageError

        near = get_close_matches(asked[0], commands, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"unknown command 'lab {asked[0]}'{hint}; lab has {', '.join(commands)}")
    return words


def _worth_showing(default: object) -> str | None:
    return None if default is None or default == "" or isinstance(default, bool) else str(default)


def run_mounted(argv: Sequence[str]) -> int:
    """Raises what the command raises; UsageError."""
    from cyclopts import CycloptsError

    from shoal.cli.arguments import UsageError

    words = [word for word in argv if word != "--debug"]
    app = application()
    if words[0] == "lab":
        words = _lab_words(words, [name for name in app["lab"] if not name.startswith("-")])
    try:
        result = app(words, exit_on_error=False, print_error=False)
    except CycloptsError as e:
        sentence = " ".join(str(e).split()).rstrip(".")
        raise UsageError(f"{sentence} (see 'shoal {argv[0]} --help')") from e
    return result if isinstance(result, int) else 0
