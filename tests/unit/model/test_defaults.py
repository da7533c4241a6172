"""What Kubernetes fills in."""

import pathlib
from typing import Any

import pytest

from shoal.model.defaults import fill, initial_status, pull_policy
from shoal.model.manifest import decode_input, parse
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.model.node import Node
from shoal.model.pod import Pod, PodStatus
from shoal.model.registry import by_resource, encode
from shoal.model.replicaset import ReplicaSet

GOOD = sorted((pathlib.Path(__file__).parents[2] / "data" / "manifests" / "good").iterdir())


def pod(container: dict[str, Any] | None = None, **spec: Any) -> Pod:
    whole = {"name": "web", "image": "x", **(container or {})}
    made = decode_input(by_resource("pods"), {"metadata": {"name": "web"}, "spec": {"containers": [whole], **spec}})
    assert isinstance(made, Pod)
    return made


def test_a_bare_pod() -> None:
    made = fill(
        {"spec": {"containers": [{"name": "web", "image": "x:1", "ports": [{"containerPort": 80}]}]}},
        by_resource("pods"),
    )
    assert made == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "x:1",
                    "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "enableServiceLinks": True,
            "serviceAccountName": "default",
            "securityContext": {},
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
        },
    }


def test_an_empty_security_context_is_written() -> None:
    assert b'"securityContext":{}' in encode(pod())


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_filling_twice_is_filling_once(path: pathlib.Path) -> None:
    for document in parse(path.read_text()):
        once = fill(document.raw, document.kind)
        assert fill(once, document.kind) == once


def test_what_is_said_stays() -> None:
    made = pod(
        {"imagePullPolicy": "Never", "terminationMessagePath": "/end"},
        terminationGracePeriodSeconds=0,
        enableServiceLinks=False,
        priority=-5,
        restartPolicy="Never",
    ).spec
    assert (made.termination_grace_period_seconds, made.enable_service_links, made.priority) == (0, False, -5)
    assert (made.restart_policy, made.containers[0].image_pull_policy) == ("Never", "Never")
    assert made.containers[0].termination_message_path == "/end"


def test_requests_follow_limits() -> None:
    resources = (
        pod({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}})
        .spec.containers[0]
        .resources
    )
    assert resources.requests == {"cpu": "500m", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("x", "Always"),
        ("x:latest", "Always"),
        ("x:1", "IfNotPresent"),
        ("localhost:5000/a/x", "Always"),
        ("localhost:5000/a/x:1", "IfNotPresent"),
        ("x@sha256:0123", "IfNotPresent"),
        ("x:latest@sha256:0123", "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_host_ports_follow_the_host_network() -> None:
    ports = {"ports": [{"containerPort": 80}]}
    assert pod(ports, hostNetwork=True).spec.containers[0].ports[0].host_port == 80
    assert pod(ports).spec.containers[0].ports[0].host_port == 0


def test_a_priority_class_is_its_number() -> None:
    assert pod(priorityClassName="system-node-critical").spec.priority == 2_000_001_000


def test_a_volume_without_a_source_is_an_empty_dir() -> None:
    made = pod(volumes=[{"name": "a"}, {"name": "b", "hostPath": {"path": "/b"}}]).spec.volumes
    assert (made[0].empty_dir is not None, made[1].empty_dir) == (True, None)


def test_the_old_name_of_a_service_account() -> None:
    assert (pod(serviceAccount="a").spec.service_account_name, pod(serviceAccount="a").spec.service_account) == (
        "a",
        "",
    )
    assert pod(serviceAccount="a", serviceAccountName="b").spec.service_account_name == "b"


def replica_set(**metadata: Any) -> ReplicaSet:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "x"}]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    made = decode_input(by_resource("rs"), {"metadata": {"name": "web", **metadata}, "spec": spec})
    assert isinstance(made, ReplicaSet)
    return made


def test_replica_sets() -> None:
    assert replica_set().spec.replicas == 1
    assert replica_set().metadata.labels == {"app": "web"}
    assert replica_set(labels={"a": "b"}).metadata.labels == {"a": "b"}
    assert replica_set().spec.template.spec.restart_policy == "Always"


def test_namespaces_and_nodes() -> None:
    namespace = decode_input(by_resource("ns"), {"metadata": {"name": "team"}})
    assert isinstance(namespace, Namespace)
    assert namespace.metadata.labels == {"kubernetes.io/metadata.name": "team"}
    assert namespace.spec.finalizers == ("kubernetes",)
    node = decode_input(by_resource("no"), {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/23"}})
    assert isinstance(node, Node)
    assert node.spec.pod_cidrs == ("10.0.0.0/23",)


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"ephemeral-storage": "1Gi"}}, "BestEffort"),
        ({"requests": {"cpu": "0"}}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_the_first_status_of_a_pod(resources: dict[str, Any], qos: str) -> None:
    assert initial_status(pod({"resources": resources})) == PodStatus(phase="Pending", qos_class=qos)


def test_the_first_status_of_other_kinds() -> None:
    assert initial_status(Namespace()) == NamespaceStatus(phase="Active")
    assert initial_status(replica_set()) == ReplicaSet().status
