"""`up`, `down`, `env` and `lab`: written for cyclopts, which they alone pay for (150 ms to import).

They start and stop processes for seconds; what talks to the cluster has no such time (see `__main__`).
"""

from collections.abc import Sequence


def run_mounted(argv: Sequence[str]) -> int:
    """Raises what the command raises; usage errors are printed by cyclopts, which then exits with 1."""
    from cyclopts import App

    from shoal.cli.catalogue import VERBS

    app = App(name="shoal", help_format="plaintext", result_action="return_value")
    for name in ("up", "down", "env"):
        app.command(f"shoal.cli.up.commands:{name}", name=name, help=VERBS[name].summary)
    app.command("shoal.cli.lab.commands:app", name="lab")
    words = [word for word in argv if word != "--debug"]
    result = app(words)
    return result if isinstance(result, int) else 0
