"""What a controller may decide, as values, and their translation into changes of the bucket. Pure.

    decide(key, view, now) ──▶ Decision(actions) ──changes()──▶ Put / Delete, one atomic unit ──▶ Store.commit

A write that changes nothing is left out. Every write carries the revision of the entry in the view it was decided on, so
that whoever wrote in between is never overwritten. In a unit desired entries come first, copies last: a reader that
takes entries one by one never shows half an object.
"""

import datetime as dt
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from shoal.model.meta import Object, OwnerReference
from shoal.model.pod import DEFAULT_GRACE_S, Pod
from shoal.model.registry import encode, key_of
from shoal.names import CONTROL_PLANE, PODS, ObjectKey, bound, desired, observed
from shoal.store.records import Change, Delete, Put
from shoal.store.stored import Observed, Stored, decode_observed
from shoal.store.view import View


class Create(msgspec.Struct, frozen=True):
    """A new object; a name that is taken makes the unit a Conflict."""

    object: Object


class Replace(msgspec.Struct, frozen=True):
    """The desired record of `stored` becomes `object`. The trace of the wish stays with it."""

    stored: Stored[Any]
    object: Object


class SetStatus(msgspec.Struct, frozen=True):
    """The control plane's own observed entry of `stored`: status as a whole. None keeps what is there."""

    stored: Stored[Any]
    status: msgspec.Struct | None = None
    observed_generation: int | None = None
    counter: int | None = None


class Remove(msgspec.Struct, frozen=True):
    """Erases the object: its desired entry, then every observed entry and every copy, in one unit."""

    key: ObjectKey


class WriteEntry(msgspec.Struct, frozen=True):
    """`expected`: revision, 0 = must not exist. `ttl_s`: the server removes it by itself then."""

    key: str
    value: bytes
    expected: int
    traceparent: str = ""
    ttl_s: int = 0


class EraseEntry(msgspec.Struct, frozen=True):
    key: str
    expected: int


class Emit(msgspec.Struct, frozen=True):
    """An event about an object. `type`: Normal or Warning. Published after the unit is committed, never part of it."""

    key: ObjectKey
    uid: str
    type: str
    reason: str
    message: str


Action = Create | Replace | SetStatus | Remove | WriteEntry | EraseEntry | Emit


class Absent(msgspec.Struct, frozen=True):
    """To be confirmed by a read before the unit is sent: no desired entry of this key with this uid ("" = any)."""

    key: ObjectKey
    uid: str = ""


class NoEntry(msgspec.Struct, frozen=True):
    """To be confirmed by a read before the unit is sent: nothing under this very key of the bucket."""

    entry: str


class Empty(msgspec.Struct, frozen=True):
    """To be confirmed by a list before the unit is sent: nothing under this filter."""

    filter: str


Confirm = Absent | NoEntry | Empty


class Trace(msgspec.Struct, frozen=True):
    """The span around a unit. `parent` "" begins a trace of its own; `links` name the wishes it belongs to."""

    name: str = "reconcile"
    parent: str = ""
    links: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = {}


class Decision(msgspec.Struct, frozen=True):
    """`actions` are one atomic unit. `requeue_after_s`: look again then, whatever happens in between.

    With a `trace` the unit's Replace and WriteEntry carry that span, and each created object one of its own below it.
    """

    actions: tuple[Action, ...] = ()
    requeue_after_s: float | None = None
    confirm: tuple[Confirm, ...] = ()
    trace: Trace | None = None


NOTHING = Decision()


class Tracer(Protocol):
    """Hands out the traceparent for what one action writes."""

    def created(self, key: ObjectKey) -> str: ...
    def changed(self, known: str) -> str: ...


class NoTrace:
    """Objects keep the trace they have."""

    def created(self, _key: ObjectKey) -> str:
        return ""

    def changed(self, known: str) -> str:
        return known


def changes(actions: Iterable[Action], view: View, trace: Tracer | None = None) -> list[Change]:
    """The writes of a unit, in the order that readers need, without those that change nothing."""
    tracer = trace or NoTrace()
    ranked: list[tuple[int, Change]] = []
    for action in actions:
        ranked += [(_rank(change.key), change) for change in _translate(action, view, tracer)]
    ranked.sort(key=lambda pair: pair[0])
    return [change for _, change in ranked]


def _rank(key: str) -> int:
    part = key.partition(".")[0]
    return {"desired": 0, "observed": 1}.get(part, 2)


def _translate(action: Action, view: View, tracer: Tracer) -> list[Change]:
    match action:
        case Create(object=obj):
            key = key_of(obj)
            return [Put(desired(key), encode(obj), 0, tracer.created(key))]
        case Replace(stored=stored, object=obj):
            value = encode(obj)
            if value == stored.value:
                return []
            return [Put(desired(stored.key), value, stored.revision, tracer.changed(stored.traceparent))]
        case SetStatus():
            return _observed_put(action, view)
        case Remove(key=key):
            return _removal(key, view)
        case WriteEntry(key=name, value=value, expected=expected, traceparent=traceparent, ttl_s=ttl_s):
            known = view.entry(name)
            if known is not None and known.value == value and known.revision == expected and not ttl_s:
                return []
            return [Put(name, value, expected, tracer.changed(traceparent), ttl_s)]
        case EraseEntry(key=name, expected=expected):
            return [Delete(name, expected)]
        case Emit():
            return []


def _observed_put(action: SetStatus, view: View) -> list[Change]:
    """The entry may still be a predecessor's of the same name: then nothing of it is kept but its revision."""
    stored = action.stored
    entry = view.observed_entries(stored.key).get(CONTROL_PLANE)
    current = Observed(uid=stored.uid)
    if entry is not None and entry.value:
        known = decode_observed(entry.value)
        current = known if known.uid == stored.uid else current
    updated = Observed(
        uid=stored.uid,
        observed_generation=_or(action.observed_generation, current.observed_generation),
        counter=_or(action.counter, current.counter),
        gone=current.gone,
        status=current.status if action.status is None else msgspec.Raw(_encoder.encode(action.status)),
    )
    value = _encoder.encode(updated)
    if entry is not None and entry.value == value:
        return []
    expected = entry.revision if entry is not None else 0
    return [Put(observed(CONTROL_PLANE, stored.key), value, expected)]


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


_encoder = msgspec.json.Encoder(order="deterministic")


def _removal(key: ObjectKey, view: View) -> list[Change]:
    entry = view.desired_entry(key)
    gone: list[Change] = [] if entry is None else [Delete(entry.key, entry.revision)]
    gone += [Delete(observed(w, key), e.revision) for w, e in sorted(view.observed_entries(key).items())]
    gone += [Delete(bound(n, key), e.revision) for n, e in sorted(view.bound_entries(key).items())]
    return gone


# --- small words that several controllers use -----------------------------------------------------------------------------


def rfc3339(now: float) -> str:
    """Unix seconds as Kubernetes writes times: UTC, whole seconds."""
    return _rfc3339(int(now // 1))


@functools.lru_cache(maxsize=64)
def _rfc3339(now: int) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=8192)
def unix_seconds(time: str) -> float:
    """The reverse. Raises: ValueError."""
    return dt.datetime.fromisoformat(time).timestamp()


def with_metadata(obj: Any, **changed: Any) -> Any:
    """The object with fields of its metadata replaced."""
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, **changed))


def mark_deleted(stored: Stored[Any], now: float, *, finalizers: tuple[str, ...] = ()) -> Replace:
    """The first phase of deletion. `finalizers` are added to those that are there."""
    obj = stored.object
    added = tuple(f for f in finalizers if f not in obj.metadata.finalizers)
    grace = grace_s(obj) if stored.key.resource == PODS else 0
    return Replace(stored, marked(obj, (*obj.metadata.finalizers, *added), grace, rfc3339(now)))


def marked(obj: Object, finalizers: tuple[str, ...], grace: int, now: str) -> Object:
    """With its end: deletionTimestamp is when the grace (s) is over, and the generation goes up, as in Kubernetes.

    A grace period that is running can be shortened, never lengthened; the finalizers can still be changed.
    """
    meta = obj.metadata
    timestamp, seconds, generation = meta.deletion_timestamp, meta.deletion_grace_period_seconds, meta.generation
    if timestamp is None:
        timestamp, seconds = rfc3339(unix_seconds(now) + grace), grace
        generation += 1 if generation else 0  # what has a spec: its end is wanted now
    elif grace < (seconds or 0):
        timestamp, seconds = rfc3339(unix_seconds(timestamp) + grace - (seconds or 0)), grace
    made = msgspec.structs.replace(
        meta,
        finalizers=finalizers,
        deletion_timestamp=timestamp,
        deletion_grace_period_seconds=seconds or 0,
        generation=generation,
    )
    return obj if made == meta else msgspec.structs.replace(obj, metadata=made)


def grace_s(pod: Any, asked: int | None = None) -> int:
    """The pod's own, unless another is asked for; 0 where nothing runs (no node has it, or it has finished)."""
    if not pod.spec.node_name or finished(pod):
        return 0
    if asked is None and (running := pod.metadata.deletion_grace_period_seconds) is not None:
        return int(running)
    own = pod.spec.termination_grace_period_seconds
    return max(asked if asked is not None else DEFAULT_GRACE_S if own is None else own, 0)


def finished(pod: Pod) -> bool:
    """It will never run again."""
    return pod.status.phase in ("Succeeded", "Failed")


def controller_of(obj: Object) -> OwnerReference | None:
    return next((o for o in obj.metadata.owner_references if o.controller), None)
