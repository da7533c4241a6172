"""Whatever is published, the answer is objects or ManifestErrors: a poison message never gets further than that."""

import copy
import json
import pathlib
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.model.manifest import Document, parse
from shoal.model.problem import ManifestErrors, Problem
from shoal.model.registry import decode, encode
from shoal.model.yamltext import read

GOOD = pathlib.Path(__file__).parents[2] / "data" / "manifests" / "good"
NAMES = ("everything.yaml", "stream.yaml", "node-and-event.yaml")
DOCUMENTS = [document.value for name in NAMES for document in read((GOOD / name).read_text()) if document.value]

numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good document in which one to three places hold something else, or are gone."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(document)))
        holder = document
        for step in way:
            holder = holder[step]
        if draw(st.booleans()):
            holder[last] = draw(junk)
        elif isinstance(holder, dict):
            del holder[last]
        if not places(document):
            break
    return document


def answer(text: str, *, ignore_unknown: bool = False) -> list[Document] | tuple[Problem, ...]:
    try:
        return parse(text, ignore_unknown=ignore_unknown)
    except ManifestErrors as refused:
        return refused.problems


def survives(text: str, *, ignore_unknown: bool = False) -> None:
    found = answer(text, ignore_unknown=ignore_unknown)
    assert found != ()
    for one in found:
        if isinstance(one, Problem):
            assert one.message
            assert "\n" not in str(one)
        else:
            assert decode(one.kind, encode(one.object)) == one.object
            msgspec.json.encode(one.raw)


@settings(max_examples=300)
@given(damaged(), st.booleans())
def test_damaged_documents(document: Any, ignore_unknown: bool) -> None:
    survives(json.dumps(document), ignore_unknown=ignore_unknown)


@given(junk)
def test_any_json(document: Any) -> None:
    survives(json.dumps(document))


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    survives(text)


@given(st.text("abc:-{}[]&*#!|>'\"%@\n ,?1.~<", max_size=40))
def test_any_text_that_looks_like_yaml(text: str) -> None:
    survives(text)
