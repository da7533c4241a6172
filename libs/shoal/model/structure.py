"""Does an input have the form of its kind? Every unknown field, unsupported field, wrong type and unknown value is
found in one walk, which also brings the input into the one form that the rest works on.

The walk answers a cleaned copy: absent instead of null, quantities as canonical text, numbers where YAML's dialect
wrote `1e3`; what was refused is left out, so that the rules can still look at the rest.
"""

import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from shoal.model import quantity
from shoal.model.nearest import did_you_mean, nearest
from shoal.model.problem import HINTS_MAX, PROBLEMS_MAX, ROOT, Path, Problem, clipped, shown
from shoal.model.shape import Anything, Field, ListOf, MapOf, Scalar, Shape, StructOf, fields, walk
from shoal.model.unsupported import UNSUPPORTED, UNSUPPORTED_VALUES, reason_for, says_nothing

_ABSENT: Any = object()
_WORDS: Mapping[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_INT_MAX = 2**63 - 1


class Structure:
    """One walk over one document. `problems` refuse it; `ignored` are fields that `ignore_unknown` let pass.

    PROBLEMS_MAX of each are told, and the first `hints` with what was meant.
    """

    def __init__(self, root: Shape, *, ignore_unknown: bool = False, hints: int = HINTS_MAX) -> None:
        self.problems: list[Problem] = []
        self.ignored: list[Problem] = []
        self.meant: set[str] = set()  # fields that a misspelt one beside them stands for: they are not missing too
        self.left_out: set[str] = set()  # known fields whose values were refused
        self._root = root
        self._ignore_unknown = ignore_unknown
        self._hints = hints

    @property
    def full(self) -> bool:
        return len(self.problems) >= PROBLEMS_MAX

    @property
    def _may_hint(self) -> bool:
        return len(self.problems) + len(self.ignored) < self._hints

    def clean(self, document: Mapping[str, Any]) -> dict[str, Any]:
        cleaned = self._value(document, self._root, ROOT)
        return cleaned if isinstance(cleaned, dict) else {}

    def _refuse(self, path: str, message: str, hint: str = "") -> Any:
        if self.full:
            return _ABSENT
        self.problems.append(Problem(path, message, hint))
        self.left_out.add(path)
        return _ABSENT

    def _value(self, value: Any, shape: Shape, path: Path) -> Any:
        match shape:
            case Scalar():
                return self._scalar(value, shape, path)
            case StructOf(type=of):
                if not isinstance(value, dict):
                    return self._refuse(path, f"found {shown(value)}, expected a map")
                return self._struct(value, of, path)
            case ListOf(item=item):
                if not isinstance(value, list):
                    return self._refuse(path, f"found {shown(value)}, expected a list", _as_list(value))
                made = (self._value(v, item, path / i) for i, v in enumerate(value))
                return [v for v in made if v is not _ABSENT]
            case MapOf(value=item):
                if not isinstance(value, dict):
                    return self._refuse(path, f"found {shown(value)}, expected a map")
                pairs = ((k, self._value(_text_of_nothing(v, item), item, path / k)) for k, v in value.items())
                return {k: v for k, v in pairs if v is not _ABSENT}
            case Anything():
                return value

    def _struct(self, value: Mapping[str, Any], of: type[msgspec.Struct], path: Path) -> dict[str, Any]:
        known = fields(of)
        cleaned = {}
        for wire, found in value.items():
            if (field := known.get(wire)) is None:
                self._unknown(wire, found, of, path)
            elif found is not None:
                made = self._field(found, field, of, path / wire)
                if made is not _ABSENT:
                    cleaned[wire] = made
        for wire, field in known.items():
            if field.required and _missing(value.get(wire), field.shape) and path / wire not in self.meant:
                self._refuse(path / wire, _missing_message(field.shape))
        return cleaned

    def _field(self, value: Any, field: Field, of: type[msgspec.Struct], path: Path) -> Any:
        if isinstance(value, str) and (reason := UNSUPPORTED_VALUES.get((of, field.wire), {}).get(value)):
            return self._refuse(path, f"{clipped(value)} is not supported: {reason}")
        return self._value(value, field.shape, path)

    def _unknown(self, wire: str, value: Any, of: type[msgspec.Struct], path: Path) -> None:
        reason = reason_for(of, wire)
        if reason and (value is None or says_nothing(wire, value)):
            return
        found = self.ignored if self._ignore_unknown else self.problems
        if len(found) >= PROBLEMS_MAX:
            return
        if reason:
            problem = Problem(path / wire, f"not supported: {reason}")
        else:
            problem = Problem(path / wire, "unknown field", self._meant(wire, of, path))
        found.append(problem)

    def _meant(self, wire: str, of: type[msgspec.Struct], path: Path) -> str:
        """The nearest known name here, or where in this kind a field of that very name lives."""
        if not self._may_hint:
            return ""
        if near := nearest(wire, [*fields(of), *UNSUPPORTED.get(of, {})]):
            if not self._ignore_unknown:
                self.meant.add(path / near)
            return f"did you mean {near}?"
        if elsewhere := _places(self._root).get(wire):
            return f"{wire} belongs to {elsewhere.rpartition('.')[0] or 'the top'}"
        return f"expected one of {', '.join(fields(of))}" if len(fields(of)) <= 8 else ""

    def _scalar(self, value: Any, shape: Scalar, path: Path) -> Any:
        if shape.format == "quantity":
            return self._quantity(value, path)
        if shape.of is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if shape.of is float and type(value) is int:
            value = float(value)
        if type(value) is not shape.of:
            return self._refuse(path, f"found {shown(value)}, expected {_WORDS[shape.of]}", _quote_it(value, shape))
        if isinstance(value, str):
            return self._text(value, shape, path)
        return self._whole(value, shape, path) if shape.of is int else value

    def _text(self, value: str, shape: Scalar, path: Path) -> Any:
        if shape.one_of and value and value not in shape.one_of:
            hint = did_you_mean(value, shape.one_of) if self._may_hint else ""
            return self._refuse(path, f"unknown value {clipped(value)}, expected {_or(shape.one_of)}", hint)
        if shape.format == "time" and not _is_time(value):
            return self._refuse(path, f"found {clipped(value)}, expected a time such as 2026-01-31T12:00:00Z")
        return value

    def _whole(self, value: Any, shape: Scalar, path: Path) -> Any:
        low, high = shape.range or (-_INT_MAX, None)
        high = _INT_MAX if high is None else high
        if low <= value <= high:
            return value
        expected = f"{low} to {high}" if high != _INT_MAX else f"{low} or more"
        return self._refuse(path, f"found {value}, expected {expected}")

    def _quantity(self, value: Any, path: Path) -> Any:
        text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        try:
            return quantity.canonical(text)
        except (ValueError, TypeError, OverflowError):
            return self._refuse(
                path, f"found {shown(value)}, expected a quantity such as 500m, 2, 128Mi, 1.5G", _unit_hint(value)
            )


@functools.cache
def _places(root: Shape) -> Mapping[str, str]:
    """Where a field of each name lives, by the shortest path."""
    found: dict[str, str] = {}
    for path, _, field in walk(root, without=("status", "metadata.managedFields")):
        found[field.wire] = min(found.get(field.wire, path), path, key=len)
    return found


def _text_of_nothing(value: Any, shape: Shape) -> Any:
    """A label without a value (`tier:`) has the value ""."""
    return "" if value is None and isinstance(shape, Scalar) and shape.of is str and not shape.format else value


def _missing(value: Any, shape: Shape) -> bool:
    """A required thing is missing if it is empty, too; a number or a map only if it is not there."""
    return (
        value is None
        or (value in ("", []) and not isinstance(value, bool))
        or (value == {} and isinstance(shape, MapOf))
    )


def _missing_message(shape: Shape) -> str:
    match shape:
        case ListOf():
            return "missing, expected at least one"
        case Scalar(one_of=values) if values:
            return f"missing, expected {_or(values)}"
        case Scalar(of=of):
            return f"missing, expected {_WORDS[of]}"
        case _:
            return "missing, expected a map"


def _or(values: tuple[str, ...]) -> str:
    named = [v or '""' for v in values]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} or {named[-1]}"


def _quote_it(value: Any, shape: Scalar) -> str:
    if shape.of is str and isinstance(value, bool):
        return 'in YAML write it in quotes: "true", "yes" or "no"'
    if shape.of is str and isinstance(value, int | float):
        return f'write "{value}"'
    if shape.of in (int, float) and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return f"write {value.strip()} without quotes"
    if shape.of is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"write {value.lower()} without quotes"
    return ""


def _as_list(value: Any) -> str:
    return "begin each element with '- '" if isinstance(value, dict | str) and value else ""


_UNITS = {
    "mb": "M",
    "gb": "G",
    "kb": "k",
    "tb": "T",
    "mib": "Mi",
    "gib": "Gi",
    "kib": "Ki",
    "b": "",
    "m b": "M",
    "mi b": "Mi",
}


def _unit_hint(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = value.strip()[len(number) :].strip().lower()
    suffix = _UNITS.get(unit)
    if suffix is None and (unit := unit[:2]) in ("ki", "mi", "gi", "ti"):
        suffix = unit.capitalize()
    if suffix is None or not number:
        return ""
    candidate = number.strip() + suffix
    try:
        quantity.parse(candidate)
    except ValueError:
        return ""
    return f"did you mean {candidate}?"


def _is_time(text: str) -> bool:
    try:
        return dt.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
