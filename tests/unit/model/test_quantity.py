"""Quantities: Kubernetes' canonical forms, and the laws of reading and writing them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model import quantity

SUFFIXES = [
    "",
    "n",
    "u",
    "m",
    "k",
    "M",
    "G",
    "T",
    "P",
    "E",
    "Ki",
    "Mi",
    "Gi",
    "Ti",
    "Pi",
    "Ei",
    "e3",
    "E-3",
    "e0",
    "e6",
]


@st.composite
def quantities(draw: st.DrawFn) -> str:
    whole = draw(st.integers(0, 99_999))
    part = draw(st.one_of(st.just(""), st.integers(0, 999).map(lambda n: f".{n}")))
    return f"{draw(st.sampled_from(['', '-', '+']))}{whole}{part}{draw(st.sampled_from(SUFFIXES))}"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1Ki", "1Ki"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1e3", "1e3"),
        ("10e2", "1e3"),
        ("1E", "1E"),
        ("1e-3", "1e-3"),
        ("-1Gi", "-1Gi"),
        ("+5", "5"),
        ("0.1n", "1n"),
        ("-0", "0"),
        ("100E", "9223372036854775807"),
    ],
)
def test_canonical_forms(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        "a",
        "1MB",
        "1mi",
        "1KI",
        "--1",
        "1..2",
        ".",
        "1e",
        "5 cores",
        "1e1000000",
        "NaN",
        "1_000",
        "1" * 100,
        "\u0661",
    ],
)
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity.parse(text)


@given(quantities())
def test_canonical_keeps_the_value_and_is_final(text: str) -> None:
    once = quantity.canonical(text)
    assert quantity.parse(once) == quantity.parse(text)
    assert quantity.canonical(once) == once


@given(st.integers(-(10**15), 10**15))
def test_thousandths_round_trip(thousandths: int) -> None:
    text = quantity.format_milli(thousandths)
    assert quantity.milli(text) == thousandths
    assert quantity.canonical(text) == text


@given(st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 2**20).map(lambda n: n * 2**20)))
def test_bytes_round_trip(count: int) -> None:
    text = quantity.format_bytes(count)
    assert quantity.whole(text) == count
    assert quantity.canonical(text) == text


def test_plans_round_up() -> None:
    assert (quantity.milli("0.0001"), quantity.whole("1500m"), quantity.whole("1.5Ki")) == (1, 2, 1536)
    assert quantity.parse("1.5") == Fraction(3, 2)
