"""Admission against what Kubernetes documents of its own: who sets what, what counts, what stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.objects import LATER, NOW, POD, REPLICA_SET, document, made, with_metadata

from shoal.api import admission
from shoal.errors import BadRequest, Conflict, Forbidden, Invalid, ShoalError
from shoal.model.meta import OwnerReference
from shoal.model.registry import by_resource, encode
from shoal.names import LAST_APPLIED

RS = by_resource("rs")


def applied(text: str, live: Any = None) -> admission.Admission:
    return admission.apply(document(text), live, uid="u2", now=LATER)


# --- creating ---


def test_what_the_system_says_of_a_new_object_no_author_says() -> None:
    said = REPLICA_SET.replace(
        "{name: web}",
        "{name: web, uid: mine, generation: 9, creationTimestamp: '2001-01-01T00:00:00Z', "
        "deletionTimestamp: '2001-01-01T00:00:00Z', deletionGracePeriodSeconds: 3}",
    )
    meta = applied(said).object.metadata
    assert (meta.uid, meta.generation, meta.creation_timestamp) == ("u2", 1, LATER)
    assert (meta.deletion_timestamp, meta.deletion_grace_period_seconds, meta.resource_version) == (None, None, "")


def test_a_new_object_has_no_status() -> None:
    assert b'"status"' not in encode(applied(POD + "status: {phase: Running}\n").object)


def test_last_applied_is_what_the_author_said_and_nothing_else() -> None:
    text = applied(POD).object.metadata.annotations[LAST_APPLIED]
    assert text.endswith("\n")
    assert json.loads(text) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"annotations": {}, "name": "web", "namespace": "default"},
        "spec": {"containers": [{"image": "shoal/busybox:1", "name": "c"}]},
    }


def test_create_leaves_no_last_applied() -> None:
    assert LAST_APPLIED not in admission.create(document(POD).object, uid="u", now=NOW).metadata.annotations


def test_a_generated_name_is_cut_so_that_five_characters_fit() -> None:
    pod = with_metadata(document(POD).object, name="", generate_name="a" * 60 + "-")
    assert admission.create(pod, uid="u", now=NOW, suffix="bcdfg").metadata.name == "a" * 58 + "bcdfg"


def test_a_revision_is_no_part_of_what_is_created() -> None:
    with pytest.raises(BadRequest):
        admission.create(with_metadata(document(POD).object, resource_version="4"), uid="u", now=NOW)


@pytest.mark.parametrize("resource", ["nodes", "events"])
def test_nobody_makes_nodes_or_events(resource: str) -> None:
    kind = by_resource(resource)
    with pytest.raises(Forbidden, match=f"nobody creates {resource}"):
        admission.create(
            with_metadata(kind.type(api_version=kind.api_version, kind=kind.kind), name="x"), uid="u", now=NOW
        )


def test_a_namespace_has_its_finalizer_and_its_label() -> None:
    obj: Any = applied("{apiVersion: v1, kind: Namespace, metadata: {name: dev}}").object
    assert obj.spec.finalizers == ("kubernetes",)
    assert obj.metadata.labels == {"kubernetes.io/metadata.name": "dev"}


# --- applying again ---


def test_the_same_document_again_changes_nothing() -> None:
    live = made(REPLICA_SET)
    again = applied(REPLICA_SET, live)
    assert again.result == admission.UNCHANGED
    assert encode(again.object) == encode(live)


@pytest.mark.parametrize(
    ("old", "new", "generation"),
    [
        ("replicas: 3", "replicas: 4", 2),
        ("metadata: {name: web}", "metadata: {name: web, labels: {a: b}}", 1),
        ("metadata: {name: web}", "metadata: {name: web, annotations: {a: b}}", 1),
    ],
)
def test_generation_counts_changes_of_spec_alone(old: str, new: str, generation: int) -> None:
    found = applied(REPLICA_SET.replace(old, new, 1), made(REPLICA_SET))
    assert (found.result, found.object.metadata.generation) == (admission.CONFIGURED, generation)


def test_a_default_that_is_now_said_is_no_change_of_spec() -> None:
    found = applied(POD + "  restartPolicy: Always\n", made(POD))
    assert found.object.metadata.generation == 1


def test_what_the_system_set_survives() -> None:
    live = made(REPLICA_SET, deletion_timestamp=NOW, deletion_grace_period_seconds=0, finalizers=("a/b",))
    found = applied(REPLICA_SET.replace("replicas: 3", "replicas: 4"), live)
    meta = found.object.metadata
    assert (meta.uid, meta.creation_timestamp, meta.deletion_timestamp) == ("u1", NOW, NOW)
    assert meta.deletion_grace_period_seconds == 0
    assert "is being deleted" in found.warnings[-1]


def test_three_way_what_the_author_drops_goes_what_others_added_stays() -> None:
    live = made(REPLICA_SET.replace("{name: web}", "{name: web, labels: {mine: a, app: web}}", 1))
    live = with_metadata(live, labels={**live.metadata.labels, "theirs": "b"})
    scaled = admission.scale(RS, live, 9, None)
    found = applied(
        REPLICA_SET.replace("  replicas: 3\n", "").replace("{name: web}", "{name: web, labels: {app: web}}", 1), scaled
    )
    obj: Any = found.object
    assert obj.metadata.labels == {"app": "web", "theirs": "b"}
    assert obj.spec.replicas == 1  # said before, no more: Kubernetes' default


def test_replicas_never_said_stay_as_they_were_scaled() -> None:
    silent = REPLICA_SET.replace("  replicas: 3\n", "")
    obj: Any = applied(silent, admission.scale(RS, made(silent), 9, None)).object
    assert obj.spec.replicas == 9


def test_what_was_not_made_by_apply_is_taken_over_with_a_warning() -> None:
    live = with_metadata(admission.create(document(REPLICA_SET).object, uid="u1", now=NOW), labels={"x": "y"})
    found = applied(REPLICA_SET, live)
    assert found.object.metadata.labels["x"] == "y"
    assert "was not made by apply" in found.warnings[0]
    assert applied(REPLICA_SET, found.object).result == admission.UNCHANGED


def test_an_annotation_nobody_can_read_is_written_anew() -> None:
    found = applied(REPLICA_SET, made(REPLICA_SET, annotations={LAST_APPLIED: "{"}))
    assert "could not be read" in found.warnings[0]
    assert applied(REPLICA_SET, found.object).warnings == ()


@pytest.mark.parametrize(("said", "passes"), [("uid: u1", True), ("uid: u9", False)])
def test_a_document_about_another_uid_is_refused(said: str, passes: bool) -> None:
    text = REPLICA_SET.replace("{name: web}", f"{{name: web, {said}}}", 1)
    if passes:
        applied(text, made(REPLICA_SET))
    else:
        with pytest.raises(Conflict, match="u9"):
            applied(text, made(REPLICA_SET))


@pytest.mark.parametrize(("said", "passes"), [("7", True), ("6", False)])
def test_a_document_made_from_a_revision_is_held_to_it(said: str, passes: bool) -> None:
    text = REPLICA_SET.replace("{name: web}", f"{{name: web, resourceVersion: '{said}'}}", 1)
    if passes:
        assert applied(text, made(REPLICA_SET, revision=7)).result == admission.UNCHANGED
    else:
        with pytest.raises(Conflict, match="revision 6"):
            applied(text, made(REPLICA_SET, revision=7))


# --- what cannot change ---


@pytest.mark.parametrize(
    ("text", "old", "new", "path"),
    [
        (REPLICA_SET, "{app: web}", "{app: other}", "spec.selector"),
        (POD, "{name: c,", "{name: d,", "spec.containers[0].name"),
        (POD, "name: c,", "name: c, command: [x],", "spec.containers[0].command"),
        (POD, "spec:\n", "spec:\n  hostNetwork: true\n", "spec.hostNetwork"),
        (POD, "spec:\n", "spec:\n  nodeName: n1\n", "spec.nodeName"),
    ],
)
def test_what_is_immutable_stays(text: str, old: str, new: str, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        applied(text.replace(old, new), made(text))
    assert caught.value.path == path


def test_a_pod_may_tolerate_more_never_less() -> None:
    one = POD + "  tolerations: [{key: a, operator: Exists}]\n"
    two = POD + "  tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]\n"
    assert applied(two, made(one)).object.metadata.generation == 2
    with pytest.raises(Invalid, match="tolerations"):
        applied(one, made(two))


def test_no_finalizer_is_added_to_what_is_being_deleted_but_one_may_go() -> None:
    live = made(REPLICA_SET, finalizers=("a/b",), deletion_timestamp=NOW)
    assert admission.patch(RS, live, {"metadata": {"finalizers": None}}).metadata.finalizers == ()
    with pytest.raises(Invalid, match="no new finalizers can be added"):
        admission.patch(RS, live, {"metadata": {"finalizers": ["a/b", "c/d"]}})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"metadata": {"name": "other"}}, BadRequest),
        ({"metadata": {"namespace": "other"}}, BadRequest),
        ({"metadata": {"uid": "other"}}, Conflict),
        ({"spec": {"replicas": "three"}}, Invalid),
        ({"spec": {"replicaz": 3}}, Invalid),
        ({"spec": {"replicas": -1}}, Invalid),
        ({"kind": "Pod"}, Invalid),
    ],
)
def test_a_patch_is_held_to_the_same_rules(change: dict[str, Any], error: type[ShoalError]) -> None:
    with pytest.raises(error):
        admission.patch(RS, made(REPLICA_SET), change)


def test_a_patch_of_what_only_the_system_sets_changes_nothing() -> None:
    live = made(REPLICA_SET)
    change = {
        "metadata": {"creationTimestamp": LATER, "generation": 99, "deletionTimestamp": LATER, "resourceVersion": "1"},
        "status": {"replicas": 9},
    }
    assert admission.same(admission.patch(RS, live, change), live)


# --- scale, status ---


@pytest.mark.parametrize(
    ("replicas", "current", "error"),
    [(5, None, None), (5, 3, None), (5, 4, Conflict), (-1, None, Invalid), (2**31, None, Invalid)],
)
def test_scale(replicas: int, current: int | None, error: type[ShoalError] | None) -> None:
    if error is None:
        scaled: Any = admission.scale(RS, made(REPLICA_SET), replicas, current)
        assert (scaled.spec.replicas, scaled.metadata.generation) == (5, 2)
    else:
        with pytest.raises(error):
            admission.scale(RS, made(REPLICA_SET), replicas, current)


def test_a_pod_cannot_be_scaled() -> None:
    with pytest.raises(Invalid, match="pods cannot be scaled"):
        admission.scale(by_resource("pods"), made(POD), 1, None)


def test_a_status_patch_touches_the_status_alone() -> None:
    assert admission.patch_status(RS, {"replicas": 1}, {"status": {"readyReplicas": 1}, "spec": {"replicas": 9}}) == {
        "replicas": 1,
        "readyReplicas": 1,
    }
    with pytest.raises(Invalid):
        admission.patch_status(RS, {}, {"status": {"replicas": "many"}})


# --- laws ---

_labels = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["p", "q", "r"]), max_size=3)
_replicas = st.none() | st.integers(0, 9)


def _text(labels: dict[str, str], replicas: int | None) -> str:
    said = "" if replicas is None else f"  replicas: {replicas}\n"
    pairs = ", ".join(f"{k}: {v}" for k, v in labels.items())
    return REPLICA_SET.replace("  replicas: 3\n", said).replace("{name: web}", f"{{name: web, labels: {{{pairs}}}}}", 1)


@given(st.lists(st.tuples(_labels, _replicas), min_size=1, max_size=5))
def test_applying_settles_whatever_came_before(history: list[tuple[dict[str, str], int | None]]) -> None:
    live: Any = None
    for labels, replicas in history:
        live = applied(_text(labels, replicas), live).object
    labels, replicas = history[-1]
    assert applied(_text(labels, replicas), live).result == admission.UNCHANGED
    filled_in = {"app": "web"}  # of a set that says no labels, once: nobody's, so it stays
    assert {k: v for k, v in live.metadata.labels.items() if k in labels or k not in filled_in} == labels
    if replicas is not None:
        assert live.spec.replicas == replicas


OWNED = """
apiVersion: v1
kind: Namespace
metadata:
  name: kept
  ownerReferences:
  - {apiVersion: %s, kind: %s, name: owner, uid: u-owner}
"""


@pytest.mark.parametrize(
    ("api_version", "kind", "passes"),
    [("v1", "Pod", False), ("apps/v1", "ReplicaSet", False), ("v1", "Node", True), ("x.org/v1", "Widget", True)],
)
def test_what_lies_in_no_namespace_cannot_belong_to_what_lies_in_one(api_version: str, kind: str, passes: bool) -> None:
    if passes:
        assert applied(OWNED % (api_version, kind)).object.metadata.owner_references[0].uid == "u-owner"
        return
    with pytest.raises(Invalid, match=f"cannot belong to a {kind}") as caught:
        applied(OWNED % (api_version, kind))
    assert caught.value.path == "metadata.ownerReferences[0]"


def test_an_owner_that_should_never_have_been_keeps_nobody_from_changing_the_object() -> None:
    plain = applied("apiVersion: v1\nkind: Namespace\nmetadata: {name: kept}").object
    reference = OwnerReference(api_version="v1", kind="Pod", name="owner", uid="u-owner")
    with pytest.raises(Invalid):
        admission.update(plain, with_metadata(plain, owner_references=(reference,)))
    live = with_metadata(plain, owner_references=(reference,))

    assert admission.update(live, with_metadata(live, labels={"a": "b"})).metadata.labels == {"a": "b"}
    assert admission.update(live, with_metadata(live, owner_references=())).metadata.owner_references == ()
