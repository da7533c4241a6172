"""The `shoal` command: find the verb, run it, turn whatever happens into one line and an exit code.

0 done · 1 failed, with a sentence · 130 interrupted · 141 the reader of a pipe is gone · else what a command in a
container ended with.

A `get` from a shell has 250 ms in total, and most of what it takes is imports. So nothing is imported before it is
needed; a verb that talks to the cluster imports neither cyclopts, rich, structlog nor yaml, and nats without the parts
it does without.
"""

import os
import sys
from collections.abc import Sequence

# msgspec takes typing_extensions where it is installed, and does without it as well: 35 ms (of 66).
if "typing_extensions" not in sys.modules and "msgspec" not in sys.modules:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]

FAILED, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        code = BROKEN_PIPE
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else FAILED
    except BaseException as e:  # noqa: BLE001  (whatever it is, a person gets a sentence)
        code = _failed(e, trace="--debug" in words or bool(os.environ.get("SHOAL_DEBUG")))
    return code


def _failed(error: BaseException, *, trace: bool) -> int:
    from shoal.cli.failure import sentences

    if trace:
        import traceback

        traceback.print_exception(error)
    for sentence in sentences(error):
        print(f"error: {sentence}", file=sys.stderr)
    return FAILED


def run(argv: Sequence[str]) -> int:
    """Raises whatever the verb raises."""
    from shoal.cli.catalogue import VERBS
    from shoal.cli.loading import find_verb

    verb_name, rest = find_verb(argv)
    if verb_name in {"", "help"}:
        from shoal.cli.help import of_all, of_verb

        topic = next((word for word in rest if not word.startswith("-")), "") if verb_name else ""
        if topic and topic not in VERBS:
            raise _unknown_verb(topic)
        print(of_verb(topic) if topic else of_all(), end="")
        return 0
    if verb_name == "__complete":
        from shoal.cli.completing import complete

        return complete(rest)
    verb = VERBS.get(verb_name)
    if verb is None:
        raise _unknown_verb(verb_name)
    if not verb.module:
        from shoal.cli.mounted import run_mounted

        return run_mounted([verb_name, *rest])
    return _run_verb(verb_name, verb.module, rest)


def _run_verb(name: str, module_name: str, argv: list[str]) -> int:
    from shoal.cli.loading import execute, load

    parser, module = load(name, module_name)
    args = parser.parse(argv)
    if args.help:
        from shoal.cli.help import of_verb

        print(of_verb(name), end="")
        return 0
    return execute(module, args)


def _unknown_verb(name: str) -> Exception:
    import difflib

    from shoal.cli.arguments import UsageError
    from shoal.cli.catalogue import VERBS

    near = difflib.get_close_matches(name, VERBS, n=1)
    return UsageError(
        f"unknown command {name!r}{f' (did you mean {near[0]}?)' if near else ''}; 'shoal --help' lists them"
    )


if __name__ == "__main__":
    sys.exit(main())
