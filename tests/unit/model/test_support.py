"""Every field of a Pod that Kubernetes has is supported, or refused by name; and the table says so."""

import json
import pathlib
from typing import Any

import msgspec
import pytest

from shoal.model.manifest import parse
from shoal.model.pod import Pod
from shoal.model.problem import ManifestErrors
from shoal.model.registry import KINDS, by_resource
from shoal.model.schema import json_schema, schema_components
from shoal.model.shape import StructOf, fields, walk
from shoal.model.support import NOTES, markdown, pod_fields
from shoal.model.unsupported import UNSUPPORTED

# Field names of Kubernetes' API types (k8s.io/api v0.37.0-beta.0, core/v1), of each struct below PodSpec that is ours too
KUBERNETES: dict[str, list[str]] = json.loads((pathlib.Path(__file__).parent / "kubernetes_fields.json").read_text())
STRUCTS = {of.__name__: of for _, of, _ in walk(StructOf(Pod))}


@pytest.mark.parametrize("name", KUBERNETES)
def test_no_field_of_kubernetes_is_just_unknown(name: str) -> None:
    of = STRUCTS[name]
    assert set(KUBERNETES[name]) <= {*fields(of), *UNSUPPORTED.get(of, {})}
    assert not {*fields(of)} & {*UNSUPPORTED.get(of, {})}


def test_we_invented_no_field() -> None:
    for name, kubernetes in KUBERNETES.items():
        assert set(fields(STRUCTS[name])) <= set(kubernetes)


@pytest.mark.parametrize("field", sorted(UNSUPPORTED[STRUCTS["PodSpec"]]))
def test_an_unsupported_field_is_refused_by_name(field: str) -> None:
    spec = {"containers": [{"name": "web", "image": "x"}], field: {"a": "b"}}
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})
    with pytest.raises(ManifestErrors) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.path == f"spec.{field}"
    assert problem.message.startswith("not supported: ")


def test_the_table() -> None:
    rows = {row.path: row for row in pod_fields()}
    assert rows["spec.containers[].image"].supported
    assert rows["spec.containers[].imagePullPolicy"].note == "Always, IfNotPresent, Never"
    assert not rows["spec.containers[].livenessProbe"].supported
    assert not rows["spec.containers[].ports[].protocol: SCTP"].supported
    assert not rows["spec.volumes[].csi"].supported
    assert set(NOTES) <= set(rows)
    assert "| `spec.affinity` | no | affinity and topology spread" in markdown()


# --- JSON schema ----------------------------------------------------------------------------------------------------------


def schema(name: str) -> dict[str, Any]:
    return json_schema(by_resource(name))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_schema_stands_by_itself(kind: Any) -> None:
    made = json_schema(kind)
    refers = set(_references(made))
    assert refers <= {f"#/$defs/{name}" for name in made["$defs"]}
    assert made["properties"]["kind"]["const"] == kind.kind
    msgspec.json.encode(made)


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [r for inner in value.values() for r in _references(inner)]
    return [r for inner in value for r in _references(inner)] if isinstance(value, list) else []


def test_a_schema_says_what_the_structs_say() -> None:
    container = schema("pods")["$defs"]["Container"]
    assert container["required"] == ["name", "image"]
    assert container["additionalProperties"] is False
    assert container["properties"]["imagePullPolicy"] == {"type": "string", "enum": ["Always", "IfNotPresent", "Never"]}
    assert container["properties"]["ports"]["x-kubernetes-patch-merge-key"] == "containerPort"
    limits = schema("pods")["$defs"]["ResourceRequirements"]["properties"]["limits"]
    assert limits["additionalProperties"]["type"] == ["string", "number"]
    assert schema("rs")["$defs"]["ReplicaSetSpec"]["required"] == ["selector", "template"]
    assert schema("rs")["$defs"]["ReplicaSetSpec"]["properties"]["replicas"]["anyOf"][0]["minimum"] == 0


def test_components_of_all_kinds_for_openapi() -> None:
    components = schema_components()
    assert {"Pod", "ReplicaSet", "Node", "Namespace", "Event"} <= set(components)
    assert set(_references(components)) <= {f"#/components/schemas/{name}" for name in components}
    assert components["ReplicaSet"]["x-kubernetes-group-version-kind"] == [
        {"group": "apps", "version": "v1", "kind": "ReplicaSet"}
    ]


def test_a_limit_of_what_is_on_disk_says_that_it_limits_nothing() -> None:
    row = next(row for row in pod_fields() if row.path == "spec.volumes[].emptyDir.sizeLimit")
    assert row.supported
    assert "nothing is limited" in row.note
