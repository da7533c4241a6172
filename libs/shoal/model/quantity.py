"""Quantities: `500m`, `1.5`, `128Mi`, `2G`, `1e3`. Rules and canonical form are Kubernetes' (apimachinery, resource).

Plans count in whole numbers: thousandths of a core, bytes. Both round up, as Kubernetes does.
"""

import functools
import re
from fractions import Fraction

_FORM = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_MAX = 2**63 - 1
_TEXT_MAX = 64


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The exact value, rounded away from zero to billionths, and held below 2**63. Raises: ValueError."""
    return _parse(text)[0]


def _parse(text: str) -> tuple[Fraction, str]:
    """Value and form (`decimal`, `binary`, `exponent`)."""
    found = _FORM.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if not found:
        raise ValueError(f"{text!r} is not a quantity")
    sign, number, suffix, exponent = found.groups()
    value = Fraction(number if not number.endswith(".") else number[:-1])
    form = "decimal"
    if suffix in _BINARY:
        value *= 1 << _BINARY[suffix]
        form = "binary"
    elif exponent is not None:
        value *= Fraction(10) ** int(exponent)
        form = "exponent"
    else:
        value *= Fraction(10) ** _DECIMAL[suffix or ""]
    value = min(Fraction(_ceil(value * 10**9), 10**9), Fraction(_MAX))
    return (-value if sign == "-" else value), form


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def milli(text: str) -> int:
    """Thousandths, rounded up: `500m` → 500, `2` → 2000."""
    return _ceil(parse(text) * 1000)


def whole(text: str) -> int:
    """Rounded up: `1Ki` → 1024, `1500m` → 2."""
    return _ceil(parse(text))


@functools.lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The one way to write the same quantity in the same form: `1000m` → `1`, `0.5` → `500m`, `1024Mi` → `1Gi`.

    Raises: ValueError.
    """
    value, form = _parse(text)
    if form == "binary" and value.denominator == 1 and abs(value) >= 1024:
        return _binary(value.numerator)
    return _decimal(value, exponent=form == "exponent")


def _binary(value: int) -> str:
    power = 0
    while power < 60 and value % 1024 == 0:
        value //= 1024
        power += 10
    return f"{value}{_BINARY_SUFFIX.get(power, '')}"


def _decimal(value: Fraction, *, exponent: bool = False) -> str:
    if not value:
        return "0"
    power = 0
    while value.denominator != 1:
        value *= 1000
        power -= 3
    number = value.numerator
    while power < 18 and number % 1000 == 0:
        number //= 1000
        power += 3
    if exponent:
        return f"{number}e{power}" if power else str(number)
    return f"{number}{_DECIMAL_SUFFIX[power]}"


def format_milli(thousandths: int) -> str:
    """250 → `250m`, 2000 → `2`."""
    return _decimal(Fraction(thousandths, 1000))


def format_bytes(count: int) -> str:
    """In the largest power of 1024 that is exact: 134217728 → `128Mi`, 1000 → `1k`."""
    return _binary(count) if abs(count) >= 1024 and count % 1024 == 0 else _decimal(Fraction(count))
