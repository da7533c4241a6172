"""Where a pod and its containers are in their life, read from the engine's facts alone. Pure.

How long to wait before a restart follows from the containers (`Labels.failures`, times), so that an agent that restarts
waits on where it was. Rules and words are Kubernetes' (pkg/kubelet): the first restart at once, then 10 s doubled to
5 minutes, forgotten after 10 minutes of running.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shoal.model.pod import Pod
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, SANDBOX, Fact

BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 300.0
FORGIVEN_AFTER_S = 600.0


class Group(msgspec.Struct, frozen=True):
    """The containers of one pod in order: of each name the newest last."""

    sandboxes: tuple[Fact, ...]
    containers: Mapping[str, tuple[Fact, ...]]

    @property
    def sandbox(self) -> Fact | None:
        """The newest, unless a container belongs to a newer one still: that one has vanished."""
        newest = max((f.labels.generation for f in self.all()), default=0)
        found = self.sandboxes[-1] if self.sandboxes else None
        return found if found is not None and found.labels.generation >= newest else None

    def newest(self, name: str) -> Fact | None:
        found = self.containers.get(name, ())
        return found[-1] if found else None

    def all(self) -> Iterator[Fact]:
        for found in self.containers.values():
            yield from found


def group(facts: Iterable[Fact]) -> Group:
    sandboxes: list[Fact] = []
    containers: dict[str, list[Fact]] = {}
    for fact in sorted(facts, key=lambda f: (f.labels.generation, f.labels.attempt, f.created_at, f.id)):
        if fact.labels.container == SANDBOX:
            sandboxes.append(fact)
        else:
            containers.setdefault(fact.labels.container, []).append(fact)
    for found in containers.values():
        found.sort(key=lambda f: (f.labels.attempt, f.created_at, f.id))
    return Group(tuple(sandboxes), {name: tuple(found) for name, found in containers.items()})


def succeeded(fact: Fact) -> bool:
    return fact.state == EXITED and fact.exit_code == 0 and not fact.error


def failures_after(fact: Fact) -> int:
    """How many in a row have ended, this one included; a long run is forgiven."""
    if fact.started_at and fact.finished_at - fact.started_at >= FORGIVEN_AFTER_S:
        return 1
    return fact.labels.failures + 1


def backoff_s(failures: int) -> float:
    """Seconds from the end of the `failures`-th in a row to the next start: 0, 10, 20, 40, ... 300."""
    if failures <= 1:
        return 0.0
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 2, 10)))


def pause_s(fact: Fact) -> float:
    """Seconds from the end of this one to the next start."""
    return backoff_s(failures_after(fact))


def restarts_at(fact: Fact) -> float:
    """For the status, which shows the engine's times; decisions count from `Memory.ended`."""
    return fact.finished_at + pause_s(fact)


def restarts(pod: Pod, fact: Fact) -> bool:
    """Whether the policy starts an ended container again."""
    policy = pod.spec.restart_policy
    return policy == "Always" or (policy != "Never" and not succeeded(fact))


def init_restarts(pod: Pod) -> bool:
    return pod.spec.restart_policy != "Never"


def initialized(pod: Pod, known: Group) -> bool:
    """Every init container has succeeded in the present sandbox, or what comes after them has begun there."""
    if not pod.spec.init_containers:
        return True
    sandbox = known.sandbox
    generation = sandbox.labels.generation if sandbox else max((f.labels.generation for f in known.all()), default=0)
    for container in pod.spec.containers:
        newest = known.newest(container.name)
        if newest is not None and newest.labels.generation == generation and newest.state != CREATED:
            return True
    return all(
        (found := known.newest(c.name)) is not None and succeeded(found) and found.labels.generation == generation
        for c in pod.spec.init_containers
    )


def _lost(pod: Pod, known: Group) -> bool:
    """A pod that never restarts, whose sandbox ended before all of its containers had begun: they never will."""
    sandbox = known.sandbox
    if pod.spec.restart_policy != "Never" or (sandbox is not None and sandbox.state != EXITED):
        return False
    states = [f.state for f in known.all()]
    ended = EXITED in states and RUNNING not in states
    return ended and any((f := known.newest(c.name)) is None or f.state == CREATED for c in pod.spec.containers)


def phase(pod: Pod, facts: Iterable[Fact]) -> str:
    """Pending, Running, Succeeded or Failed, as Kubernetes' getPhase."""
    known = group(facts)
    if _lost(pod, known):
        return "Failed"
    if not initialized(pod, known):
        inits = [f for c in pod.spec.init_containers if (f := known.newest(c.name)) is not None]
        failed = any(f.state == EXITED and not succeeded(f) for f in inits)
        return "Failed" if failed and not init_restarts(pod) else "Pending"
    newest = [known.newest(c.name) for c in pod.spec.containers]
    found = [f for f in newest if f is not None and f.state != CREATED]
    if any(f.state == RUNNING for f in found):
        return "Running"
    if len(found) < len(newest):
        return "Running" if any(f is not None and f.labels.attempt > 0 for f in newest) else "Pending"
    if any(restarts(pod, f) for f in found):
        return "Running"
    return "Succeeded" if all(succeeded(f) for f in found) else "Failed"
