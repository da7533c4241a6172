"""A pod's status in Kubernetes' words, and the same again after a restart of the agent."""

from typing import Any

import pytest
from tests.unit.node_agent.made import NOW, a_fact, a_pod, a_sandbox

from shoal.model.pod import Pod, PodStatus
from shoal.node_agent.pods import Failure
from shoal.node_agent.runtime.port import CREATED, EXITED, Fact
from shoal.node_agent.status import Seen, pod_status, time_of


def status(pod: Pod, *facts: Fact, **known: Any) -> PodStatus:
    values: dict[str, Any] = {
        "failures": {},
        "connected": True,
        "pod_ip": "10.208.0.5",
        "host_ip": "192.0.2.1",
        "seen_at": NOW - 90,
        "now": NOW,
    } | known
    return pod_status(Seen(pod=pod, facts=facts, **values))


def condition(found: PodStatus, kind: str) -> tuple[str, str, str]:
    (one,) = (c for c in found.conditions if c.type == kind)
    return one.status, one.reason, one.message


def test_a_pod_that_runs() -> None:
    found = status(a_pod(), a_sandbox(), a_fact(id="abc", attempt=2))
    (web,) = found.container_statuses
    assert (found.phase, found.pod_ip, found.host_ip, found.qos_class) == (
        "Running",
        "10.208.0.5",
        "192.0.2.1",
        "BestEffort",
    )
    assert (web.ready, web.started, web.restart_count, web.container_id) == (True, True, 2, "docker://abc")
    assert web.state.running is not None
    assert web.state.running.started_at == time_of(NOW - 60)
    assert condition(found, "Ready")[0] == condition(found, "ContainersReady")[0] == "True"


def test_a_pod_that_begins_says_what_is_missing() -> None:
    found = status(a_pod(), connected=False, pod_ip="")
    (web,) = found.container_statuses
    assert found.phase == "Pending"
    assert web.state.waiting is not None
    assert web.state.waiting.reason == "ContainerCreating"
    assert condition(found, "Ready") == ("False", "ContainersNotReady", "containers with unready status: [web]")
    assert condition(found, "PodReadyToStartContainers")[0] == "False"


def test_a_pod_that_initializes() -> None:
    pod = a_pod(initContainers=[{"name": "one", "image": "i"}, {"name": "two", "image": "i"}])
    found = status(pod, a_sandbox(), a_fact("one", state=EXITED), a_fact("two"))
    one, two = found.init_container_statuses
    assert (one.ready, two.ready) == (True, False)
    assert one.state.terminated is not None
    assert one.state.terminated.reason == "Completed"
    (web,) = found.container_statuses
    assert web.state.waiting is not None
    assert web.state.waiting.reason == "PodInitializing"
    assert condition(found, "Initialized") == (
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [two]",
    )


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"exit_code": 0}, "Completed"),
        ({"exit_code": 3}, "Error"),
        ({"exit_code": 137, "oom_killed": True}, "OOMKilled"),
        ({"exit_code": 128, "error": "no such file"}, "StartError"),
    ],
)
def test_why_a_container_ended(known: dict[str, Any], reason: str) -> None:
    found = status(a_pod(restartPolicy="Never"), a_fact(state=EXITED, **known), message=lambda _: "words")
    ended = found.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.reason, ended.exit_code) == (reason, known["exit_code"])
    assert ended.message == ("no such file" if known.get("error") else "words")
    assert found.phase == ("Succeeded" if reason == "Completed" else "Failed")


def test_a_finished_pod_is_completed_not_broken() -> None:
    found = status(a_pod(restartPolicy="OnFailure"), a_fact(state=EXITED))
    assert condition(found, "Ready") == ("False", "PodCompleted", "")


def test_a_crash_loop_keeps_how_it_ended_last() -> None:
    crashed = a_fact(state=EXITED, exit_code=1, attempt=4, failures=4, finished_at=NOW - 1)
    (web,) = status(a_pod(), a_sandbox(), crashed).container_statuses
    assert web.state.waiting is not None
    assert web.state.waiting.reason == "CrashLoopBackOff"
    assert web.state.waiting.message.startswith("back-off 1m20s restarting failed container=web")
    assert web.last_state.terminated is not None
    assert web.last_state.terminated.exit_code == 1
    assert web.restart_count == 4


def test_what_failed_is_the_reason_to_wait() -> None:
    failures = {"web": Failure(reason="ImagePullBackOff", message='Back-off pulling image "x"', until=NOW + 9)}
    (web,) = status(a_pod(), a_sandbox(), failures=failures).container_statuses
    assert web.state.waiting is not None
    assert (web.state.waiting.reason, web.state.waiting.message) == ("ImagePullBackOff", 'Back-off pulling image "x"')


def test_a_failed_restart_still_tells_how_it_ended_before() -> None:
    facts = (a_fact(state=EXITED, exit_code=2), a_fact(state=CREATED, attempt=1, failures=1))
    (web,) = status(a_pod(), a_sandbox(), *facts).container_statuses
    assert web.last_state.terminated is not None
    assert web.last_state.terminated.exit_code == 2


def test_times_are_the_containers_own() -> None:
    """An agent that restarts reports the same again, so that nothing changes."""
    facts = (a_sandbox(), a_fact())
    assert status(a_pod(), *facts, now=NOW) == status(a_pod(), *facts, now=NOW + 1000)
