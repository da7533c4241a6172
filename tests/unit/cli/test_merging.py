"""Laws of merge patches, as `edit` needs them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shoal.cli.merging import difference, merged

KEYS = st.sampled_from("abc")
PLAIN = st.one_of(st.booleans(), st.integers(0, 2), st.text("xy", max_size=2), st.lists(st.integers(0, 1), max_size=2))
OBJECTS = st.recursive(
    st.dictionaries(KEYS, PLAIN, max_size=3), lambda inner: st.dictionaries(KEYS, st.one_of(PLAIN, inner), max_size=3)
)


@given(OBJECTS, OBJECTS)
def test_the_difference_makes_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    result = merged(old, difference(old, new))
    assert _typed(result) == _typed(new)
    assert difference(new, new) == {}


@given(OBJECTS)
def test_what_was_not_touched_is_not_in_it(old: dict[str, Any]) -> None:
    assert difference(old, {**old, "d": 1}) == {"d": 1}


def _typed(value: Any) -> Any:
    """So that True is not 1."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    return (type(value).__name__, value)
