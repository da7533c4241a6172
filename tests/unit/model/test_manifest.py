"""From text to objects: what is taken, and the one sentence for each thing that is not."""

import pathlib
from typing import Any

import pytest

from shoal.errors import BadRequest, Invalid, from_status, to_status
from shoal.model.manifest import decode_input, parse
from shoal.model.meta import Object
from shoal.model.pod import Pod
from shoal.model.problem import ManifestErrors
from shoal.model.registry import by_resource, encode
from shoal.model.replicaset import ReplicaSet

MANIFESTS = pathlib.Path(__file__).parents[2] / "data" / "manifests"
BROKEN = sorted((MANIFESTS / "broken").glob("*.yaml"))
GOOD = sorted((MANIFESTS / "good").iterdir())

POD = by_resource("pods")
PLAIN = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: x}]}}"


def expected(text: str) -> list[str]:
    return [line.removeprefix("# expect: ") for line in text.splitlines() if line.startswith("# expect: ")]


def refusal(text: str, **options: Any) -> list[str]:
    with pytest.raises(ManifestErrors) as caught:
        parse(text, **options)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", BROKEN, ids=lambda p: p.stem)
def test_a_broken_manifest_gets_its_one_sentence(path: pathlib.Path) -> None:
    text = path.read_text()
    assert len(expected(text)) == 1
    assert refusal(text) == expected(text)


def test_there_are_enough_broken_manifests() -> None:
    assert len(BROKEN) >= 100


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_a_good_manifest_is_taken_and_taken_again(path: pathlib.Path) -> None:
    documents = parse(path.read_text())
    assert documents
    assert [d.number for d in documents] == list(range(1, len(documents) + 1))
    for document in documents:
        assert document.warnings == ()
        assert encode(decode_input(document.kind, encode(document.object))) == encode(document.object)
        assert encode(decode_input(document.kind, document.raw)) == encode(document.object)


# --- all that is wrong, and where ---------------------------------------------------------------------------------------


def test_every_problem_of_a_message_is_told_in_the_order_of_the_text() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: Web}
spec:
  contaners: []
  containers:
    - name: web
      imgae: x
      ports: [{containerPort: 0}]
---
kind: Podd
apiVersion: v1
---
[]
"""
    assert refusal(text, source="web.yaml") == [
        (
            "web.yaml:3: document 1: metadata.name: \"Web\" is not a DNS name: expected lower case letters, digits and '-', "
            "beginning and ending with a letter or digit, in parts joined by '.'"
        ),
        "web.yaml:5: document 1: spec.contaners: unknown field (did you mean containers?)",
        "web.yaml:8: document 1: spec.containers[0].imgae: unknown field (did you mean image?)",
        "web.yaml:9: document 1: spec.containers[0].ports[0].containerPort: found 0, expected 1 to 65535",
        'web.yaml:11: document 2: kind: unknown kind "Podd" in "v1" (did you mean Pod?)',
        "web.yaml:14: document 3: found an empty list, expected a map with apiVersion, kind and metadata",
    ]


def test_what_was_read_before_the_text_breaks_is_checked_too() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: A}\n---\na: [\n"
    assert [sentence.split(":")[0] for sentence in refusal(text)] == ["document 1, line 3", "document 2, line 6"]


def test_one_mistake_is_one_sentence() -> None:
    """What follows from a broken place is not told beside it."""
    text = """
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: 5}}
    spec: {containers: [{name: web, image: x, volumeMounts: [{name: a, mountPath: /a}]}], volumes: {name: a}}
"""
    assert refusal(text) == [
        'document 1, line 8: spec.template.metadata.labels.app: found the number 5, expected text (write "5")',
        "document 1, line 9: spec.template.spec.volumes: found a map, expected a list (begin each element with '- ')",
    ]


def test_what_is_not_supported_hides_nothing_else() -> None:
    text = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: web, image: x, volumeMounts: [{name: dta, mountPath: /a}, {name: data, mountPath: /b}]}]
  volumes: [{name: data, configMap: {name: c}}]
"""
    assert refusal(text) == [
        'document 1, line 6: spec.containers[0].volumeMounts[0].name: the pod has no volume "dta" (did you mean data?)',
        (
            "document 1, line 7: spec.volumes[0].configMap: not supported: "
            "configuration (ConfigMaps, Secrets) comes with a later release"
        ),
    ]


def test_a_refusal_crosses_the_wire_whole() -> None:
    with pytest.raises(Invalid) as caught:
        parse(BROKEN[0].read_text())
    back = from_status(to_status(caught.value))
    assert isinstance(back, Invalid)
    assert str(back) == str(caught.value) == expected(BROKEN[0].read_text())[0]
    assert back.path


def test_a_message_without_objects_is_empty() -> None:
    assert parse("") == parse("---\n# nothing\n---\n") == parse("null") == []


# --- options ------------------------------------------------------------------------------------------------------------


def test_unknown_and_unsupported_fields_become_warnings_if_asked() -> None:
    text = PLAIN.replace("image: x", "image: x, imagePullPolice: Never, livenessProbe: {}")
    (document,) = parse(text, ignore_unknown=True)
    assert document.warnings == (
        "document 1, line 1: spec.containers[0].imagePullPolice: unknown field (did you mean imagePullPolicy?)",
        "document 1, line 1: spec.containers[0].livenessProbe: not supported: health checks come with a later release",
    )
    assert "livenessProbe" not in document.raw["spec"]["containers"][0]


def test_ignoring_a_misspelt_field_does_not_hide_the_missing_one() -> None:
    sentences = refusal(PLAIN.replace("image", "imgae"), ignore_unknown=True)
    assert sentences == ["document 1, line 1: spec.containers[0].image: missing, expected text"]


def test_a_sender_is_held_to_his_namespace() -> None:
    assert parse(PLAIN)[0].object.metadata.namespace == "default"
    assert parse(PLAIN, namespace="team-a")[0].object.metadata.namespace == "team-a"
    elsewhere = PLAIN.replace("name: web}, spec", "name: web, namespace: team-b}, spec")
    assert parse(elsewhere)[0].object.metadata.namespace == "team-b"
    assert refusal(elsewhere, namespace="team-a") == [
        'document 1, line 1: metadata.namespace: found "team-b", expected "team-a", the namespace of the request'
    ]


def test_a_generated_name_is_for_create() -> None:
    text = PLAIN.replace("name: web}, spec", "generateName: web-}, spec")
    assert parse(text, need_name=False)[0].object.metadata.generate_name == "web-"
    with pytest.raises(ManifestErrors, match="generateName makes a new object each time"):
        parse(text)


def test_what_the_author_saw_is_told_apart_from_what_he_wants() -> None:
    (document,) = parse((MANIFESTS / "good" / "exported.yaml").read_text())
    assert (document.uid, document.resource_version) == ("5c0b7a34-1111-2222-3333-444455556666", "812")
    assert document.raw["metadata"] == {"name": "web", "namespace": "default", "annotations": {"team": "a"}}
    assert "status" not in document.raw


def test_items_of_a_list_are_found_by_their_lines() -> None:
    documents = parse((MANIFESTS / "good" / "stream.yaml").read_text())
    assert [(d.number, d.document, d.kind.kind) for d in documents] == [
        (1, 1, "Namespace"),
        (2, 3, "ReplicaSet"),
        (3, 4, "Namespace"),
        (4, 4, "Pod"),
    ]
    assert [d.line for d in documents] == [3, 9, 39, 42]


# --- one object -----------------------------------------------------------------------------------------------------------


def document(**metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "web", "image": "x"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", **metadata}, "spec": spec}


def test_the_result_of_a_patch_keeps_what_the_server_set() -> None:
    obj = decode_input(POD, document(uid="1", resourceVersion="7", creationTimestamp=None, generation=3))
    meta = obj.metadata
    assert (meta.uid, meta.resource_version, meta.generation, meta.creation_timestamp) == ("1", "7", 3, None)


def test_status_in_input_is_dropped() -> None:
    obj = decode_input(POD, {**document(), "status": {"phase": "Running", "unheardOf": 1}})
    assert isinstance(obj, Pod)
    assert obj.status.phase == ""


def test_typed_clients_empty_values_are_taken() -> None:
    obj: Object = decode_input(
        by_resource("rs"),
        {
            "metadata": {"name": "web", "creationTimestamp": None},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"creationTimestamp": None, "labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "x", "resources": {}}]},
                },
            },
            "status": {"replicas": 0},
        },
    )
    assert isinstance(obj, ReplicaSet)
    assert obj.metadata.namespace == "default"
    assert obj.spec.replicas == 1


def test_one_object_of_another_kind_is_refused() -> None:
    with pytest.raises(ManifestErrors, match='kind: found the text "Pod", expected ReplicaSet'):
        decode_input(by_resource("rs"), {**document(), "apiVersion": "apps/v1"})


def test_bytes_that_are_no_object_are_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="expected a JSON object"):
        decode_input(POD, b"[1]")


def test_problems_of_one_object_have_no_place_in_a_text() -> None:
    with pytest.raises(ManifestErrors) as caught:
        decode_input(POD, {**document(), "spec": {"containers": []}})
    assert str(caught.value) == "spec.containers: missing, expected at least one"
