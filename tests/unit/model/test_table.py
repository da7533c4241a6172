"""kubectl's columns, and its one word for a pod."""

import datetime as dt
from typing import Any

import pytest

from shoal.model.age import age, format_time, human, parse_time
from shoal.model.container import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
)
from shoal.model.event import Event, EventSeries, EventSource, ObjectReference
from shoal.model.meta import Condition, LabelSelector, Object, ObjectMeta
from shoal.model.namespace import Namespace, NamespaceStatus
from shoal.model.node import Node, NodeAddress, NodeSpec, NodeStatus, NodeSystemInfo
from shoal.model.pod import Pod, PodIP, PodSpec, PodStatus, PodTemplateSpec
from shoal.model.podsummary import summarise
from shoal.model.registry import by_resource
from shoal.model.replicaset import ReplicaSet, ReplicaSetSpec, ReplicaSetStatus
from shoal.model.table import columns, row

NOW = dt.datetime(2026, 1, 31, 12, 0, 0, tzinfo=dt.UTC)
START = "2026-01-31T11:55:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 90, "5h1m"),
        (8 * 3600 + 59, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (52 * 3600, "2d4h"),
        (8 * 86_400, "8d"),
        (700 * 86_400, "700d"),
        (730 * 86_400, "2y"),
        (800 * 86_400, "2y70d"),
        (3000 * 86_400, "8y"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert human(seconds) == text


def test_times() -> None:
    assert format_time(NOW) == "2026-01-31T12:00:00Z"
    assert parse_time(format_time(NOW)) == NOW
    assert (age(None, NOW), age("yesterday", NOW), age(START, NOW)) == ("<unknown>", "<unknown>", "5m")


# --- pods ---------------------------------------------------------------------------------------------------------------

RUNNING = ContainerState(running=ContainerStateRunning(started_at=START))
DONE = ContainerState(terminated=ContainerStateTerminated(exit_code=0, reason="Completed", finished_at=START))
FAILED = ContainerState(terminated=ContainerStateTerminated(exit_code=3, finished_at=START))


def waiting(reason: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason))


def status(*states: ContainerState, ready: bool = True, **more: Any) -> tuple[ContainerStatus, ...]:
    return tuple(
        ContainerStatus(name=f"c{i}", state=s, ready=ready and s.running is not None, **more)
        for i, s in enumerate(states)
    )


def pod(
    *states: ContainerState,
    init: tuple[ContainerState, ...] = (),
    phase: str = "Running",
    deleted: bool = False,
    **more: Any,
) -> Pod:
    spec = PodSpec(
        containers=tuple(Container(name=f"c{i}") for i, _ in enumerate(states)),
        init_containers=tuple(Container(name=f"i{i}") for i, _ in enumerate(init)),
    )
    meta = ObjectMeta(name="web", creation_timestamp=START, deletion_timestamp=START if deleted else None)
    seen = PodStatus(phase=phase, container_statuses=status(*states), init_container_statuses=status(*init), **more)
    return Pod(metadata=meta, spec=spec, status=seen)


def condition(type_: str, reason: str = "", status: str = "True") -> Any:
    return (Condition(type=type_, status=status, reason=reason),)


@pytest.mark.parametrize(
    ("made", "word", "ready"),
    [
        (Pod(spec=PodSpec(containers=(Container(name="a"),))), "Pending", 0),
        (pod(RUNNING, RUNNING), "Running", 2),
        (pod(waiting("ContainerCreating"), phase="Pending"), "ContainerCreating", 0),
        (pod(waiting("ErrImagePull"), phase="Pending"), "ErrImagePull", 0),
        (pod(RUNNING, waiting("CrashLoopBackOff")), "CrashLoopBackOff", 1),
        (pod(DONE, phase="Succeeded"), "Completed", 0),
        (pod(DONE, RUNNING), "NotReady", 1),
        (pod(DONE, RUNNING, conditions=condition("Ready")), "Running", 1),
        (pod(FAILED, phase="Failed"), "ExitCode:3", 0),
        (pod(ContainerState(terminated=ContainerStateTerminated(exit_code=137, signal=9))), "Signal:9", 0),
        (pod(ContainerState(terminated=ContainerStateTerminated(exit_code=137, reason="OOMKilled"))), "OOMKilled", 0),
        (pod(waiting("PodInitializing"), init=(DONE, RUNNING), phase="Pending"), "Init:1/2", 0),
        (pod(waiting("PodInitializing"), init=(waiting("PodInitializing"),), phase="Pending"), "Init:0/1", 0),
        (pod(waiting("PodInitializing"), init=(FAILED,), phase="Pending"), "Init:ExitCode:3", 0),
        (pod(waiting("PodInitializing"), init=(waiting("ErrImagePull"),), phase="Pending"), "Init:ErrImagePull", 0),
        (pod(RUNNING, init=(DONE,)), "Running", 1),
        (pod(RUNNING, init=(RUNNING,), conditions=condition("Initialized")), "Running", 1),
        (pod(RUNNING, deleted=True), "Terminating", 1),
        (pod(DONE, phase="Succeeded", deleted=True), "Completed", 0),
        (pod(RUNNING, deleted=True, reason="NodeLost"), "Unknown", 1),
        (pod(phase="Failed", reason="Evicted"), "Evicted", 0),
        (pod(phase="Pending", conditions=condition("PodScheduled", "SchedulingGated", "False")), "SchedulingGated", 0),
    ],
)
def test_one_word_for_a_pod(made: Pod, word: str, ready: int) -> None:
    summary = summarise(made)
    assert (summary.status, summary.ready) == (word, ready)


def test_pods() -> None:
    names = tuple(c.name for c in columns(by_resource("po"), wide=True))
    assert names == ("NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES")
    bare = Pod(metadata=ObjectMeta(name="web"))
    assert row(bare, wide=True, now=NOW) == (
        ("web", "0/0", "Pending", "0", "<unknown>", "<none>", "<none>", "<none>", "<none>")
    )
    ended = ContainerState(terminated=ContainerStateTerminated(exit_code=1, finished_at="2026-01-31T11:59:30Z"))
    made = Pod(
        metadata=ObjectMeta(name="web", creation_timestamp=START),
        spec=PodSpec(containers=(Container(name="c"),), node_name="n1"),
        status=PodStatus(
            phase="Running",
            pod_ips=(PodIP(ip="10.208.0.2"),),
            container_statuses=status(RUNNING, restart_count=2, last_state=ended),
        ),
    )
    assert row(made, now=NOW) == ("web", "1/1", "Running", "2 (30s ago)", "5m")
    assert row(made, wide=True, now=NOW)[5:7] == ("10.208.0.2", "n1")


# --- other kinds ----------------------------------------------------------------------------------------------------------


def test_replica_sets() -> None:
    template = PodTemplateSpec(
        spec=PodSpec(containers=(Container(name="a", image="x"), Container(name="b", image="y:1")))
    )
    made = ReplicaSet(
        metadata=ObjectMeta(name="web", creation_timestamp=START),
        spec=ReplicaSetSpec(replicas=3, selector=LabelSelector(match_labels={"app": "web"}), template=template),
        status=ReplicaSetStatus(replicas=2, ready_replicas=1),
    )
    assert row(made, wide=True, now=NOW) == ("web", "3", "2", "1", "5m", "a,b", "x,y:1", "app=web")
    assert tuple(c.name for c in columns(by_resource("rs"))) == ("NAME", "DESIRED", "CURRENT", "READY", "AGE")


def node(ready: str | None, **spec: Any) -> Node:
    conditions = () if ready is None else (Condition(type="Ready", status=ready),)
    return Node(metadata=ObjectMeta(name="n1"), spec=NodeSpec(**spec), status=NodeStatus(conditions=conditions))


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (node("True"), "Ready"),
        (node("False"), "NotReady"),
        (node("Unknown"), "NotReady"),
        (node(None), "Unknown"),
        (node("True", unschedulable=True), "Ready,SchedulingDisabled"),
    ],
)
def test_a_nodes_status(made: Node, word: str) -> None:
    assert row(made, now=NOW)[1] == word


def test_nodes() -> None:
    made = Node(
        metadata=ObjectMeta(
            name="n1", creation_timestamp=START, labels={"node-role.kubernetes.io/db": "", "kubernetes.io/role": "edge"}
        ),
        status=NodeStatus(
            addresses=(NodeAddress(type="InternalIP", address="10.0.0.1"), NodeAddress(type="Hostname", address="n1")),
            node_info=NodeSystemInfo(
                kubelet_version="v0.1.0",
                os_image="Debian 12",
                kernel_version="6.1",
                container_runtime_version="docker://20.10",
                sandbox="fast",
            ),
        ),
    )
    cells = (
        "n1",
        "Unknown",
        "db,edge",
        "5m",
        "v0.1.0",
        "10.0.0.1",
        "<none>",
        "Debian 12",
        "6.1",
        "docker://20.10",
        "fast",
    )
    assert row(made, wide=True, now=NOW) == cells
    assert columns(by_resource("no"), wide=True)[-1].name == "SANDBOX"
    assert row(Node(metadata=ObjectMeta(name="n")), wide=True, now=NOW)[4:] == (
        "",
        "<none>",
        "<none>",
        *["<unknown>"] * 4,
    )


def test_namespaces() -> None:
    assert row(Namespace(metadata=ObjectMeta(name="a")), now=NOW) == ("a", "Active", "<unknown>")
    going = Namespace(metadata=ObjectMeta(name="a", deletion_timestamp=START), status=NamespaceStatus(phase="Active"))
    assert row(going, now=NOW)[1] == "Terminating"


def test_events() -> None:
    made: Object = Event(
        metadata=ObjectMeta(name="web.1"),
        involved_object=ObjectReference(kind="Pod", name="web", field_path="spec.containers{web}"),
        type="Warning",
        reason="BackOff",
        message="waits\n",
        source=EventSource(component="node-agent", host="n1"),
        first_timestamp=START,
        last_timestamp="2026-01-31T11:59:00Z",
        count=4,
    )
    assert row(made, now=NOW) == ("60s", "Warning", "BackOff", "pod/web", "waits")
    assert row(made, wide=True, now=NOW) == (
        ("60s", "Warning", "BackOff", "pod/web", "spec.containers{web}", "node-agent, n1", "waits", "5m", "4", "web.1")
    )
    series = Event(
        involved_object=ObjectReference(kind="Thing", name="x"),
        event_time=START,
        series=EventSeries(count=7, last_observed_time="2026-01-31T11:59:50.123456Z"),
        reporting_component="scheduler",
    )
    assert row(series, wide=True, now=NOW) == ("9s", "", "", "thing/x", "", "scheduler", "", "5m", "7", "")
