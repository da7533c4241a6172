"""Expansion as Kubernetes' own test vectors have it (third_party/forked/golang/expansion/expand_test.go), and fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node_agent.made import a_pod

from shoal.errors import Invalid
from shoal.node_agent.environment import Place, environment, expand, field

PLACE = Place(node="n1", host_ip="192.0.2.1", pod_ip="10.208.0.5")
KNOWN = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)$(VAR_B)", "AB"),
        ("$(VAR_REF)", "$(VAR_A)"),  # what was put in is not expanded again
        ("foo $(VAR_EMPTY) bar", "foo  bar"),
        ("$(NOPE)", "$(NOPE)"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$VAR_A", "$VAR_A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$(VAR_A", "$(VAR_A"),
        ("$()", "$()"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$(VAR_$(VAR_A))", "$(VAR_$(VAR_A))"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, KNOWN) == expected


@given(st.text())
def test_expand_is_total(text: str) -> None:
    assert "$" in text or expand(text, KNOWN) == text


def test_a_variable_sees_those_before_it_and_pod_fields() -> None:
    pod = a_pod(
        containers=[
            {
                "name": "web",
                "image": "i",
                "env": [
                    {"name": "EARLY", "value": "$(LATE)"},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LATE", "value": "$(NAME).$(EARLY)"},
                ],
            }
        ]
    )
    assert environment(pod, pod.spec.containers[0], PLACE) == {
        "EARLY": "$(LATE)",
        "NAME": "web-1",
        "LATE": "web-1.$(LATE)",
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.uid", "u1"),
        ("metadata.namespace", "default"),
        ("metadata.labels['app']", "x"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a/b.c']", "it's"),
        ("metadata.labels", 'app="x"'),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "192.0.2.1"),
        ("status.podIP", "10.208.0.5"),
        ("status.podIPs", "10.208.0.5"),
    ],
)
def test_fields(path: str, value: str) -> None:
    pod = a_pod(serviceAccountName="sa", metadata={"labels": {"app": "x"}, "annotations": {"a/b.c": "it's"}})
    assert field(pod, path, PLACE) == value


def test_a_field_that_no_pod_has_is_refused_by_its_path() -> None:
    env = [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]
    pod = a_pod(containers=[{"name": "web", "image": "i", "env": env}])
    with pytest.raises(Invalid, match=r"env\[0\].*spec.nope"):
        environment(pod, pod.spec.containers[0], PLACE)
