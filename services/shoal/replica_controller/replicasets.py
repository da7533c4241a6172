"""ReplicaSets: so many pods of one template. Adopt, release, create, delete, and say what there is.

The rules are Kubernetes' (pkg/controller/replicaset, controller_utils.go). A pod that has finished or is being deleted
does not count, and is replaced. Names and uids derive from the owner's uid and a stored counter that is advanced in the
same unit: a repeat after a lost acknowledgement collides instead of doubling. The status told is the one after the
unit, so that one look settles.
"""

import hashlib
import math
import uuid
from collections import Counter
from collections.abc import Iterable

import msgspec

from shoal.controller.actions import (
    NOTHING,
    Action,
    Create,
    Decision,
    Emit,
    Replace,
    SetStatus,
    Trace,
    controller_of,
    finished,
    mark_deleted,
    rfc3339,
    unix_seconds,
    with_metadata,
)
from shoal.model.meta import LabelSelector, Object, ObjectMeta, OwnerReference
from shoal.model.pod import Pod
from shoal.model.replicaset import ReplicaSet
from shoal.model.selectors import matches
from shoal.names import CONTROL_PLANE, PODS, ObjectKey, desired_of, observed_of
from shoal.store.stored import Observed, Stored
from shoal.store.view import View

REPLICASETS = "replicasets"
CREATE_MAX = 300  # pods a unit: with what else is in it well below a batch's 999
DELETE_MAX = 300
CLAIM_MAX = 300
NAME_BASE_MAX = 58  # and five characters make 63, as Kubernetes' generated names
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words (apimachinery, util/rand)
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
# Pods that fail as soon as they are made (a node refuses them) are made anew ever more slowly.
FAILURES_FREE = 10
FAILURE_WINDOW_S = 600.0
FAILURE_PAUSE_S = 10.0
COLLECT_MAX = 100  # finished pods a unit


class ReplicaSets:
    name = "replicasets"
    reporter = "replicaset-controller"
    filters = (desired_of(REPLICASETS), observed_of(REPLICASETS), desired_of(PODS), observed_of(PODS))

    def keys(self, touched: ObjectKey, view: View) -> Iterable[ObjectKey]:
        if touched.resource == REPLICASETS:
            return [touched]
        if touched.resource != PODS:
            return []
        found: dict[ObjectKey, None] = {}
        for stored in (view.get(touched, Pod), view.before(touched)):
            if stored is None:
                continue
            owner = controller_of(stored.object)
            if owner is not None and owner.kind == "ReplicaSet":
                found[ObjectKey(REPLICASETS, touched.namespace, owner.name)] = None
            elif owner is None:
                labels = stored.object.metadata.labels
                for candidate in view.objects(REPLICASETS, touched.namespace, type_=ReplicaSet):
                    if matches(candidate.object.spec.selector, labels):
                        found[candidate.key] = None
        return found

    def decide(self, key: ObjectKey, view: View, now: float) -> Decision:
        stored = view.get(key, ReplicaSet)
        if stored is None:
            return NOTHING
        owned = [p for p in view.by_owner(stored.uid, Pod) if _owner_uid(p) == stored.uid]
        active = [p for p in owned if is_active(p)]
        if stored.deleting:
            return Decision(_tell(stored, active, [], None, now))
        selector = stored.object.spec.selector
        mine: list[Stored[Pod]] = []
        released: list[Stored[Pod]] = []
        for pod in active:
            (mine if matches(selector, pod.object.metadata.labels) else released).append(pod)
        adopted = [p for p in view.ownerless(key.namespace) if _adoptable(p, selector)]
        left = len(released) + len(adopted) - CLAIM_MAX
        released = released[:CLAIM_MAX]
        adopted = adopted[: CLAIM_MAX - len(released)]
        claims: list[Action] = [Replace(p, _without_owner(p.object, stored.uid)) for p in released]
        claims += [Replace(p, _with_owner(p.object, stored.object)) for p in adopted]
        mine += adopted
        claims += [
            mark_deleted(p, now) for p in surplus_finished(owned, stored.object.spec.replicas or 0, now)[:COLLECT_MAX]
        ]
        if left > 0:  # what is claimed wakes us again; nothing is made or deleted before it is known what there is
            return Decision((*claims, *_tell(stored, mine, [], None, now)), _next_available_s(stored, mine, now))
        missing = (stored.object.spec.replicas or 0) - len(mine)
        if missing > 0:
            return _scale_up(stored, mine, owned, claims, missing, view, now)
        if missing < 0:
            return _scale_down(stored, mine, claims, -missing, now)
        return Decision((*claims, *_tell(stored, mine, [], None, now)), _next_available_s(stored, mine, now))


def is_active(pod: Stored[Pod]) -> bool:
    return not pod.deleting and not finished(pod.object)


def _owner_uid(pod: Stored[Pod]) -> str:
    owner = controller_of(pod.object)
    return owner.uid if owner is not None else ""


def _adoptable(pod: Stored[Pod], selector: LabelSelector) -> bool:
    return is_active(pod) and matches(selector, pod.object.metadata.labels)


# --- claims -----------------------------------------------------------------------------------------------------------------


def _reference(owner: ReplicaSet) -> OwnerReference:
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


def _with_owner(pod: Pod, owner: ReplicaSet) -> Pod:
    others = tuple(o for o in pod.metadata.owner_references if o.uid != owner.metadata.uid)
    made: Pod = with_metadata(pod, owner_references=(*others, _reference(owner)))
    return made


def _without_owner(pod: Pod, uid: str) -> Pod:
    made: Pod = with_metadata(pod, owner_references=tuple(o for o in pod.metadata.owner_references if o.uid != uid))
    return made


# --- more pods --------------------------------------------------------------------------------------------------------------


def _scale_up(
    stored: Stored[ReplicaSet],
    mine: list[Stored[Pod]],
    owned: list[Stored[Pod]],
    claims: list[Action],
    missing: int,
    view: View,
    now: float,
) -> Decision:
    if (pause_s := _pause_s(stored, owned, now)) > 0:
        return Decision((*claims, *_tell(stored, mine, [], None, now)), pause_s)
    counter = _own(stored).counter
    created: dict[str, Pod] = {}
    while len(created) < min(missing, CREATE_MAX):
        counter += 1
        name = pod_name(stored.object.metadata.name, stored.uid, counter)
        taken = name in created or view.desired_entry(ObjectKey(PODS, stored.key.namespace, name)) is not None
        if not taken:  # two counters may come to one name: five characters are not many
            created[name] = _make_pod(stored.object, name, counter, now)
    return Decision(
        (
            *claims,
            *(Create(pod) for pod in created.values()),
            *_tell(stored, mine, list(created.values()), counter, now),
            Emit(stored.key, stored.uid, "Normal", "SuccessfulCreate", _told("Created", list(created))),
        ),
        trace=_trace(stored, len(created)),
    )


def _trace(stored: Stored[ReplicaSet], created: int) -> Trace:
    """What heals begins a trace of its own, linked to the wish; what a wish asks for belongs to the wish's."""
    attributes = {"key": str(stored.key), "namespace": stored.key.namespace, "created": created}
    if _was_satisfied(stored) and stored.traceparent:
        return Trace(links=(stored.traceparent,), attributes=attributes | {"heals": True})
    return Trace(parent=stored.traceparent, attributes=attributes)


def _was_satisfied(stored: Stored[ReplicaSet]) -> bool:
    status = stored.object.status
    wanted = stored.object.spec.replicas or 0
    return status.observed_generation == stored.object.metadata.generation and status.replicas >= wanted


def _own(stored: Stored[ReplicaSet]) -> Observed:
    entry = stored.observed.get(CONTROL_PLANE)
    return entry.observed if entry is not None else Observed(uid=stored.uid)


def pod_name(owner: str, owner_uid: str, counter: int) -> str:
    digest = int.from_bytes(hashlib.blake2b(f"{owner_uid}:{counter}".encode(), digest_size=8).digest())
    suffix = ""
    for _ in range(5):
        digest, index = divmod(digest, len(NAME_ALPHABET))
        suffix += NAME_ALPHABET[index]
    return f"{owner}-"[:NAME_BASE_MAX] + suffix


def _make_pod(owner: ReplicaSet, name: str, counter: int, now: float) -> Pod:
    template = owner.spec.template
    digest = hashlib.blake2b(f"{owner.metadata.uid}:{counter}:uid".encode(), digest_size=16).digest()
    return Pod(
        metadata=ObjectMeta(
            name=name,
            generate_name=f"{owner.metadata.name}-",
            namespace=owner.metadata.namespace,
            uid=str(uuid.UUID(bytes=digest, version=4)),
            generation=1,
            creation_timestamp=rfc3339(now),
            labels=template.metadata.labels,
            annotations=template.metadata.annotations,
            finalizers=template.metadata.finalizers,
            owner_references=(_reference(owner),),
        ),
        spec=template.spec,
    )


def _pause_s(stored: Stored[ReplicaSet], owned: list[Stored[Pod]], now: float) -> float:
    """Seconds until the next pod may be made, 0 unless many have failed of late. `FAILURE_PAUSE_S` at most.

    A pod from the future was made before the clock went back: how long ago that was nobody knows, and it counts as none.
    """
    ages = [_age_s(p.object, now) for p in owned if p.object.status.phase == "Failed"]
    of_late = [age for age in ages if age is not None and 0 <= age < FAILURE_WINDOW_S]
    if len(of_late) <= _failures_free(stored.object.spec.replicas or 0):
        return 0.0
    return max(0.0, FAILURE_PAUSE_S - min(of_late))


def _failures_free(replicas: int) -> int:
    return FAILURES_FREE + 2 * replicas


def surplus_finished(owned: list[Stored[Pod]], replicas: int, now: float) -> list[Stored[Pod]]:
    """Finished pods that tell nothing any more: all but the newest, of which so many stay as pacing has to count.

    What is from the future goes first: pacing does not count it. Kubernetes keeps 12,500 in the whole cluster (podgc),
    and a set whose pods fail at once piles them up until then.
    """

    def rank(stored: Stored[Pod]) -> tuple[object, ...]:
        age = _age_s(stored.object, now)
        return age is not None and age >= 0, stored.object.metadata.creation_timestamp or "", stored.key

    ended = [p for p in owned if not p.deleting and finished(p.object)]
    ended.sort(key=rank, reverse=True)
    return ended[_failures_free(replicas) + 1 :]


# --- fewer pods -------------------------------------------------------------------------------------------------------------


def _scale_down(
    stored: Stored[ReplicaSet], mine: list[Stored[Pod]], claims: list[Action], surplus: int, now: float
) -> Decision:
    victims = rank_victims(mine, now)[: min(surplus, DELETE_MAX)]
    names = {v.key for v in victims}
    left = [p for p in mine if p.key not in names]
    claimed = {a.stored.key: a.object for a in claims if isinstance(a, Replace)}
    kept = [a for a in claims if isinstance(a, Replace) and a.stored.key not in names]
    marks = [_mark(v, claimed, now) for v in victims]
    told = _told("Deleted", [v.key.name for v in victims])
    return Decision(
        (
            *kept,
            *marks,
            *_tell(stored, left, [], None, now),
            Emit(stored.key, stored.uid, "Normal", "SuccessfulDelete", told),
        ),
        _next_available_s(stored, left, now),
    )


def _mark(victim: Stored[Pod], claimed: dict[ObjectKey, Object], now: float) -> Replace:
    """One record is written once a unit: a pod that was just adopted is adopted and marked in one."""
    mark = mark_deleted(victim, now)
    adopted = claimed.get(victim.key)
    if adopted is None:
        return mark
    references = adopted.metadata.owner_references
    return Replace(victim, with_metadata(mark.object, owner_references=references))


def rank_victims(pods: list[Stored[Pod]], now: float) -> list[Stored[Pod]]:
    """Who goes first, by Kubernetes' order (controller_utils.go, ActivePodsWithRanks).

    How long a pod has been ready, and how old it is, is compared by its power of two; between equals the uid decides, so
    that among pods of about one age it is not always the youngest that goes. One thing differs: there, of two pods whose
    ready times lie in one power and differ, the uid decides at once, and restarts are compared only of pods that became
    ready in the same second. That is no order (three pods may each go before the next in a circle); here restarts always
    come between the two.
    """
    on_node = Counter(p.object.spec.node_name for p in pods)

    def rank(stored: Stored[Pod]) -> tuple[object, ...]:
        pod = stored.object
        ready_s = _ready_for_s(pod, now)
        age_s = _age_s(pod, now)
        return (
            bool(pod.spec.node_name),
            {"Running": 2, "Unknown": 1}.get(pod.status.phase, 0),
            ready_s is not None,
            _deletion_cost(pod),
            -on_node[pod.spec.node_name],
            power_of_two(ready_s),
            -max((c.restart_count for c in pod.status.container_statuses), default=0),
            power_of_two(age_s),
            stored.uid,
        )

    return sorted(pods, key=rank)


def power_of_two(age_s: float | None) -> int:
    """Of a time in nanoseconds; -1 for none, or one in the future, and -2 where nothing is said of it."""
    if age_s is None:
        return -2
    return int(math.log2(age_s * 1e9)) if age_s > 0 else -1


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _age_s(pod: Pod, now: float) -> float | None:
    """Negative for a pod that another clock made, or this one before it went back; None if that is not said."""
    born = pod.metadata.creation_timestamp
    return now - unix_seconds(born) if born else None


def _ready_for_s(pod: Pod, now: float) -> float | None:
    """How long it has been ready, None if it is not. Its node's clock says since when: that may be ahead of ours."""
    for condition in pod.status.conditions:
        if condition.type == "Ready" and condition.status == "True":
            since = condition.last_transition_time
            return max(0.0, now - unix_seconds(since)) if since else 0.0
    return None


# --- telling ----------------------------------------------------------------------------------------------------------------


def _tell(
    stored: Stored[ReplicaSet],
    pods: list[Stored[Pod]],
    created: list[Pod],
    counter: int | None,
    now: float,
) -> tuple[Action, ...]:
    spec = stored.object.spec
    labels = spec.template.metadata.labels.items()
    ready = [s for p in pods if (s := _ready_for_s(p.object, now)) is not None]
    status = msgspec.structs.replace(
        stored.object.status,
        replicas=len(pods) + len(created),
        fully_labeled_replicas=sum(labels <= p.object.metadata.labels.items() for p in pods) + len(created),
        ready_replicas=len(ready),
        available_replicas=sum(s >= spec.min_ready_seconds for s in ready),
        observed_generation=stored.object.metadata.generation,
    )
    return (SetStatus(stored, status, observed_generation=stored.object.metadata.generation, counter=counter),)


def _next_available_s(stored: Stored[ReplicaSet], pods: list[Stored[Pod]], now: float) -> float | None:
    """When the next ready pod has been ready for long enough: nothing else would tell."""
    least = stored.object.spec.min_ready_seconds
    if not least:
        return None
    waits = [least - s for p in pods if (s := _ready_for_s(p.object, now)) is not None and s < least]
    return min(waits, default=None)


def _told(what: str, names: list[str]) -> str:
    return (
        f"{what} pod: {names[0]}"
        if len(names) == 1
        else f"{what} {len(names)} pods: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "")
    )
