"""Flags as kubectl has them, on argparse.

argparse, though `up`, `down`, `env` and `lab` use cyclopts: to import cyclopts and to read signatures with it takes
as long as all the rest of a `get` (see `__main__`), argparse 8 ms. What kubectl's flags have and argparse lacks is
here: `--wait=false`, a flag whose value is optional (`--dry-run`, `--dry-run=server`), flags and names in any order,
the nearest name for a flag that is not known.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

from shoal.errors import BadRequest


class UsageError(BadRequest):
    """The command line itself is wrong: the sentence names the help that says how it is meant."""


class Flag(argparse.Action):
    """A boolean: `--wait`, `--wait=true`, `--wait=false`, and `-w` that may be joined with others (`-it`)."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        default: bool | None = False,
        help: str = "",  # noqa: A002
    ) -> None:
        self.negated = [f"--no-{s[2:]}" for s in option_strings if s.startswith("--")]
        super().__init__([*option_strings, *self.negated], dest, nargs=0, default=default, help=help)
        self.shown = tuple(option_strings)

    def __call__(self, _parser: object, namespace: object, _values: object, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, option_string not in self.negated)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """One is made by argparse for each flag; without a width each asks the terminal, by way of shutil and zlib (5 ms)."""
    return argparse.HelpFormatter(prog, width=100)


class Parser(argparse.ArgumentParser):
    """The flags of one verb. `parse` gives back names (what is no flag) and `after` (what follows `--`)."""

    def __init__(self, verb: str) -> None:
        super().__init__(prog=f"shoal {verb}", add_help=False, allow_abbrev=False, formatter_class=_formatter)
        self.verb = verb
        self.implied: dict[str, str] = {}

    def flag(self, *names: str, default: bool | None = False, help: str) -> None:  # noqa: A002
        self.add_argument(*names, action=Flag, default=default, help=help)

    def value(self, *names: str, implied: str | None = None, **options: Any) -> None:
        """A flag with a value. `implied`: what the bare flag means; then a value is given by `=` only."""
        options.setdefault("metavar", options.get("dest", names[-1].lstrip("-").split("-")[-1]).upper())
        self.add_argument(*names, **options)
        if implied is not None:
            self.implied.update(dict.fromkeys(names, implied))

    def shown(self) -> list[argparse.Action]:
        return [a for a in self._actions if a.help is not argparse.SUPPRESS]

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Raises: UsageError."""
        words, after = _split(argv)
        found, rest = self.parse_known_args([self._spelled_out(word) for word in words])
        for word in rest:
            if word.startswith("-") and word != "-":
                self.error(f"unknown flag: {word.partition('=')[0]}{self._nearest(word)}")
        found.names = rest
        found.after = after
        return found

    def _spelled_out(self, word: str) -> str:
        if word in self.implied:
            return f"{word}={self.implied[word]}"
        name, equals, value = word.partition("=")
        if equals and name.startswith("-") and isinstance(self._option_string_actions.get(name), Flag):
            if value.lower() in {"true", "1", "t"}:
                return name
            if value.lower() in {"false", "0", "f"} and name.startswith("--"):
                return f"--no-{name[2:]}"
            self.error(f"invalid value {value!r} for {name}: true or false")
        return word

    def _nearest(self, word: str) -> str:
        import difflib

        shown = (s for a in self.shown() for s in getattr(a, "shown", a.option_strings))
        known = {s.lstrip("-"): s for s in shown}  # dashes alone make nothing alike
        near = difflib.get_close_matches(word.partition("=")[0].lstrip("-"), known, n=1, cutoff=0.75)
        return f" (did you mean {known[near[0]]}?)" if near else ""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def _split(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    words = list(argv)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0, None: 1.0}


def duration_s(text: str) -> float:
    """`30s`, `5m`, `1h30m`, `250ms`; a number alone is seconds; `-1` (kubectl's *for a week*) is a week.

    Raises: argparse.ArgumentTypeError.
    """
    if text.startswith("-"):
        return 7 * 86400.0
    if not text or not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def one_of(*allowed: str) -> Callable[[str], str]:
    """A `type` for argparse whose refusal reads like a sentence."""

    def check(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(a for a in allowed if a)}")
        return text

    return check


# --- flags that many verbs share ------------------------------------------------------------------------------------


def add_global(parser: Parser) -> None:
    """What every verb takes, before it or after it (`VALUED` below tells which of them have a value)."""
    parser.value("-n", "--namespace", default=None, help="namespace (default 'default')")
    parser.value("-s", "--server", default=None, metavar="URL", help="NATS server(s); default: $NATS_URL")
    parser.flag("--debug", help="on a failure, show the whole trace of it")
    parser.flag("-h", "--help", help="this text")


VALUED_GLOBALS = ("-n", "--namespace", "-s", "--server")


def add_all_namespaces(parser: Parser) -> None:
    parser.flag("-A", "--all-namespaces", help="across all namespaces")


def add_selector(parser: Parser) -> None:
    parser.value("-l", "--selector", default="", metavar="LABELS", help="label selector: app=web,tier!=db,env in (a,b)")


def add_field_selector(parser: Parser) -> None:
    parser.value(
        "--field-selector", default="", metavar="FIELDS", help="such as spec.nodeName=n1,status.phase!=Running"
    )


def add_output(parser: Parser, *formats: str) -> None:
    parser.value("-o", "--output", default="", metavar="FORMAT", type=one_of("", *formats), help=" | ".join(formats))


def add_files(parser: Parser) -> None:
    parser.value(
        "-f", "--filename", action="append", default=[], metavar="PATH", help="file, folder or '-' (repeatable)"
    )
    parser.flag("-R", "--recursive", help="with a folder: the folders in it as well")


def add_dry_run(parser: Parser) -> None:
    parser.value(
        "--dry-run", implied="client", default="none", metavar="none|client|server",
        type=one_of("none", "client", "server"),
        help="client: check here, ask nobody; server: the cluster checks all and writes nothing",
    )  # fmt: skip
