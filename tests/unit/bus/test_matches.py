"""NATS' wildcards, as the guard of `serve` reads them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.bus.rpc import matches


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("a.*.c", "a.b.d", False),
        ("a.*", "a.*", False),  # a literal wildcard is no sender's right
        ("a.>", "a.>", False),
        ("a.*", "a.", False),
    ],
)
def test_cases(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


TOKENS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(st.lists(st.sampled_from("ab*"), min_size=1, max_size=4), st.booleans(), TOKENS)
def test_as_a_regular_expression_says(pattern: list[str], tail: bool, subject: list[str]) -> None:
    expression = r"\.".join("[^.]+" if t == "*" else t for t in pattern) + (r"(\.[^.]+)+" if tail else "")
    wanted = re.fullmatch(expression, ".".join(subject)) is not None
    assert matches(".".join([*pattern, *[">"] * tail]), ".".join(subject)) is wanted
