"""The scheduler as a controller: what it binds, what it says of the rest, and who is looked at again when."""

from typing import Any

import msgspec
import pytest

from shoal.controller.actions import NOTHING, Decision, Emit, SetStatus, WriteEntry, changes, rfc3339
from shoal.controller.rehearse import carry_out
from shoal.model.container import Container, ContainerPort, ResourceRequirements
from shoal.model.meta import Condition, ObjectMeta
from shoal.model.node import Node, NodeStatus
from shoal.model.pod import BoundPod, Pod, PodSchedulingGate, PodSpec, PodStatus
from shoal.model.registry import encode, key_of
from shoal.names import RESOURCE_NODE_NETWORKS, ObjectKey, bound, desired, observed
from shoal.scheduler.asks import Ask, HostPort, ask_of
from shoal.scheduler.binding import Scheduler
from shoal.store.records import Entry
from shoal.store.stored import Observed
from shoal.store.view import View
from shoal.wildcards import covers

NOW = 1_800_000_000.0


def a_pod(name: str = "web", **spec: Any) -> Pod:
    containers = spec.pop("containers", (Container(name="c", image="busybox"),))
    deleted = spec.pop("deleted", False)
    metadata = ObjectMeta(
        name=name, namespace="default", uid=f"u-{name}", deletion_timestamp=rfc3339(NOW) if deleted else None
    )
    return Pod(metadata=metadata, spec=PodSpec(containers=containers, **spec))


def pod_key(name: str = "web") -> ObjectKey:
    return ObjectKey("pods", "default", name)


class World:
    """A view with the scheduler listening, as the shell does it."""

    def __init__(self, **nodes: int) -> None:
        self.view = View()
        self.scheduler = Scheduler("seed")
        self.woken: list[ObjectKey] = []
        for name, pods in nodes.items():
            self.node(name, pods)

    def write(self, name: str, value: bytes | None) -> None:
        self.woken = []
        for key in self.view.apply(Entry(name, value, self.view.revision + 1)):
            self.woken += self.scheduler.keys(key, self.view)

    def node(self, name: str, pods: int = 10, *, ready: str = "True") -> None:
        node = Node(metadata=ObjectMeta(name=name, uid=f"u-{name}"))
        said = NodeStatus(
            allocatable={"cpu": "4", "memory": "8Gi", "pods": str(pods)},
            conditions=(Condition(type="Ready", status=ready),),
        )
        if self.view.get(key_of(node)) is None:
            self.write(desired(key_of(node)), encode(node))
        self.see(name, node, said)

    def see(self, writer: str, obj: Pod | Node, said: msgspec.Struct) -> None:
        record = Observed(uid=obj.metadata.uid, status=msgspec.Raw(msgspec.json.encode(said)))
        self.write(observed(writer, key_of(obj)), msgspec.json.encode(record))

    def put(self, *pods: Pod) -> "World":
        for pod in pods:
            self.write(desired(key_of(pod)), encode(pod))
        return self

    def decide(self, *names: str) -> dict[str, Decision]:
        keys = [pod_key(n) for n in names]
        return {k.name: self.scheduler.decide(k, self.view, NOW) for k in self.scheduler.order(keys, self.view)}

    def commit(self, decision: Decision) -> None:
        """The store took it, and the watch shows it."""
        for change in changes(decision.actions, self.view):
            assert hasattr(change, "value")
            self.write(change.key, change.value)


def node_of(decision: Decision) -> str:
    for action in decision.actions:
        if isinstance(action, WriteEntry) and action.key.startswith("bound."):
            return action.key.split(".")[1]
    return ""


def condition(decision: Decision) -> Condition:
    (status,) = [a.status for a in decision.actions if isinstance(a, SetStatus)]
    assert isinstance(status, PodStatus)
    return status.conditions[-1]


def test_a_binding_is_the_record_its_condition_and_the_copy() -> None:
    world = World(n1=10).put(a_pod())

    decision = world.decide("web")["web"]

    record, status, copy = changes(decision.actions, world.view)
    assert (record.key, status.key, copy.key) == (
        "desired.pods.default.web",
        "observed._.pods.default.web",
        bound("n1", pod_key()),
    )
    assert record.expected == world.view.revision
    world.commit(decision)
    bound_entry = world.view.bound_entries(pod_key())["n1"]
    stored = world.view.get(pod_key(), Pod)
    assert stored is not None
    assert msgspec.json.decode(bound_entry.value or b"", type=BoundPod).pod == msgspec.json.decode(
        stored.value, type=Pod
    )
    assert stored.object.spec.node_name == "n1"
    assert (condition(decision).status, stored.object.status.phase) == ("True", "Pending")
    assert decision.trace is not None
    assert decision.trace.name == "bind"


def test_what_was_decided_counts_before_the_watch_shows_it_and_what_was_refused_no_more() -> None:
    world = World(n1=1).put(a_pod("a"), a_pod("b"))

    decisions = world.decide("a", "b")
    assert (node_of(decisions["a"]), node_of(decisions["b"])) == ("n1", "")

    assert world.scheduler.undone(pod_key("a")) == [pod_key("b")]
    assert world.scheduler.undone(pod_key("a")) == []
    assert node_of(world.decide("b")["b"]) == "n1"


def test_an_older_word_about_a_pod_does_not_void_what_was_assumed() -> None:
    world = World(n1=1).put(a_pod("a"), a_pod("b"))
    world.decide("a")

    world.see("_", a_pod("a"), PodStatus(phase="Pending"))

    assert node_of(world.decide("b")["b"]) == ""


def test_a_successor_of_the_same_name_is_another_pod() -> None:
    world = World(n1=1).put(a_pod("a"))
    world.commit(world.decide("a")["a"])

    world.write(desired(pod_key("a")), None)
    successor = msgspec.structs.replace(a_pod("a"), metadata=ObjectMeta(name="a", namespace="default", uid="new"))
    world.put(successor)

    assert node_of(world.decide("a")["a"]) == "n1"


def test_an_unplaced_pod_says_why_once_and_is_woken_by_what_may_help() -> None:
    world = World(n1=1).put(a_pod("a"), a_pod("b"))
    world.commit(world.decide("a")["a"])

    refused = world.decide("b")["b"]
    assert condition(refused).reason == "Unschedulable"
    assert condition(refused).message == "0/1 nodes are available: 1 Too many pods."
    assert any(isinstance(a, Emit) and a.reason == "FailedScheduling" for a in refused.actions)
    world.commit(refused)
    assert world.decide("b")["b"].actions == ()

    world.see("n1", a_pod("a"), PodStatus(phase="Running"))
    assert pod_key("b") not in world.woken
    world.node("n2", 10, ready="False")
    assert pod_key("b") in world.woken
    assert condition(world.decide("b")["b"]).message.startswith(
        "0/2 nodes are available: 1 Too many pods, 1 node(s) had"
    )
    world.node("n2", 10)
    assert pod_key("b") in world.woken
    assert node_of(world.decide("b")["b"]) == "n2"


@pytest.mark.parametrize("how", ["finished", "erased"])
def test_a_pod_that_ends_makes_room(how: str) -> None:
    world = World(n1=1).put(a_pod("a"), a_pod("b"))
    world.commit(world.decide("a")["a"])
    world.decide("b")

    if how == "finished":
        world.see("n1", a_pod("a"), PodStatus(phase="Succeeded"))
    else:
        world.write(desired(pod_key("a")), None)

    assert pod_key("b") in world.woken
    assert node_of(world.decide("b")["b"]) == "n1"


def test_the_more_important_pod_goes_first() -> None:
    world = World(n1=1).put(a_pod("a"), a_pod("b", priority=5))

    decisions = world.decide("a", "b")

    assert (node_of(decisions["a"]), node_of(decisions["b"])) == ("", "n1")


def test_a_pod_that_names_its_node_gets_the_copy_that_is_missing_and_nothing_else() -> None:
    world = World().put(a_pod(node_name="elsewhere"))

    decision = world.decide("web")["web"]
    assert node_of(decision) == "elsewhere"
    assert [c.key for c in changes(decision.actions, world.view)] == [
        "observed._.pods.default.web",
        "bound.elsewhere.pods.default.web",
    ]

    world.commit(decision)
    assert world.decide("web")["web"] == NOTHING


def test_a_gated_pod_waits_and_says_so() -> None:
    world = World(n1=1).put(a_pod(scheduling_gates=(PodSchedulingGate(name="x"),)))

    decision = world.decide("web")["web"]

    assert (condition(decision).reason, node_of(decision)) == ("SchedulingGated", "")


@pytest.mark.parametrize("pod", [a_pod(deleted=True), a_pod(scheduler_name="another")])
def test_what_is_not_ours_to_place_is_left_alone(pod: Pod) -> None:
    assert World(n1=1).put(pod).decide("web")["web"] == NOTHING


def test_the_decision_settles() -> None:
    world = World(n1=10).put(a_pod())
    carry_out(world.decide("web")["web"].actions, world.view)

    assert world.decide("web")["web"].actions == ()


def _container(**requests: str) -> Container:
    return Container(name="c", image="i", resources=ResourceRequirements(requests=requests))


def test_an_ask_is_the_sum_of_containers_or_the_dearest_init_container() -> None:
    pod = a_pod(
        containers=(_container(cpu="100m", memory="1Mi"), _container(cpu="1")),
        init_containers=(_container(cpu="500m", memory="1Gi"), _container(memory="2Gi")),
    )

    assert ask_of(pod) == Ask(
        cpu_milli=1100,
        memory_bytes=2 << 30,
        scored_cpu_milli=1100,
        scored_memory_bytes=2 << 30,
    )


def test_an_ask_for_nothing_counts_something_when_nodes_are_compared() -> None:
    ask = ask_of(a_pod())
    assert (ask.cpu_milli, ask.memory_bytes) == (0, 0)
    assert (ask.scored_cpu_milli, ask.scored_memory_bytes) == (100, 200 << 20)


def test_host_ports_are_asked_for_by_protocol_and_address() -> None:
    ports = (
        ContainerPort(container_port=80, host_port=8080, protocol="TCP"),
        ContainerPort(container_port=53, host_port=53, protocol="UDP", host_ip="10.0.0.1"),
        ContainerPort(container_port=81),
    )
    pod = a_pod(containers=(Container(name="c", image="i", ports=ports),))

    assert ask_of(pod).ports == (HostPort("TCP", 8080), HostPort("UDP", 53, "10.0.0.1"))


def test_a_node_whose_network_is_unavailable_gets_no_pod_until_it_is_back() -> None:
    """Its proxy says so, in a record beside the node's own."""
    world = World(n1=10)
    record = ObjectKey(RESOURCE_NODE_NETWORKS, "", "n1")

    def say(status: str) -> None:
        conditions = msgspec.json.encode({"conditions": [{"type": "NetworkUnavailable", "status": status}]})
        said = Observed(uid="u-n1", status=msgspec.Raw(conditions))
        world.write(observed("n1", record), msgspec.json.encode(said))

    assert any(covers(f, observed("n1", record)) for f in Scheduler.filters)
    say("True")
    world.put(a_pod())
    decision = world.scheduler.decide(pod_key(), world.view, NOW)
    assert not any(isinstance(a, WriteEntry) for a in decision.actions)
    assert "network-unavailable" in str(decision.actions)
    say("False")
    assert world.woken == [pod_key()]
    decision = world.scheduler.decide(pod_key(), world.view, NOW)
    assert any(isinstance(a, WriteEntry) for a in decision.actions)
