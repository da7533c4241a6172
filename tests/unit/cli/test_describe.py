"""`describe`: pure, object to text, in kubectl's layout. What is said without words: nothing here reads a clock."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.unit.cli.fake import FakeCluster, a_node, a_pod, a_replica_set, an_event, shoal

from shoal.cli.describe import generic, namespace, node, pod, replicaset
from shoal.model.namespace import Namespace
from shoal.model.node import Node
from shoal.model.pod import Pod
from shoal.model.replicaset import ReplicaSet
from shoal.wire import EventsRequest

NOW = datetime(2020, 1, 1, 0, 5, tzinfo=UTC)

FULL_POD: dict[str, Any] = {
    "metadata": {
        "name": "web-0",
        "namespace": "prod",
        "labels": {"app": "web", "tier": "front"},
        "annotations": {
            "note": "short",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "text": "two\nlines\n",
        },
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}
        ],
    },
    "spec": {
        "nodeName": "n1",
        "priority": 0,
        "serviceAccountName": "default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
            {"operator": "Exists"},
            {"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "initContainers": [{"name": "prepare", "image": "shoal/busybox", "command": ["sh", "-c", "echo\ndone"]}],
        "containers": [
            {
                "name": "main",
                "image": "shoal/web:1",
                "args": ["--port", "80"],
                "ports": [
                    {"containerPort": 80, "protocol": "TCP"},
                    {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
                ],
                "resources": {"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"cpu": "100m"}},
                "env": [
                    {"name": "PLAIN", "value": "x"},
                    {"name": "LONG", "value": "one\ntwo"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
                    {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
                ],
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data", "subPath": "a"},
                    {"name": "host", "mountPath": "/cfg", "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": "/etc", "type": "Directory"}},
        ],
    },
    "status": {
        "phase": "Running",
        "startTime": "2020-01-01T00:00:00Z",
        "hostIP": "10.0.0.1",
        "podIP": "10.208.0.2",
        "podIPs": [{"ip": "10.208.0.2"}],
        "qosClass": "Burstable",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "main waits"},
            {"type": "PodScheduled", "status": "True"},
        ],
        "initContainerStatuses": [
            {
                "name": "prepare",
                "ready": True,
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "startedAt": "2020-01-01T00:00:01Z",
                        "finishedAt": "2020-01-01T00:00:02Z",
                    }
                },
                "containerID": "docker://i",
                "imageID": "sha256:b",
            }
        ],
        "containerStatuses": [
            {
                "name": "main",
                "restartCount": 2,
                "containerID": "docker://m",
                "imageID": "sha256:w",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 137,
                        "signal": 9,
                        "reason": "OOMKilled",
                        "startedAt": "2020-01-01T00:03:00Z",
                        "finishedAt": "2020-01-01T00:04:00Z",
                    }
                },
            }
        ],
    },
}

FULL_TEXT = """\
Name:             web-0
Namespace:        prod
Priority:         0
Service Account:  default
Node:             n1/10.0.0.1
Start Time:       Wed, 01 Jan 2020 00:00:00 +0000
Labels:           app=web
                  tier=front
Annotations:      note: short
                  text:
                    two
                    lines
Status:           Running
IP:               10.208.0.2
IPs:
  IP:           10.208.0.2
Controlled By:  ReplicaSet/web
Init Containers:
  prepare:
    Container ID:  docker://i
    Image:         shoal/busybox
    Image ID:      sha256:b
    Port:          <none>
    Host Port:     <none>
    Command:
      sh
      -c
      echo
      done
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Started:      Wed, 01 Jan 2020 00:00:01 +0000
      Finished:     Wed, 01 Jan 2020 00:00:02 +0000
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  main:
    Container ID:  docker://m
    Image:         shoal/web:1
    Image ID:      sha256:w
    Ports:         80/TCP, 53/UDP
    Host Ports:    0/TCP, 53/UDP
    Args:
      --port
      80
    State:          Waiting
      Reason:       CrashLoopBackOff
      Message:      back-off 20s
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Signal:       9
      Started:      Wed, 01 Jan 2020 00:03:00 +0000
      Finished:     Wed, 01 Jan 2020 00:04:00 +0000
    Ready:          False
    Restart Count:  2
    Limits:
      cpu:     1
      memory:  64Mi
    Requests:
      cpu:  100m
    Environment:
      PLAIN:  x
      LONG:   one
              two
      IP:     10.208.0.2 (v1:status.podIP)
      TIER:   front (v1:metadata.labels['tier'])
    Mounts:
      /cfg from host (ro)
      /data from data (rw,path="a")
Conditions:
  Type           Status  Reason              Message
  Ready          False   ContainersNotReady  main waits
  PodScheduled   True                        \n\
Volumes:
  data:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     Memory
    SizeLimit:  1Mi
  host:
    Type:          HostPath (bare host directory volume)
    Path:          /etc
    HostPathType:  Directory
QoS Class:         Burstable
Node-Selectors:    kubernetes.io/os=linux
Tolerations:       op=Exists
                   dedicated=db:NoSchedule
                   gone:NoExecute op=Exists for 30s
Events:
  Type     Reason     Age                  From       Message
  ----     ------     ----                 ----       -------
  Normal   Scheduled  4m59s                scheduler  assigned
  Warning  BackOff    10s (x3 over 4m59s)  agent      restarting
"""


def decoded(obj: dict[str, Any], kind: type[Any]) -> Any:
    return msgspec.convert(obj, kind)


def test_a_pod_in_full() -> None:
    events = [
        an_event("BackOff", "restarting\n", type="Warning", count=3, lastTimestamp="2020-01-01T00:04:50Z",
                 source={"component": "agent"}),
        an_event("Scheduled", "assigned"),
    ]  # fmt: skip
    assert pod.describe(decoded(FULL_POD, Pod), events, NOW) == FULL_TEXT


def test_a_pod_that_nothing_is_known_of() -> None:
    bare = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    assert pod.describe(decoded(bare, Pod), [], NOW) == (
        "Name:         web\n"
        "Namespace:    default\n"
        "Node:         <none>\n"
        "Labels:       <none>\n"
        "Annotations:  <none>\n"
        "Status:       \n"
        "IP:           \n"
        "IPs:          <none>\n"
        "Containers:\n"
        "  c:\n"
        "    Image:        x\n"
        "    Port:         <none>\n"
        "    Host Port:    <none>\n"
        "    Environment:  <none>\n"
        "    Mounts:       <none>\n"
        "Volumes:          <none>\n"
        "QoS Class:        \n"
        "Node-Selectors:   <none>\n"
        "Tolerations:      <none>\n"
        "Events:           <none>\n"
    )


@pytest.mark.parametrize(
    ("ends", "status"),
    [("2020-01-01T00:05:20Z", "Terminating (within 20s)"), ("2020-01-01T00:04:00Z", "Terminating (lasts 60s)")],
)
def test_a_pod_that_is_being_deleted(ends: str, status: str) -> None:
    obj = {**FULL_POD, "metadata": {"name": "web", "deletionTimestamp": ends, "deletionGracePeriodSeconds": 30}}
    lines = pod.describe(decoded(obj, Pod), [], NOW).splitlines()
    assert f"Status:                    {status}" in lines
    assert "Termination Grace Period:  30s" in lines


def test_a_long_annotation_is_cut() -> None:
    obj = {**FULL_POD, "metadata": {"name": "web", "annotations": {"long": "x" * 300}}}
    text = pod.describe(decoded(obj, Pod), [], NOW)
    assert f"                    {'x' * 138}...\n" in text


def test_a_replica_set_counts_the_pods_that_it_controls() -> None:
    owner = decoded(
        a_replica_set(status={"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "Quota"}]}),
        ReplicaSet,
    )
    pods = [
        decoded(obj, Pod)
        for obj in (
            a_pod("a", owner="uid-rs-web"),
            a_pod("b", owner="uid-rs-web", phase="Pending"),
            a_pod("c", owner="another"),
            a_pod("d"),
        )
    ]
    assert replicaset.describe(owner, pods, [], NOW) == (
        "Name:         web\n"
        "Namespace:    default\n"
        "Selector:     app=web\n"
        "Labels:       app=web\n"
        "Annotations:  <none>\n"
        "Replicas:     2 current / 2 desired\n"
        "Pods Status:  1 Running / 1 Waiting / 0 Succeeded / 0 Failed\n"
        "Pod Template:\n"
        "  Labels:  app=web\n"
        "  Containers:\n"
        "   main:\n"
        "    Image:         shoal/busybox\n"
        "    Port:          <none>\n"
        "    Host Port:     <none>\n"
        "    Environment:   <none>\n"
        "    Mounts:        <none>\n"
        "  Volumes:         <none>\n"
        "  Node-Selectors:  <none>\n"
        "  Tolerations:     <none>\n"
        "Conditions:\n"
        "  Type             Status  Reason\n"
        "  ----             ------  ------\n"
        "  ReplicaFailure   True    Quota\n"
        "Events:            <none>\n"
    )


def test_a_node_tells_what_runs_there_and_what_it_takes() -> None:
    obj = a_node()
    obj["spec"]["taints"] = [
        {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
        {"key": "x", "effect": "NoExecute"},
    ]
    asks = {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}
    pods = [decoded(a_pod("b", spec=asks), Pod), decoded(a_pod("a", phase="Succeeded"), Pod)]
    text = node.describe(decoded(obj, Node), pods, [], NOW)
    assert "Taints:             x:NoExecute\n                    dedicated=db:NoSchedule\n" in text
    assert "Capacity:\n  cpu:     2\n  memory:  4Gi\n  pods:    500\n" in text
    assert (
        "Non-terminated Pods:          (1 in total)\n"
        "  Namespace                   Name    CPU Requests  CPU Limits  Memory Requests  Memory Limits  Age\n"
        "  ---------                   ----    ------------  ----------  ---------------  -------------  ---\n"
        "  default                     b       500m (25%)    0 (0%)      1Gi (25%)        0 (0%)         5m\n"
    ) in text
    assert "  Resource           Requests    Limits\n" in text
    assert "  memory             1Gi (25%)   0 (0%)\n" in text
    assert "  Sandbox:                    fast\n" in text


def test_a_namespace() -> None:
    obj = {"metadata": {"name": "prod", "deletionTimestamp": "2020-01-01T00:00:00Z"}}
    assert namespace.describe(decoded(obj, Namespace), [], NOW) == (
        "Name:         prod\nLabels:       <none>\nAnnotations:  <none>\nStatus:       Terminating\n"
    )


def test_a_kind_without_a_page_of_its_own() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod"},
        "args": ["a", {"b": 1}],
    }
    assert generic.describe(obj, [], NOW) == (
        "Name:         e\n"
        "Namespace:    \n"
        "Labels:       <none>\n"
        "Annotations:  <none>\n"
        "API Version:  v1\n"
        "Kind:         Event\n"
        "Args:\n"
        "  a\n"
        "  {'b': 1}\n"
        "Involved Object:\n"
        "  Kind:  Pod\n"
        "Events:  <none>\n"
    )


# --- the verb -----------------------------------------------------------------------------------------------------------


async def test_describe_asks_for_the_events_of_this_very_object() -> None:
    cluster = FakeCluster(a_pod("web"), a_pod("web-2"))
    ran = await shoal(cluster, "describe", "pod", "web")
    assert ran.out.startswith("Name:         web\n")
    assert cluster.requests("events") == [EventsRequest(resource="pods", name="web", uid="uid-web")]


async def test_the_beginning_of_a_name_will_do() -> None:
    cluster = FakeCluster(a_pod("web-1"), a_pod("web-2"), a_pod("db"))
    ran = await shoal(cluster, "describe", "pod", "web", "--show-events=false")
    assert [line for line in ran.out.splitlines() if line.startswith("Name:")] == [
        "Name:         web-1",
        "Name:         web-2",
    ]
    assert "\n\n\nName:" in ran.out
    assert cluster.requests("events") == []
    ran = await shoal(cluster, "describe", "pod", "nope")
    assert (ran.code, ran.out, ran.err) == (1, "", 'error: pods "nope" not found\n')


async def test_describe_of_each_kind() -> None:
    cluster = FakeCluster(a_pod(owner="uid-rs-web"), a_replica_set(), a_node())
    ran = await shoal(cluster, "describe", "rs/web", "node/n1")
    assert "Pods Status:  1 Running" in ran.out
    assert "(1 in total)" in ran.out
    assert ("list", "pods", None, ("", "spec.nodeName=n1")) in cluster.asked
    assert (await shoal(FakeCluster(), "describe", "pods")).err == "No resources found in default namespace.\n"
