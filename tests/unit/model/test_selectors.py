"""Selectors, against a reference that knows only sets."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import BadRequest
from shoal.model.meta import LabelSelector, LabelSelectorRequirement, ObjectMeta
from shoal.model.pod import Pod, PodSpec, PodStatus
from shoal.model.registry import by_resource
from shoal.model.selectors import (
    field_matches,
    format_label_selector,
    matches,
    parse_field_selector,
    parse_label_selector,
)

KEYS, VALUES = ["a", "b", "x.io/c"], ["", "1", "2"]
WORLD = [
    {k: v for k, v in zip(KEYS, combination, strict=True) if v is not None}
    for combination in product([None, *VALUES], repeat=3)
]

labels = st.sampled_from(WORLD)
some_values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple)
requirements = st.one_of(
    st.builds(
        LabelSelectorRequirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(["In", "NotIn"]),
        values=some_values,
    ),
    st.builds(
        LabelSelectorRequirement, key=st.sampled_from(KEYS), operator=st.sampled_from(["Exists", "DoesNotExist"])
    ),
)
selectors = st.builds(
    LabelSelector,
    match_labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2),
    match_expressions=st.lists(requirements, max_size=3).map(tuple),
)


def reference(selector: LabelSelector) -> list[dict[str, str]]:
    """The label sets of the small world that a selector leaves, one condition after the other."""
    left = WORLD
    for key, value in selector.match_labels.items():
        left = [w for w in left if (key, value) in w.items()]
    for r in selector.match_expressions:
        having = [w for w in left if key_in(w, r)]
        left = having if r.operator in ("In", "Exists") else [w for w in left if w not in having]
    return left


def key_in(world: dict[str, str], r: LabelSelectorRequirement) -> bool:
    return r.key in world and (not r.values or world[r.key] in r.values)


@given(selectors)
def test_matching_is_the_reference(selector: LabelSelector) -> None:
    assert [w for w in WORLD if matches(selector, w)] == reference(selector)


@given(selectors)
def test_text_means_the_same(selector: LabelSelector) -> None:
    text = format_label_selector(selector)
    again = parse_label_selector("" if text == "<none>" else text)
    assert [w for w in WORLD if matches(again, w)] == reference(selector)


def test_none_selects_nothing_and_empty_everything() -> None:
    assert not matches(None, {"a": "1"})
    assert matches(LabelSelector(), {})
    assert matches(parse_label_selector("  "), {})


def test_an_operator_of_a_newer_version_selects_nothing() -> None:
    newer = LabelSelector(match_expressions=(LabelSelectorRequirement(key="a", operator="Like", values=("1",)),))
    assert not matches(newer, {"a": "1"})


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a=1,b!=2", "a in (1),b notin (2)"),
        (" a == 1 , b ", "a in (1),b"),
        ("x.io/c in (1, 2),!a", "!a,x.io/c in (1,2)"),
        ("a notin (),b=", "a notin (),b in ()"),
        ("! a", "!a"),
    ],
)
def test_kubectls_forms(text: str, printed: str) -> None:
    assert format_label_selector(parse_label_selector(text)) == printed


@pytest.mark.parametrize(
    "text", ["a=1,", ",", "a in 1", "a in (1", "a>1", "=1", "a=b=c", "a b", "a=-x", "-a", "a!", "in (a)("]
)
def test_unreadable_label_selectors(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_label_selector(text)


def test_fields() -> None:
    kind = by_resource("pods")
    pod = Pod(
        metadata=ObjectMeta(name="web"),
        spec=PodSpec(node_name="n1", host_network=True),
        status=PodStatus(phase="Running"),
    )

    def selects(text: str) -> bool:
        return field_matches(parse_field_selector(text, kind), pod)

    assert selects("status.phase=Running,spec.nodeName==n1,metadata.name!=db,spec.hostNetwork=true")
    assert selects("metadata.namespace=")
    assert selects("")
    assert not selects("spec.nodeName=")
    assert not selects("spec.nodeName!=n1")


def test_a_field_that_cannot_be_asked_for() -> None:
    with pytest.raises(BadRequest, match=r"pods cannot be selected by spec.nodename \(did you mean spec.nodeName\?\)"):
        parse_field_selector("spec.nodename=a", by_resource("pods"))
    with pytest.raises(BadRequest, match="cannot read the field selector"):
        parse_field_selector("status.phase")
