"""What is to be done for one pod, decided from what is wanted, what the engine has and what was tried. Pure.

`decide` is called again after everything that happens. An action that is at work is in `Memory.working` and is not
decided twice; carrying all actions out and deciding again ends in no action (the law the tests check).
"""

import math
from collections.abc import Mapping

import msgspec

from shoal.model.container import Container
from shoal.model.pod import DEFAULT_GRACE_S, Pod
from shoal.node_agent.actions import (
    Action,
    CreateContainer,
    CreateSandbox,
    Decision,
    GetImage,
    Prepare,
    Release,
    Remove,
    StartContainer,
    StartSandbox,
    Stop,
    key_of,
    trial_of,
)
from shoal.node_agent.lifecycle import (
    Group,
    failures_after,
    group,
    init_restarts,
    initialized,
    pause_s,
    phase,
    restarts,
    succeeded,
)
from shoal.node_agent.runtime.port import CREATED, EXITED, RUNNING, Fact

DRAIN_S = 2.0  # a deleted pod is stopped when it is drained, or so long after it was seen deleted
NO_RECORD_GRACE_S = 2  # for what nobody wants any more, and whose manifest is not known
SANDBOX_GRACE_S = 5  # for containers whose sandbox died: the pod is of no use until it begins anew


# --- what is known -----------------------------------------------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something was tried and is not tried again before `until`. `reason`: Kubernetes' word for the status.

    `container`: whose status tells it, SANDBOX for the pod's; None: nobody's. `until`: on `View.now`'s clock.
    """

    reason: str
    message: str
    count: int = 1
    until: float = 0.0
    container: str | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker knows beside the engine's facts. Keys of `working`: see `key_of`; of `failures`: `trial_of`.

    All times are on `View.now`'s clock.
    """

    working: frozenset[str] = frozenset()
    prepared: bool = False  # address, files and volumes are there
    released: bool = False  # and gone again
    connected: frozenset[str] = frozenset()  # sandboxes whose network is ready, by id
    images: Mapping[str, str] = {}  # images that may be used now: container name -> image id
    failures: Mapping[str, Failure] = {}
    ended: Mapping[str, float] = {}  # when containers ended, by id; what is not here waits for nothing
    deleted_seen: float = 0.0  # when the deletion was first seen
    kill_at: float = 0.0  # a shorter grace came while something was being stopped: it ends then; 0: none came


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`pod` None: nobody wants it (a read has confirmed that). `now`: seconds of a clock that never jumps."""

    pod: Pod | None
    facts: tuple[Fact, ...]
    memory: Memory
    now: float
    drained: bool = False


# --- deciding ----------------------------------------------------------------------------------------------------------


def decide(view: View) -> Decision:
    """See the module. Total and deterministic."""
    pod = view.pod
    known = group(view.facts)
    if pod is None:
        decision = _end(view, known, NO_RECORD_GRACE_S)
    elif pod.metadata.deletion_timestamp is not None:
        decision = _delete(view, pod, known)
    elif phase(pod, view.facts) in {"Succeeded", "Failed"}:
        decision = _rest(view, known)
    else:
        decision = _run(view, pod, known)
    once = {key_of(a): a for a in decision.actions}  # two rules may come to the same
    actions: list[Action] = []
    wakes = [] if decision.wake_at is None else [decision.wake_at]
    for key, action in once.items():
        if key in view.memory.working:
            continue
        if (until := _held(view, trial_of(action))) is None:
            actions.append(action)
        else:
            wakes.append(until)
    return Decision(tuple(actions), min(wakes, default=None), decision.ended)


def _held(view: View, trial: str) -> float | None:
    """Until when what failed is not tried again; None: it may be tried now."""
    failed = view.memory.failures.get(trial)
    return failed.until if failed is not None and failed.until > view.now else None


def _run(view: View, pod: Pod, known: Group) -> Decision:
    memory = view.memory
    sandbox = known.sandbox
    actions: list[Action] = [Remove(s.id) for s in known.sandboxes if s is not sandbox]
    if sandbox is not None and sandbox.state == EXITED:
        # Its network is lost to whatever joins later: the pod begins anew, with another sandbox.
        return _replace_sandbox(view, pod, known, sandbox)
    if not memory.prepared:
        return Decision((*actions, Prepare()))
    generation = _generation(view, known)
    wakes: list[float] = []
    if sandbox is None:
        actions.append(create := CreateSandbox(generation))
        if _held(view, trial_of(create)) is not None:
            return Decision(tuple(actions))  # a container for a sandbox that may never come would have to go again
    elif sandbox.id not in memory.connected:
        actions.append(StartSandbox(sandbox.id))
    ready = sandbox is not None and sandbox.id in memory.connected
    wanted = _wanted(pod, known, generation)
    actions += _of_older_sandboxes(pod, known, generation)
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        found = known.containers.get(container.name, ())
        actions += _tidy(found)
        leaving = any(f.labels.generation != generation and f.state != EXITED for f in found)
        if container.name in wanted and not leaving:
            step, wake = _container(view, pod, container, found[-1] if found else None, generation, ready=ready)
            actions += step
            wakes += [wake] if wake is not None else []
    actions += _strangers(pod, known)
    return Decision(tuple(actions), min(wakes, default=None))


def _generation(view: View, known: Group) -> int:
    """Of the sandbox that is there or being created; else a new one, that no container belongs to: one whose sandbox
    vanished is not joined by what is left of it.

    A container may be created before its sandbox is: it is not left of one that vanished.
    """
    if known.sandbox is not None:
        return known.sandbox.labels.generation
    for key in view.memory.working:
        if key.startswith("sandbox "):
            return int(key.removeprefix("sandbox "))
    return max((f.labels.generation + 1 for f in known.all()), default=0)


def _wanted(pod: Pod, known: Group, generation: int) -> set[str]:
    """Names of the containers whose turn it is: init containers one by one, then all others."""
    if initialized(pod, known):
        return {c.name for c in pod.spec.containers}
    for container in pod.spec.init_containers:
        newest = known.newest(container.name)
        if newest is None or not succeeded(newest) or newest.labels.generation != generation:
            return {container.name}
    return set()


def _container(
    view: View, pod: Pod, container: Container, found: Fact | None, generation: int, *, ready: bool
) -> tuple[list[Action], float | None]:
    memory, name = view.memory, container.name
    if found is not None and found.state == RUNNING:
        if _changed(pod, container, found):
            return [Stop(found.id, grace(pod), name, "ContainerChanged")], None
        return [], None
    if found is not None and found.state == CREATED:
        return ([StartContainer(found.id, name)] if ready else []), None
    if found is not None:
        rerun = found.labels.generation != generation and name in {c.name for c in pod.spec.init_containers}
        again = init_restarts(pod) if name in {c.name for c in pod.spec.init_containers} else restarts(pod, found)
        if not rerun and not again:
            return [], None
        at = memory.ended.get(found.id, -math.inf) + pause_s(found)
        if at > view.now and not rerun and not _changed(pod, container, found):
            return [], at
    if name not in memory.images:
        return [GetImage(name)], None
    attempt = found.labels.attempt + 1 if found is not None else 0
    failures = failures_after(found) if found is not None else 0
    return [CreateContainer(name, attempt, failures, generation)], None


def _changed(pod: Pod, container: Container, found: Fact) -> bool:
    """The image is all of a container that may be changed; a pod that never restarts is left as it is."""
    return found.image not in {"", container.image} and pod.spec.restart_policy != "Never"


def _of_older_sandboxes(pod: Pod, known: Group, generation: int) -> list[Action]:
    """A container outlives the sandbox it joined; a pod whose sandbox vanished begins anew, and it must go."""
    actions: list[Action] = []
    for fact in known.all():
        if fact.labels.generation != generation:
            if fact.state == RUNNING:
                actions.append(Stop(fact.id, min(grace(pod), SANDBOX_GRACE_S), fact.labels.container, "SandboxChanged"))
            elif fact.state == CREATED:
                actions.append(Remove(fact.id))
    return actions


def _tidy(found: tuple[Fact, ...]) -> list[Action]:
    """Of one name the newest stays, and the one that ended before it, for `logs --previous`."""
    if len(found) < 2:
        return []
    *older, _newest = found
    keep = older[-1] if older[-1].state == EXITED and found[-1].state != EXITED else None
    return [Remove(f.id) for f in older if f is not keep]


def _strangers(pod: Pod, known: Group) -> list[Action]:
    """Containers under names that the pod does not have (it was replaced under one uid: that cannot be, but may)."""
    names = {c.name for c in (*pod.spec.init_containers, *pod.spec.containers)}
    return [Remove(f.id) for f in known.all() if f.labels.container not in names]


def _replace_sandbox(view: View, pod: Pod, known: Group, sandbox: Fact) -> Decision:
    """What runs is stopped, then the dead sandbox goes, and with it the next decision makes a new one."""
    running = [f for f in known.all() if f.state == RUNNING]
    if running:
        return Decision(
            tuple(Stop(f.id, min(grace(pod), SANDBOX_GRACE_S), f.labels.container, "SandboxChanged") for f in running)
        )
    unused = [Remove(f.id) for f in known.all() if f.state == CREATED]
    if any(key.startswith(("create ", "start ")) for key in view.memory.working):
        return Decision()
    if (until := _held(view, "sandbox")) is not None:  # the next one would be tried at once
        return Decision(tuple(unused), until)
    return Decision((*unused, Remove(sandbox.id)))


def _rest(view: View, known: Group) -> Decision:
    """A pod that is finished keeps its containers for their logs; sandbox, address and volumes are given back."""
    running = [f for f in known.all() if f.state == RUNNING]
    if running:
        return Decision(tuple(Stop(f.id, SANDBOX_GRACE_S, f.labels.container) for f in running))
    tidy = [a for found in known.containers.values() for a in _tidy(found)]
    unused = [Remove(f.id) for f in known.all() if f.state == CREATED]
    actions = (*(Remove(s.id) for s in known.sandboxes), *tidy, *(u for u in unused if u not in tidy))
    return Decision(actions if actions or view.memory.released else (Release(),))


def _delete(view: View, pod: Pod, known: Group) -> Decision:
    since = view.memory.deleted_seen or view.now
    if not view.drained and view.now < since + DRAIN_S and any(f.state == RUNNING for f in known.all()):
        return Decision((), since + DRAIN_S)
    return _end(view, known, grace(pod))


def grace(pod: Pod) -> int:
    said = pod.metadata.deletion_grace_period_seconds
    if said is None:
        said = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE_S if said is None else said


def _end(view: View, known: Group, grace_s: int) -> Decision:
    """Containers first, then the sandbox beneath them, then what lay beneath both."""
    running = [f for f in known.all() if f.state == RUNNING]
    kill_at = view.memory.kill_at
    if running and grace_s > 0 and (not kill_at or view.now < kill_at):
        return Decision(tuple(Stop(f.id, grace_s, f.labels.container, "Killing") for f in running), kill_at or None)
    if view.facts:
        return Decision(tuple(Remove(f.id) for f in sorted(view.facts, key=lambda f: f.id)))
    if any(key != "ground" and not key.startswith("image ") for key in view.memory.working):
        return Decision()  # a create is under way: what comes of it must go too
    if not view.memory.released:
        return Decision((Release(),))
    return Decision(ended=True)
