"""What is wrong with a manifest: where, what was found, what was expected."""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.errors import Invalid

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SHOWN_MAX = 60
_KEY_MAX = 320  # a label's key has 317 characters at most
_SHOWN_PROBLEMS = 50
PROBLEMS_MAX = 100  # of one message: then its reading ends
HINTS_MAX = 20  # they cost the most


class Path(str):
    """Where in a document: `spec.containers[0].image`, `metadata.labels['a.b/c']`. Grown by `/`."""

    __slots__ = ()

    def __truediv__(self, step: str | int) -> "Path":
        if isinstance(step, int):
            return Path(f"{self}[{step}]")
        if not (step.isidentifier() or _PLAIN.fullmatch(step)):
            return Path(f"{self}[{quoted(step)}]")
        return Path(f"{self}.{step}" if self else step)


ROOT = Path()


def quoted(key: str) -> str:
    """On one line, whatever the key is made of."""
    short = key if len(key) <= _KEY_MAX else f"{key[:_KEY_MAX]}..."
    return "'" + json.dumps(short, ensure_ascii=not short.isprintable())[1:-1].replace("'", "\\'") + "'"


def shown(value: Any) -> str:
    """A value as a person recognises it: `the text "three"`, `the number 5`, `a list`."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {clipped(value)}"
        case int() | float():
            return f"the number {value}"
        case None:
            return "nothing"
        case dict():
            return "a map" if value else "an empty map"
        case _:
            return "a list" if value else "an empty list"


def clipped(text: str) -> str:
    """In quotes, shortened if long."""
    short = text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
    return json.dumps(short, ensure_ascii=not short.isprintable())


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong. `document` and `line` are 1-based, 0 = not from a text. `beside`: another place that it
    was judged by; if that is broken this is no news.

    `str()` is the one sentence: `web.yaml:7: document 2: spec.containers[0].imgae: unknown field (did you mean image?)`.
    """

    path: str
    message: str
    hint: str = ""
    document: int = 0
    line: int = 0
    source: str = ""
    beside: str = ""

    def __str__(self) -> str:
        where = ""
        if self.source:
            where = f"{self.source}:{self.line}: document {self.document}: "
        elif self.document:
            where = f"document {self.document}, line {self.line}: "
        return where + self.sentence

    @property
    def sentence(self) -> str:
        """Without the place in the text."""
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{path}{self.message}{hint}"


class ManifestErrors(Invalid):
    """Everything that is wrong with an input, in the order of its text; crosses NATS as one Invalid."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        sentences = [str(problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        if (rest := len(self.problems) - _SHOWN_PROBLEMS) > 0:
            sentences.append(f"and {rest} more problems")
        super().__init__("\n".join(sentences), path=self.problems[0].path if self.problems else "")

    def __str__(self) -> str:
        return self.message
