"""Rules that the broken manifests do not show: what is allowed, and what may change in an object that exists."""

from typing import Any

import pytest

from shoal.model.manifest import decode_input
from shoal.model.meta import Object
from shoal.model.patch import merge_patch
from shoal.model.problem import ManifestErrors
from shoal.model.registry import by_resource
from shoal.model.validation import check, check_update

Json = dict[str, Any]


def pod_document(container: Json | None = None, **spec: Any) -> Json:
    whole = {"name": "web", "image": "x", **(container or {})}
    return {"metadata": {"name": "web"}, "spec": {"containers": [whole], **spec}}


def made(resource: str, document: Json) -> Object:
    return decode_input(by_resource(resource), document)


def sentences(resource: str, document: Json) -> list[str]:
    try:
        assert check(made(resource, document)) == []
    except ManifestErrors as refused:
        return [problem.sentence for problem in refused.problems]
    return []


@pytest.mark.parametrize(
    "document",
    [
        pod_document({"ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}),
        pod_document({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]}),
        pod_document({"ports": [{"containerPort": 80, "hostPort": 80}]}, hostNetwork=True),
        pod_document({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        pod_document(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"]}),
        pod_document(dnsConfig={"searches": ["_tcp.example.com.", "."]}),
        pod_document(tolerations=[{"operator": "Exists"}, {"key": "a"}]),
        pod_document({"securityContext": {"privileged": True, "capabilities": {"add": ["ALL"]}}}),
        pod_document({"image": "registry.example.com:5000/a/b_c/d:v1.2@sha256:" + "0" * 64}),
        pod_document({"image": "[::1]:5000/a"}),
    ],
)
def test_allowed(document: Json) -> None:
    assert sentences("pods", document) == []


def test_host_ports_clash_by_address() -> None:
    def ports(first: str, second: str) -> list[str]:
        one = {"containerPort": 80, "hostPort": 80, **({"hostIP": first} if first else {})}
        other = {"containerPort": 81, "hostPort": 80, **({"hostIP": second} if second else {})}
        return sentences("pods", pod_document({"ports": [one, other]}))

    assert ports("10.0.0.1", "10.0.0.2") == []
    assert ports("10.0.0.1", "10.0.0.1") != []
    assert ports("", "10.0.0.1") != []
    assert ports("0.0.0.0", "10.0.0.1") != []


def test_an_init_containers_host_port_is_free_again() -> None:
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    document = pod_document(port, initContainers=[{"name": "first", "image": "x", **port}])
    assert sentences("pods", document) == []


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            pod_document(nodeName="n1", schedulingGates=[{"name": "a"}]),
            "spec.nodeName: set beside schedulingGates, expected at most one of them",
        ),
        (pod_document(priority=2_000_000_000), "spec.priority: found 2000000000, expected at most 1000000000"),
        (
            pod_document(priorityClassName="system-node-critical", priority=5),
            "spec.priority: found 5, expected 2000001000 (of system-node-critical) or nothing",
        ),
        (
            pod_document(hostNetwork=True, securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}),
            (
                "spec.securityContext.sysctls[0].name: "
                '"net.core.somaxconn" would be the host\'s, expected no net.* with hostNetwork'
            ),
        ),
        (
            pod_document({"ports": [{"containerPort": 80, "hostIP": "10.0.0.1"}]}),
            "spec.containers[0].ports[0].hostIP: set without hostPort, expected both or neither",
        ),
        (
            pod_document(dnsConfig={"nameservers": ["10.0.0.1"] * 4}),
            "spec.dnsConfig.nameservers: found 4, expected at most 3",
        ),
        (
            pod_document(
                {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}}
            ),
            (
                "spec.containers[0].securityContext.allowPrivilegeEscalation: "
                "false beside the capability SYS_ADMIN, expected true or nothing"
            ),
        ),
        (
            pod_document(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "-1"}}]),
            "spec.volumes[0].emptyDir.sizeLimit: found -1, expected 0 or more",
        ),
    ],
)
def test_refused(document: Json, sentence: str) -> None:
    assert sentences("pods", document) == [sentence]


def test_huge_annotations() -> None:
    document = pod_document()
    document["metadata"]["annotations"] = {"a": "x" * 262_144}
    assert sentences("pods", document) == ["metadata.annotations: 262145 bytes, expected at most 262144 together"]


# --- updates ----------------------------------------------------------------------------------------------------------

POD = pod_document(schedulingGates=[{"name": "a"}, {"name": "b"}], tolerations=[{"key": "a", "operator": "Exists"}])
RS = {
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web", "v": "1"}},
            "spec": {"containers": [{"name": "web", "image": "x"}]},
        },
    },
}


def changed(resource: str, document: Json, patch: Json) -> list[str]:
    old, new = made(resource, document), made(resource, merge_patch(document, patch))
    return [problem.sentence for problem in check_update(old, new)]


def test_a_pod_that_exists_may_lose_gates_and_gain_tolerations() -> None:
    more = [*POD["spec"]["tolerations"], {"key": "b", "operator": "Exists"}]
    assert changed("pods", POD, {"spec": {"schedulingGates": [{"name": "b"}], "tolerations": more}}) == []
    assert changed("pods", POD, {"metadata": {"labels": {"a": "b"}}}) == []


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        (
            {"schedulingGates": [{"name": "c"}]},
            "spec.schedulingGates[0]: cannot be added to a pod that exists, only removed",
        ),
        ({"tolerations": []}, "spec.tolerations: cannot be removed or changed in a pod that exists, only added"),
        (
            {"containers": [{"name": "web", "image": "y"}]},
            (
                'spec.containers[0].image: cannot be changed: found "y", it is "x" (in a pod that exists) '
                "(delete the pod, or let a ReplicaSet replace it)"
            ),
        ),
        (
            {"hostNetwork": True},
            "spec.hostNetwork: cannot be changed (in a pod that exists) (delete the pod, or let a ReplicaSet replace it)",
        ),
    ],
)
def test_a_pod_that_exists_is_replaced_not_changed(patch: Json, sentence: str) -> None:
    assert changed("pods", POD, {"spec": patch}) == [sentence]


def test_a_gated_pods_node_selector_may_still_change() -> None:
    assert changed("pods", POD, {"spec": {"nodeSelector": {"a": "b"}}}) == []
    bound = pod_document()
    assert len(changed("pods", bound, {"spec": {"nodeSelector": {"a": "b"}}})) == 1


def test_identity_and_selectors_stay() -> None:
    assert changed("rs", RS, {"spec": {"replicas": 5, "template": {"spec": {"restartPolicy": "Always"}}}}) == []
    other = {"spec": {"selector": {"matchLabels": {"app": None, "v": "1"}}}}
    assert changed("rs", RS, other) == ["spec.selector: cannot be changed (make another ReplicaSet)"]
    assert changed("rs", RS, {"metadata": {"uid": "1"}}) == ['metadata.uid: cannot be changed: found "1", it is ""']


def test_a_nodes_range_stays() -> None:
    node = {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/23"}}
    assert changed("no", node, {"spec": {"unschedulable": True}}) == []
    assert len(changed("no", node, {"spec": {"podCIDR": "10.2.0.0/23", "podCIDRs": None}})) == 1
