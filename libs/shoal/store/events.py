"""Events (v1 Event objects): one message a subject in a stream of their own, the newest, kept an hour.

The subject names the object, who tells, the reason and, by a digest, what is told (`note`): the same thing told again
replaces its message, and counts. Messages that vary without end make no events without end (`place`).
An event is a note for people: it is published at most once, nothing waits for it and nothing is decided by it.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import ShoalError
from shoal.model.event import Event, EventSource, ObjectReference
from shoal.model.meta import ObjectMeta
from shoal.model.registry import by_resource
from shoal.names import ObjectKey, untoken
from shoal.store.consumers import events_source
from shoal.store.reads import read_last

NORMAL, WARNING = "Normal", "Warning"
MESSAGE_MAX = 1024
REASON_MAX = 128
REMEMBERED = 4096
COUNT_MAX = 2**31 - 1
NOTES_MAX = 10  # of one reason about one object (as client-go's correlator aggregates); the others share one event
COMBINED = ""  # the note of what they share
DEFAULT_NAMESPACE = "default"  # where Kubernetes keeps events about objects without a namespace

_VARYING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]*[0-9][0-9a-f]*")  # uids, ids, numbers


def note(field_path: str, message: str) -> str:
    """What tells apart the events of one reason: the part of the object, and the message but for numbers and ids."""
    told = f"{field_path}|{_VARYING.sub('0', message)}"
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()


def make(
    key: ObjectKey,
    uid: str,
    type_: str,
    reason: str,
    message: str,
    *,
    field_path: str = "",
    reporter: str,
    host: str = "",
    first: str,
    last: str,
    count: int = 1,
) -> Event:
    """Times are RFC 3339. `reporter`: the process that tells (`scheduler`); `host`: the node it told it on, if any;
    `field_path`: the part of the object that it is about (`spec.containers{web}`).

    The name is derived from the object, the reporter, the reason and the note: told again, it is the same event.
    """
    try:
        kind = by_resource(key.resource)
        api_version, kind_name = kind.api_version, kind.kind
    except ShoalError:  # what is no object: a published message
        api_version, kind_name = "", key.resource.removesuffix("s").capitalize()
    message = _cut(message)
    name, event_uid = _identity(key, uid, reporter, host, reason, note(field_path, message))
    return Event(
        metadata=ObjectMeta(
            name=name,
            namespace=key.namespace or DEFAULT_NAMESPACE,
            uid=event_uid,
            creation_timestamp=first,
        ),
        involved_object=ObjectReference(
            kind=kind_name,
            api_version=api_version,
            namespace=key.namespace,
            name=key.name,
            uid=uid,
            field_path=field_path,
        ),
        type=type_ if type_ in (NORMAL, WARNING) else NORMAL,
        reason=reason[:REASON_MAX],
        message=message,
        source=EventSource(component=reporter, host=host),
        reporting_component=reporter,
        reporting_instance=host,
        first_timestamp=first,
        last_timestamp=last,
        count=max(count, 1),
    )


def _identity(key: ObjectKey, uid: str, reporter: str, host: str, reason: str, told: str) -> tuple[str, str]:
    """Name and uid of an event: the same for the same thing told again."""
    what = f"{key}|{uid}|{reporter}|{host}|{reason}|{told}"
    digest = hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
    return f"{key.name}.{digest}", f"{digest[:8]}-{digest[8:12]}-{digest[12:]}"


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"


def place(told: Collection[str], key: ObjectKey, event: Event) -> tuple[str, Event]:
    """Under which note an event goes beside those that were told for its reason: its own while there are few, else the
    shared one, in the words of client-go's correlator.
    """
    own = note(event.involved_object.field_path, event.message)
    if own in told or len(set(told) - {COMBINED}) < NOTES_MAX:
        return own, event
    by = event.source
    name, uid = _identity(key, event.involved_object.uid, by.component, by.host, event.reason, COMBINED)
    return COMBINED, msgspec.structs.replace(
        event,
        metadata=msgspec.structs.replace(event.metadata, name=name, uid=uid),
        message=_cut(f"(combined from similar events): {event.message}"),
    )


def succeeding(before: Event | None, event: Event) -> Event:
    """The event in the place of the one told before: of the same object it goes on counting, from the same first time.

    Told with the first time of the one before and a higher count, its reporter counts itself, and its count stands; told
    again exactly (its acknowledgement was lost) it is the same event.
    """
    if before is None or before.involved_object.uid != event.involved_object.uid:
        return event
    if (before.last_timestamp, before.message) == (event.last_timestamp, event.message):
        count = max(before.count, event.count)
    elif before.first_timestamp == event.first_timestamp and event.count > before.count:
        count = event.count
    else:
        count = before.count + event.count
    return msgspec.structs.replace(
        event,
        metadata=msgspec.structs.replace(event.metadata, creation_timestamp=before.metadata.creation_timestamp),
        first_timestamp=before.first_timestamp,
        count=min(count, COUNT_MAX),
    )


async def told_before(bus: Bus, key: ObjectKey, reporter: str, reason: str) -> dict[str, Event]:
    """What is stored of what a reporter told of an object for one reason, by note. Raises: Unavailable."""
    stored, _ = await read_last(bus, events_source(bus.names), [bus.names.events_for(key, reporter, reason)])
    found = {}
    for subject, item in stored.items():
        with suppress(msgspec.MsgspecError):
            found[untoken(subject.rpartition(".")[2])] = msgspec.json.decode(item.entry.value or b"", type=Event)
    return found


async def tell(bus: Bus, key: ObjectKey, reporter: str, where: str, event: Event, traceparent: str = "") -> None:
    """Publish an event under its note, acknowledged by nobody. Raises: Unavailable, ValueError for what is no name."""
    await bus.publish(bus.names.event(key, reporter, event.reason, where), event, traceparent=traceparent)


class _Told(msgspec.Struct):
    uid: str
    first: str
    count: int


class Emitter:
    """Tells events in one process's name; `now` gives RFC 3339. Counts what this process told, and goes on from what
    the one before it told.
    """

    def __init__(self, bus: Bus, *, reporter: str, now: Callable[[], str]) -> None:
        self.reporter = reporter
        self._bus = bus
        self._now = now
        self._told: OrderedDict[tuple[ObjectKey, str], dict[str, _Told]] = OrderedDict()  # by note

    async def emit(
        self, key: ObjectKey, uid: str, type_: str, reason: str, message: str, *, traceparent: str = ""
    ) -> None:
        """Never raises for what is only a note: while NATS is away it is lost."""
        now = self._now()
        told = self._told.pop((key, reason), None)
        if told is None:
            told = await self._before(key, reason)
        self._told[(key, reason)] = told
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        event = make(key, uid, type_, reason, message, reporter=self.reporter, first=now, last=now)
        where, event = place(told, key, event)
        mine = told.get(where)
        if mine is None or mine.uid != uid:
            mine = told[where] = _Told(uid, now, 0)
        mine.count = min(mine.count + 1, COUNT_MAX)
        metadata = msgspec.structs.replace(event.metadata, creation_timestamp=mine.first)
        event = msgspec.structs.replace(event, metadata=metadata, first_timestamp=mine.first, count=mine.count)
        with suppress(ShoalError, ValueError):
            await tell(self._bus, key, self.reporter, where, event, traceparent)

    async def _before(self, key: ObjectKey, reason: str) -> dict[str, _Told]:
        with suppress(ShoalError, ValueError):
            before = await told_before(self._bus, key, self.reporter, reason)
            return {
                where: _Told(event.involved_object.uid, event.first_timestamp or self._now(), event.count)
                for where, event in before.items()
            }
        return {}
