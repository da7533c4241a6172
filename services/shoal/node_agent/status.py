"""A pod's status in Kubernetes' words, from what the engine has. Pure, and the same after an agent's restart: every
time in it is a container's own.
"""

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from shoal.model.container import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
)
from shoal.model.meta import Condition
from shoal.model.pod import HostIP, Pod, PodIP, PodStatus
from shoal.model.resources import qos_class
from shoal.node_agent import lifecycle
from shoal.node_agent.lifecycle import Group
from shoal.node_agent.pods import Failure
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, SANDBOX, Fact, Image


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the status is made of. `message`: a container's termination message. `images`: by reference."""

    pod: Pod
    facts: tuple[Fact, ...]
    failures: Mapping[str, Failure]
    connected: bool
    pod_ip: str
    host_ip: str
    seen_at: float
    now: float
    message: Callable[[Fact], str] = lambda _: ""
    images: Mapping[str, Image] = {}


def time_of(seconds: float) -> str | None:
    """RFC 3339 with whole seconds; None for never."""
    return _rfc3339(int(seconds)) if seconds else None


def seconds_of(time: str | None) -> float:
    """0 for none, and for what is no time."""
    try:
        return datetime.fromisoformat(time).timestamp() if time else 0.0
    except ValueError:
        return 0.0


@functools.lru_cache(maxsize=1024)
def _rfc3339(seconds: int) -> str:
    """A status is made again after everything that happens, with the same few times in it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(seen: Seen) -> PodStatus:
    pod, known = seen.pod, lifecycle.group(seen.facts)
    phase = lifecycle.phase(pod, seen.facts)
    started = lifecycle.initialized(pod, known)
    init = tuple(_container(seen, known, c, waits="PodInitializing", init=True) for c in pod.spec.init_containers)
    waits = "ContainerCreating" if started else "PodInitializing"
    main = tuple(_container(seen, known, c, waits=waits) for c in pod.spec.containers)
    return PodStatus(
        phase=phase,
        conditions=_conditions(seen, known, phase, main, initialized=started),
        host_ip=seen.host_ip,
        host_ips=(HostIP(ip=seen.host_ip),) if seen.host_ip else (),
        pod_ip=seen.pod_ip,
        pod_ips=(PodIP(ip=seen.pod_ip),) if seen.pod_ip else (),
        start_time=time_of(seen.seen_at),
        init_container_statuses=init,
        container_statuses=main,
        qos_class=qos_class(pod.spec),
    )


def carried(before: PodStatus | None, status: PodStatus) -> PodStatus:
    """With what was reported before and cannot be read any more: the address of a pod that has given it back, messages
    whose files are gone, digests that the registry told.
    """
    if before is None:
        return status
    replace = msgspec.structs.replace
    if not status.pod_ip:
        status = replace(status, pod_ip=before.pod_ip, pod_ips=before.pod_ips)
    known = (*before.init_container_statuses, *before.container_statuses)
    ended = (t for c in known for t in (c.state.terminated, c.last_state.terminated) if t is not None)
    messages = {t.container_id: t.message for t in ended if t.message}
    images = {c.container_id: c.image_id for c in known if c.container_id and c.image_id}

    def state(of: ContainerState) -> ContainerState:
        ended = of.terminated
        if ended is None or ended.message or ended.container_id not in messages:
            return of
        return replace(of, terminated=replace(ended, message=messages[ended.container_id]))

    def container(of: ContainerStatus) -> ContainerStatus:
        image = images.get(of.container_id, of.image_id)
        return replace(of, state=state(of.state), last_state=state(of.last_state), image_id=image)

    return replace(
        status,
        init_container_statuses=tuple(map(container, status.init_container_statuses)),
        container_statuses=tuple(map(container, status.container_statuses)),
    )


# --- containers ----------------------------------------------------------------------------------------------------------


def _container(seen: Seen, known: Group, container: Container, *, waits: str, init: bool = False) -> ContainerStatus:
    found = known.containers.get(container.name, ())
    newest = found[-1] if found else None
    before = next((f for f in reversed(found[:-1]) if f.state == EXITED), None)
    state = _state(seen, container, newest, waits)
    crashed = newest is not None and newest.state == EXITED and state.terminated is None
    last = newest if crashed else before
    running = newest is not None and newest.state == RUNNING
    done = init and newest is not None and lifecycle.succeeded(newest)
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=ContainerState(terminated=_terminated(seen, last)) if last is not None else ContainerState(),
        ready=done if init else running,
        started=running and not init,
        restart_count=newest.labels.attempt if newest is not None else 0,
        image=container.image,
        image_id=_image_id(seen, container, newest),
        container_id=f"docker://{newest.id}" if newest is not None and newest.state != CREATED else "",
    )


def _image_id(seen: Seen, container: Container, newest: Fact | None) -> str:
    image = seen.images.get(container.image)
    if image is not None and image.digest:
        return f"docker-pullable://{image.digest}"
    known = image.id if image is not None else newest.image_id if newest is not None else ""
    return f"docker://{known}" if known else ""


def _state(seen: Seen, container: Container, newest: Fact | None, waits: str) -> ContainerState:
    if newest is not None and newest.state == RUNNING:
        return ContainerState(running=ContainerStateRunning(started_at=time_of(newest.started_at)))
    failed = seen.failures.get(container.name) or seen.failures.get(SANDBOX)
    if newest is not None and newest.state == EXITED:
        if seen.pod.metadata.deletion_timestamp is None and _crash_loop(seen, container, newest):
            seconds = int(lifecycle.backoff_s(lifecycle.failures_after(newest)))
            where = f"{seen.pod.metadata.name}_{seen.pod.metadata.namespace}({seen.pod.metadata.uid})"
            text = f"back-off {_duration(seconds)} restarting failed container={container.name} pod={where}"
            return _waiting("CrashLoopBackOff", text)
        if failed is None or not lifecycle.restarts(seen.pod, newest):
            return ContainerState(terminated=_terminated(seen, newest))
    if failed is not None and failed.reason:
        return _waiting(failed.reason, failed.message)
    return _waiting(waits, "")


def _crash_loop(seen: Seen, container: Container, newest: Fact) -> bool:
    is_init = container.name in {c.name for c in seen.pod.spec.init_containers}
    again = (
        lifecycle.init_restarts(seen.pod) and not lifecycle.succeeded(newest)
        if is_init
        else lifecycle.restarts(seen.pod, newest)
    )
    return again and lifecycle.restarts_at(newest) > seen.now


def _duration(seconds: int) -> str:
    """As Go writes it: 10s, 1m20s, 5m0s."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"


def _waiting(reason: str, message: str) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


def _terminated(seen: Seen, fact: Fact) -> ContainerStateTerminated:
    if fact.error:
        reason, message = "StartError", fact.error
    else:
        reason = "OOMKilled" if fact.oom_killed else "Completed" if fact.exit_code == 0 else "Error"
        message = seen.message(fact)
    return ContainerStateTerminated(
        exit_code=fact.exit_code,
        reason=reason,
        message=message,
        started_at=time_of(fact.started_at),
        finished_at=time_of(fact.finished_at),
        container_id=f"docker://{fact.id}",
    )


# --- conditions ----------------------------------------------------------------------------------------------------------


def _conditions(
    seen: Seen, known: Group, phase: str, main: tuple[ContainerStatus, ...], *, initialized: bool
) -> tuple[Condition, ...]:
    newest = [f for c in seen.pod.spec.containers if (f := known.newest(c.name)) is not None]
    inits = [f for c in seen.pod.spec.init_containers if (f := known.newest(c.name)) is not None]
    ready = bool(main) and all(status.ready for status in main)
    moments = [f.started_at if ready else f.finished_at for f in newest]
    since = max(moments, default=0.0) or seen.seen_at
    done = phase == "Succeeded"
    unready = [status.name for status in main if not status.ready]
    reason = "" if ready else "PodCompleted" if done else "ContainersNotReady"
    message = "" if ready or done else f"containers with unready status: [{' '.join(unready)}]"
    sandbox = known.sandbox
    plumbed = seen.connected and sandbox is not None
    undone = [c.name for c in seen.pod.spec.init_containers if not _succeeded(known, c.name)]
    return (
        Condition(
            type="PodReadyToStartContainers",
            status=_word(plumbed),
            last_transition_time=time_of((sandbox.started_at if plumbed and sandbox else 0) or seen.seen_at),
        ),
        Condition(
            type="Initialized",
            status=_word(initialized),
            reason="" if initialized else "ContainersNotInitialized",
            message="" if initialized else f"containers with incomplete status: [{' '.join(undone)}]",
            last_transition_time=time_of(max((f.finished_at for f in inits), default=0.0) or seen.seen_at),
        ),
        Condition(
            type="Ready", status=_word(ready), reason=reason, message=message, last_transition_time=time_of(since)
        ),
        Condition(
            type="ContainersReady",
            status=_word(ready),
            reason=reason,
            message=message,
            last_transition_time=time_of(since),
        ),
    )


def _succeeded(known: Group, name: str) -> bool:
    found = known.newest(name)
    return found is not None and lifecycle.succeeded(found)


def _word(value: bool) -> str:
    return "True" if value else "False"
