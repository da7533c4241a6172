"""Which node a pod goes to: filters that say why not, and scores. Pure; the snapshot is handed in.

The rules are kube-scheduler's default plugins (SCHEDULING.md has the formulas): filters in its order, the first that
fails tells; LeastAllocated and BalancedAllocation [weight 1], spread of one owner's pods over the nodes (its default
soft constraint on the host name, maxSkew 3) [2], PreferNoSchedule taints [3]. Every node that fits is scored, the
highest total wins, of equals the first in the snapshot's order.

What a node is to an ask (a score, or -1) is kept by ask and looked at anew only for nodes whose use has changed since;
a pod that fits nowhere answers for all that ask the same, until something changes that could help.
"""

import math
from collections.abc import Callable

import msgspec

from shoal.scheduler import reasons
from shoal.scheduler.asks import (
    NETWORK_TAINT,
    NO_EXECUTE,
    NO_SCHEDULE,
    NOT_READY_TAINT,
    PREFER_NO_SCHEDULE,
    UNSCHEDULABLE_TAINT,
    Ask,
    tolerates,
)
from shoal.scheduler.snapshot import Slot, Snapshot

TAINT_WEIGHT = 3
SPREAD_WEIGHT = 2
HOSTNAME_MAX_SKEW = 3
ASKS_KEPT_MAX = 1000

Reasons = tuple[str, ...]
FITS: Reasons = ()


class Choice(msgspec.Struct, frozen=True):
    """`node` "": it fits nowhere, and `why` is the sentence."""

    node: str = ""
    why: str = ""


# --- filters: the order is the policy -------------------------------------------------------------------------------------


def not_ready(slot: Slot, ask: Ask) -> Reasons:
    """Tolerated or not: nobody there would start the pod. Only the reason is another, for a taint that it tolerates."""
    if slot.facts.ready:
        return FITS
    return (reasons.NOT_READY_THOUGH_TOLERATED if tolerates(ask.tolerations, NOT_READY_TAINT) else reasons.NOT_READY,)


def no_network(slot: Slot, ask: Ask) -> Reasons:
    """The taint that Kubernetes derives from the condition NetworkUnavailable."""
    if slot.facts.network or tolerates(ask.tolerations, NETWORK_TAINT):
        return FITS
    return (reasons.NO_NETWORK,)


def cordoned(slot: Slot, ask: Ask) -> Reasons:
    if not slot.facts.unschedulable or tolerates(ask.tolerations, UNSCHEDULABLE_TAINT):
        return FITS
    return (reasons.UNSCHEDULABLE,)


def tainted(slot: Slot, ask: Ask) -> Reasons:
    for taint in slot.facts.taints:
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not tolerates(ask.tolerations, taint):
            return (reasons.untolerated(taint.key, taint.value),)
    return FITS


def not_selected(slot: Slot, ask: Ask) -> Reasons:
    labels = slot.facts.labels
    return FITS if all(labels.get(k) == v for k, v in ask.selector) else (reasons.SELECTOR,)


def ports_taken(slot: Slot, ask: Ask) -> Reasons:
    if not ask.ports:
        return FITS
    return (reasons.PORTS,) if any(a.clashes(b) for a in ask.ports for b in slot.use.ports) else FITS


def no_room(slot: Slot, ask: Ask) -> Reasons:
    """A resource that is not asked for cannot fail."""
    facts, use = slot.facts, slot.use
    lacking: list[str] = []
    if use.pods + 1 > facts.pods:
        lacking.append(reasons.TOO_MANY_PODS)
    if ask.cpu_milli and ask.cpu_milli > facts.cpu_milli - use.cpu_milli:
        lacking.append(reasons.insufficient("cpu"))
    if ask.memory_bytes and ask.memory_bytes > facts.memory_bytes - use.memory_bytes:
        lacking.append(reasons.insufficient("memory"))
    if (
        ask.storage_bytes
        and facts.storage_bytes is not None
        and ask.storage_bytes > facts.storage_bytes - use.storage_bytes
    ):
        lacking.append(reasons.insufficient("ephemeral-storage"))
    return tuple(lacking)


FILTERS: tuple[Callable[[Slot, Ask], Reasons], ...] = (
    not_ready,
    no_network,
    cordoned,
    tainted,
    not_selected,
    ports_taken,
    no_room,
)


def why_not(slot: Slot, ask: Ask) -> Reasons:
    return next((why for check in FILTERS if (why := check(slot, ask))), FITS)


# --- scores ---------------------------------------------------------------------------------------------------------------


def resource_score(slot: Slot, ask: Ask) -> int:
    """LeastAllocated + BalancedAllocation."""
    facts, use = slot.facts, slot.use
    return _least_allocated(
        (facts.cpu_milli, use.scored_cpu_milli + ask.scored_cpu_milli),
        (facts.memory_bytes, use.scored_memory_bytes + ask.scored_memory_bytes),
    ) + _balanced(slot, ask)


def _least_allocated(*resources: tuple[int, int]) -> int:
    scores = [
        (capacity - used) * 100 // capacity if used <= capacity else 0 for capacity, used in resources if capacity
    ]
    return sum(scores) // len(scores) if scores else 0


def _balanced(slot: Slot, ask: Ask) -> int:
    if not ask.cpu_milli and not ask.memory_bytes:
        return 0
    facts, use = slot.facts, slot.use
    cpu = min(1.0, (use.cpu_milli + ask.cpu_milli) / facts.cpu_milli) if facts.cpu_milli else 1.0
    memory = min(1.0, (use.memory_bytes + ask.memory_bytes) / facts.memory_bytes) if facts.memory_bytes else 1.0
    return int((1 - abs((cpu - memory) / 2)) * 100)


def disliked_taints(slot: Slot, ask: Ask) -> int:
    """Untolerated PreferNoSchedule taints."""
    return sum(t.effect == PREFER_NO_SCHEDULE and not tolerates(ask.tolerations, t) for t in slot.facts.taints)


def taint_scores(counts: set[int]) -> dict[int, int]:
    """The weighted score of a node by how many such taints it has; `counts`: what the feasible nodes have."""
    most = max(counts)
    return {n: TAINT_WEIGHT * (100 - 100 * n // most if most else 100) for n in counts}


def spread_scores(counts: set[int], feasible: int) -> dict[int, int]:
    """The weighted score of a node by how many pods of the owner it has; `counts`: what the feasible nodes have."""
    weight = math.log(feasible + 2)
    raw = {n: int(n * weight + HOSTNAME_MAX_SKEW - 1 + 0.5) for n in counts}  # half rounds up
    most, least = max(raw.values()), min(raw.values())
    return {n: SPREAD_WEIGHT * (100 * (most + least - r) // most if most else 100) for n, r in raw.items()}


# --- choosing ---------------------------------------------------------------------------------------------------------------


class _Judged:
    """What every node is to one ask. `local[i]` is a score, or -1 where it does not fit."""

    __slots__ = ("cursor", "feasible", "hope", "layout", "local", "taints", "why")

    def __init__(self) -> None:
        self.layout = -1
        self.cursor = 0
        self.local: list[int] = []
        self.taints: dict[int, int] = {}
        self.feasible = 0
        self.hope = -1
        self.why = ""


class Placer:
    """Chooses nodes upon one snapshot. Whoever takes the choice notes it there (`assume`) before the next."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._judged: dict[Ask, _Judged] = {}

    def place(self, ask: Ask, owner: str = "") -> Choice:
        judged = self._judged.pop(ask, None) or _Judged()
        self._judged[ask] = judged  # the least recently used come first
        if len(self._judged) > ASKS_KEPT_MAX:
            del self._judged[next(iter(self._judged))]
        if judged.hope == self._snapshot.hope:
            return Choice(why=judged.why)
        self._refresh(judged, ask)
        if not judged.feasible:
            judged.hope = self._snapshot.hope
            judged.why = reasons.sentence(why_not(slot, ask) for slot in self._snapshot.nodes)
            return Choice(why=judged.why)
        return Choice(node=self._snapshot.nodes[self._best(judged, owner)].facts.name)

    def _refresh(self, judged: _Judged, ask: Ask) -> None:
        snapshot = self._snapshot
        if judged.layout != snapshot.layout:
            judged.layout, judged.local, judged.taints = snapshot.layout, [-1] * len(snapshot.nodes), {}
            judged.feasible = 0
            stale = set(range(len(snapshot.nodes)))
        else:
            stale = set(snapshot.log[judged.cursor :])
        judged.cursor = len(snapshot.log)
        for index in stale:
            slot = snapshot.nodes[index]
            score = -1 if why_not(slot, ask) else resource_score(slot, ask)
            judged.feasible += (score >= 0) - (judged.local[index] >= 0)
            judged.local[index] = score
            if any(t.effect == PREFER_NO_SCHEDULE for t in slot.facts.taints):
                judged.taints[index] = disliked_taints(slot, ask)
            else:
                judged.taints.pop(index, None)

    def _best(self, judged: _Judged, owner: str) -> int:
        local = judged.local
        pods = self._snapshot.owner_counts(owner) if owner else {}
        if not pods and not judged.taints:
            return local.index(max(local))  # the other scores are equal everywhere
        spread = spread_scores(_among(pods, judged), judged.feasible)
        taint = taint_scores(_among(judged.taints, judged))
        best, best_total = -1, -1
        for index, score in enumerate(local):
            if score < 0:
                continue
            total = score + spread[pods.get(index, 0)] + taint[judged.taints.get(index, 0)]
            if total > best_total:
                best, best_total = index, total
        return best


def _among(counts: dict[int, int], judged: _Judged) -> set[int]:
    """The values that feasible nodes have; a node that is not named has 0."""
    values = [n for index, n in counts.items() if judged.local[index] >= 0]
    return {*values, 0} if len(values) < judged.feasible else set(values)
