"""How rules are written: a function of one struct and its path that yields what is wrong with it.

    @rule(Volume)
    def one_source(volume: Volume, at: Path) -> Found: ...

A rule runs wherever such a struct occurs, in whatever kind. Rules see values that are well-formed and filled; they never
repeat what `model.structure` says (types, known values, required fields, ranges).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from shoal.model.problem import Path, Problem, clipped

Found = Iterator[Problem]
S = TypeVar("S", bound=msgspec.Struct)

RULES: dict[type[msgspec.Struct], list[Callable[[Any, Path], Found]]] = {}


def rule(of: type[S]) -> Callable[[Callable[[S, Path], Found]], Callable[[S, Path], Found]]:
    def register(check: Callable[[S, Path], Found]) -> Callable[[S, Path], Found]:
        RULES.setdefault(of, []).append(check)
        return check

    return register


def named(value: str, wrong: str, at: Path) -> Found:
    """For the functions of `model.naming`, whose answers follow the name."""
    if wrong:
        yield Problem(at, f"{clipped(value)} {wrong}")


def duplicates(values: Iterable[tuple[Any, Path]], what: str) -> Found:
    """`values` with their paths; the second and later of equals are wrong. Empty ones do not count."""
    seen: dict[Any, Path] = {}
    for value, at in values:
        if value and (first := seen.setdefault(value, at)) is not at:
            yield Problem(at, f"duplicate {what} {shown_key(value)}, expected each once", f"first at {first}")


def shown_key(value: Any) -> str:
    return clipped(value) if isinstance(value, str) else "/".join(str(v) for v in value)
