"""JSON and YAML as they are printed, and that YAML reads back as the same object in kubectl's dialect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cli.output.text import to_json, to_yaml
from shoal.model.yamltext import read


def test_json_is_kubectls() -> None:
    assert to_json({"b": [1, {"c": "é"}], "a": {}}) == (
        '{\n    "a": {},\n    "b": [\n        1,\n        {\n            "c": "é"\n        }\n    ]\n}\n'
    )


def test_yaml_is_kubectls() -> None:
    assert to_yaml(
        {"b": ["x", {"c": "1"}], "a": {}, "t": "one\ntwo\n", "y": "yes", "time": "2020-01-01T00:00:00Z"}
    ) == ('a: {}\nb:\n- x\n- c: "1"\nt: |\n  one\n  two\ntime: "2020-01-01T00:00:00Z"\n"y": "yes"\n')


@pytest.mark.parametrize(
    "text",
    [
        "y",
        "N",
        "on",
        "1e3",
        "1_000",
        "0o17",
        "0644",
        "0x1F",
        "0b11",
        "1.",
        ".5",
        "12:30:45",
        "null",
        "~",
        "",
        " a",
        "a: b",
        "- a",
    ],
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    (document,) = read(to_yaml({"value": text, text or "k": 1}))
    assert document.value == {"value": text, text or "k": 1}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abyn019._-", min_size=1), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "y", "1"]), VALUES, min_size=1))
def test_yaml_reads_back_the_same(value: dict[str, object]) -> None:
    (document,) = read(to_yaml(value))
    assert document.value == value
