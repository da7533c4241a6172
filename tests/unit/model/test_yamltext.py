"""kubectl's dialect of YAML, as its `create --dry-run=client -o json` reads it, and what is refused."""

from typing import Any

import pytest

from shoal.model.yamltext import DEPTH_MAX, Unreadable, read


def value(text: str) -> Any:
    (document,) = read(f"v: {text}\n")
    return document.value["v"]


@pytest.mark.parametrize("text", ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
def test_true(text: str) -> None:
    assert value(text) is True


@pytest.mark.parametrize("text", ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
def test_false(text: str) -> None:
    assert value(text) is False


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_nothing(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("0644", 420),
        ("-010", -8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E-2", -0.015),
        ("089", 89.0),
    ],
)
def test_numbers(text: str, number: float) -> None:
    assert value(text) == number
    assert type(value(text)) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31",
        "2026-01-31T12:00:00Z",
        "12:30:45",
        "1.2.3",
        "tRue",
        "yEs",
        "-a",
        "+",
        ".",
        "1e",
        "_1",
        ".inf",
        "0x",
        "500m",
        "a",
    ],
)
def test_text(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize("text", ['"0644"', "'yes'", '"null"', "!!str 0644", '!!str "yes"'])
def test_quoted_text_stays_text(text: str) -> None:
    assert value(text) == text.removeprefix("!!str ").strip("'\"")


def test_keys_become_text() -> None:
    (document,) = read("{8080: a, yes: b, 1.5: c, ~: d}")
    assert document.value == {"8080": "a", "true": "b", "1.5": "c", "null": "d"}


def test_merged_maps() -> None:
    (document,) = read("a: &a {x: 1, v: 2}\nb: &b {v: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\nd: {'<<': text}")
    assert document.value["c"] == {"x": 5, "v": 2, "z": 4}


def test_lines_of_keys_and_elements() -> None:
    (document,) = read("a:\n  b.c/d:\n  - one\n  - two: 2\n")
    assert document.line("a['b.c/d'][0]") == 3
    assert document.line("a['b.c/d'][1].two") == 4
    assert document.line("a['b.c/d'][1].missing[3].name") == 4
    assert document.line("a['b.c/d'][7]") == 2
    assert document.line("") == 1


def refused(text: str) -> str:
    with pytest.raises(Unreadable) as caught:
        read(text)
    return str(caught.value)


def test_a_key_twice() -> None:
    assert refused("a: 1\nb: {c: 1,\n  c: 2}") == 'document 1, line 3: b.c: the key "c" is there twice, first on line 2'


def test_a_tag_of_a_programming_language() -> None:
    assert refused("a: !!python/name:os.system x").startswith("document 1, line 1: a: the YAML tag")
    assert refused("a: !mine x") == 'document 1, line 1: a: the YAML tag "!mine" is not supported'


def test_a_map_as_a_key() -> None:
    assert refused("{a: 1}: 2") == "document 1, line 1: a map or a list as a key, expected text"


def test_a_merge_of_text() -> None:
    assert refused("<<: 5") == "document 1, line 1: '<<' merges maps, and found something else"


def test_depth_is_bounded_in_a_text_and_by_an_alias_of_itself() -> None:
    assert "deep" in refused("[" * (DEPTH_MAX + 2) + "]" * (DEPTH_MAX + 2))
    assert "deep" in refused("&a [*a]")
    assert "nesting" in refused("[" * 100_000)


def test_aliases_of_aliases_are_bounded() -> None:
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    rows += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "aliases counted" in refused("\n".join(rows))


def test_what_came_before_is_kept() -> None:
    with pytest.raises(Unreadable) as caught:
        read("a: 1\n---\nb: 2\n---\n]")
    assert [document.value for document in caught.value.before] == [{"a": 1}, {"b": 2}]
    assert caught.value.problem.document == 3


def test_bytes_that_yaml_forbids() -> None:
    assert "cannot be read as YAML" in refused("a: \x00")


def test_json_with_tabs_and_several_documents() -> None:
    assert [d.value for d in read('{"a":\t"b\\tc"}')] == [{"a": "b\tc"}]
    assert [d.value for d in read('{"a": "\\ud83d\\ude00"}\n\n{"b": [1, 2.5, null]}')] == [
        {"a": "😀"},
        {"b": [1, 2.5, None]},
    ]
