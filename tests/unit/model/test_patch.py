"""The laws of merge patch and of the three-way merge."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.defaults import fill
from shoal.model.patch import merge_patch, three_way
from shoal.model.registry import by_resource

Json = dict[str, Any]
POD = by_resource("pods")


# --- RFC 7396 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_rfcs_examples(document: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy((document, patch))
    assert merge_patch(document, patch) == result
    assert (document, patch) == before


values = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 3), st.text("ab", max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
patches = st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), values, documents), max_size=3)


@given(documents, patches)
def test_patching_twice_is_patching_once(document: Json, patch: Json) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


# --- three-way ------------------------------------------------------------------------------------------------------------


def some(elements: "st.SearchStrategy[Json]", key: str) -> "st.SearchStrategy[list[Json]]":
    return st.lists(elements, max_size=3, unique_by=lambda element: element[key])


envs = some(st.fixed_dictionaries({"name": st.sampled_from("ABCD")}, optional={"value": st.sampled_from("12")}), "name")
ports = some(
    st.fixed_dictionaries({"containerPort": st.integers(1, 4)}, optional={"name": st.sampled_from("pqr")}),
    "containerPort",
)
mounts = some(
    st.fixed_dictionaries({"mountPath": st.sampled_from(["/a", "/b"]), "name": st.sampled_from("vw")}), "mountPath"
)
containers = some(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["web", "log", "db"]), "image": st.sampled_from(["x", "y:1"])},
        optional={
            "env": envs,
            "ports": ports,
            "args": st.lists(st.sampled_from("ab"), max_size=2),
            "volumeMounts": mounts,
        },
    ),
    "name",
)
maps = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from("12"), max_size=3)
finalizers = st.lists(st.sampled_from(["x/a", "x/b", "x/c"]), unique=True, max_size=3)
volumes = some(
    st.one_of(
        st.fixed_dictionaries({"name": st.sampled_from("vw"), "emptyDir": st.just({})}),
        st.fixed_dictionaries({"name": st.sampled_from("vw"), "hostPath": st.just({"path": "/h"})}),
    ),
    "name",
)
pods = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Pod"),
        "metadata": st.fixed_dictionaries(
            {"name": st.just("web")}, optional={"labels": maps, "annotations": maps, "finalizers": finalizers}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": containers},
            optional={"volumes": volumes, "nodeSelector": maps, "hostname": st.sampled_from("hi")},
        ),
    }
)

KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath", "containers": "name", "volumes": "name"}


SHARED = {*KEYS, "labels", "annotations", "nodeSelector", "finalizers"}  # their elements may be of several authors


def prefixes(document: Json) -> set[tuple[Any, ...]]:
    return {path[:n] for path in leaves(document) for n in range(1, len(path) + 1)}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every leaf by its path, elements of keyed lists by their key, members of sets by themselves."""
    if isinstance(value, dict):
        found: dict[tuple[Any, ...], Any] = {path: {}} if not value else {}
        for key, inner in value.items():
            found |= leaves(inner, (*path, key))
        return found
    if isinstance(value, list) and path and path[-1] in KEYS:
        found = {}
        for element in value:
            key = element[KEYS[path[-1]]]
            found |= leaves(element, (*path, key))
        return found
    if isinstance(value, list) and path and path[-1] == "finalizers":
        return {(*path, element): element for element in value}
    return {path: json.dumps(value)}


@given(pods, pods, pods)
def test_what_the_author_says_holds(last: Json, live: Json, new: Json) -> None:
    merged = leaves(three_way(last, live, new, POD))
    for path, value in leaves(new).items():
        if value == {}:
            assert any(other[: len(path)] == path for other in merged)
        else:
            assert merged[path] == value


@given(pods, pods, pods)
def test_what_the_author_no_longer_says_goes(last: Json, live: Json, new: Json) -> None:
    merged, said = leaves(three_way(last, live, new, POD)), leaves(new)
    for path, value in leaves(last).items():
        if path not in said and value != {}:
            assert path not in merged


@given(pods, pods, pods)
def test_what_others_added_stays(last: Json, live: Json, new: Json) -> None:
    """Unless the author takes away the very thing it was added to; and a volume is one thing, of one author."""
    merged = leaves(three_way(last, live, new, POD))
    said, before = prefixes(new), prefixes(last)
    for path, value in leaves(live).items():
        around = [path[:n] for n in range(1, len(path))]
        gone = any(a in before and a not in said and a[-1] not in SHARED for a in around)
        if path not in said | before and not gone and "volumes" not in path and value != {}:
            assert merged[path] == value


@given(pods, pods, pods)
def test_applying_twice_changes_nothing(last: Json, live: Json, new: Json) -> None:
    once = three_way(last, live, new, POD)
    assert three_way(new, once, new, POD) == once


@given(pods, pods)
def test_nothing_is_removed_at_the_first_apply(live: Json, new: Json) -> None:
    merged = leaves(three_way(None, live, new, POD))
    assert {p for p, v in leaves(live).items() if v != {} and "volumes" not in p} <= set(merged)


@given(pods)
def test_a_filled_object_applied_again_is_unchanged(new: Json) -> None:
    live = fill(new, POD)
    assert fill(three_way(new, live, new, POD), POD) == live


@given(pods, pods, pods)
def test_arguments_are_left_alone_and_not_shared(last: Json, live: Json, new: Json) -> None:
    before = copy.deepcopy((last, live, new))
    merged = three_way(last, live, new, POD)
    _scramble(merged)
    assert (last, live, new) == before


def _scramble(value: Any) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _scramble(inner)
        value["scrambled"] = True
    elif isinstance(value, list):
        for inner in value:
            _scramble(inner)
        value.append("scrambled")


def spec(**fields: Any) -> Json:
    return {"spec": fields}


def names(document: Json) -> list[str]:
    return [element["name"] for element in document["spec"]["containers"]]


def test_the_authors_order_holds_and_additions_stay_behind_their_neighbour() -> None:
    def listed(text: str) -> Json:
        return spec(containers=[{"name": name} for name in text])

    assert names(three_way(listed("ab"), listed("axb"), listed("ba"), POD)) == ["b", "a", "x"]
    assert names(three_way(listed("ab"), listed("xayb"), listed("abc"), POD)) == ["x", "a", "y", "b", "c"]


def test_the_same_port_over_two_protocols_is_two_ports() -> None:
    """kubectl's own apply loses one of them (its merge key is the number alone)."""
    dns = [{"containerPort": 53, "protocol": "UDP", "name": "udp"}, {"containerPort": 53, "name": "tcp"}]
    new = spec(containers=[{"name": "dns", "image": "x", "ports": dns}])
    live = fill(new, POD)
    merged = fill(three_way(new, live, new, POD), POD)
    assert merged == live
    assert [p["name"] for p in merged["spec"]["containers"][0]["ports"]] == ["udp", "tcp"]


def test_elements_that_cannot_be_told_apart_are_replaced_as_a_list() -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    new = spec(containers=[{"name": "web", "env": twice}])
    live = spec(containers=[{"name": "web", "env": [{"name": "B"}]}])
    assert three_way(None, live, new, POD)["spec"]["containers"][0]["env"] == twice


def test_a_volume_changes_its_source() -> None:
    empty, host = {"name": "v", "emptyDir": {}}, {"name": "v", "hostPath": {"path": "/h"}}
    live = spec(volumes=[{"name": "v", "emptyDir": {}}])
    assert three_way(spec(volumes=[{"name": "v"}]), live, spec(volumes=[host]), POD)["spec"]["volumes"] == [host]
    assert three_way(spec(volumes=[host]), spec(volumes=[host]), spec(volumes=[empty]), POD)["spec"]["volumes"] == [
        empty
    ]


def test_the_scheduler_keeps_its_node() -> None:
    new = spec(containers=[{"name": "web", "image": "x"}])
    live = spec(containers=[{"name": "web", "image": "x"}], nodeName="n1")
    assert three_way(new, live, new, POD)["spec"]["nodeName"] == "n1"
