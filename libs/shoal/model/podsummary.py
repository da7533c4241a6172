"""One word for what a pod is doing, as kubectl says it (printPod of Kubernetes' printers, 1.33)."""

import msgspec

from shoal.model.container import ContainerState, ContainerStatus
from shoal.model.pod import Pod, PodStatus

_FINISHED = ("Succeeded", "Failed")


class PodSummary(msgspec.Struct, frozen=True):
    """`last_restart`: when a container last ended before a restart, None if there was none."""

    status: str
    ready: int
    total: int
    restarts: int
    last_restart: str | None


def summarise(pod: Pod) -> PodSummary:
    status, spec = pod.status, pod.spec
    word = status.reason or status.phase or "Pending"
    if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in status.conditions):
        word = "SchedulingGated"
    initialising = _initialising(pod)
    ready = 0
    counted = status.init_container_statuses
    if initialising is None or _is_true(status, "Initialized"):
        word, ready = _running(status, word)
        counted = status.container_statuses
    else:
        word = initialising
    return PodSummary(
        status=_deleting(pod) or word,
        ready=ready,
        total=len(spec.containers),
        restarts=sum(c.restart_count for c in counted),
        last_restart=_last_restart(counted),
    )


def _initialising(pod: Pod) -> str | None:
    """What the first init container that has not succeeded is doing; None when all have."""
    total = len(pod.spec.init_containers)
    for index, container in enumerate(pod.status.init_container_statuses):
        ended, waiting = container.state.terminated, container.state.waiting
        if ended is not None and ended.exit_code == 0:
            continue
        if ended is not None:
            return f"Init:{_ended(container.state)}"
        if waiting is not None and waiting.reason not in ("", "PodInitializing"):
            return f"Init:{waiting.reason}"
        return f"Init:{index}/{total}"
    return None


def _running(status: PodStatus, word: str) -> tuple[str, int]:
    """The first container with something to say decides the word; counts those that are ready."""
    ready = 0
    for container in reversed(status.container_statuses):
        state = container.state
        if state.waiting is not None and state.waiting.reason:
            word = state.waiting.reason
        elif state.terminated is not None:
            word = _ended(state)
        elif container.ready and state.running is not None:
            ready += 1
    if word == "Completed" and ready:
        word = "Running" if _is_true(status, "Ready") else "NotReady"
    return word, ready


def _ended(state: ContainerState) -> str:
    ended = state.terminated
    if ended is None:
        return ""
    return ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}")


def _deleting(pod: Pod) -> str | None:
    if pod.metadata.deletion_timestamp is None:
        return None
    if pod.status.reason == "NodeLost":
        return "Unknown"
    return None if pod.status.phase in _FINISHED else "Terminating"


def _is_true(status: PodStatus, condition: str) -> bool:
    return any(c.type == condition and c.status == "True" for c in status.conditions)


def _last_restart(containers: tuple[ContainerStatus, ...]) -> str | None:
    ends = (c.last_state.terminated.finished_at for c in containers if c.last_state.terminated is not None)
    return max((end for end in ends if end), default=None)
