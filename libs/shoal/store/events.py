"""Events (v1 Event objects): one message a subject in a stream of their own, the newest, kept an hour.

The subject names the object, who tells and the reason; so the same thing told again replaces its message, and counts.
An event is a note for people: it is published at most once, nothing waits for it and nothing is decided by it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import ShoalError
from shoal.model.event import Event, EventSource, ObjectReference
from shoal.model.meta import ObjectMeta
from shoal.model.registry import by_resource
from shoal.names import ObjectKey
from shoal.store.consumers import events_source
from shoal.store.reads import read_one

NORMAL, WARNING = "Normal", "Warning"
MESSAGE_MAX = 1024
REASON_MAX = 128
REMEMBERED = 4096
COUNT_MAX = 2**31 - 1
DEFAULT_NAMESPACE = "default"  # where Kubernetes keeps events about objects without a namespace


def make(
    key: ObjectKey,
    uid: str,
    type_: str,
    reason: str,
    message: str,
    *,
    reporter: str,
    host: str = "",
    first: str,
    last: str,
    count: int = 1,
) -> Event:
    """Times are RFC 3339. `reporter`: the process that tells (`scheduler`); `host`: the node it told it on, if any.

    The name is derived from the object, the reporter and the reason: told again, it is the same event.
    """
    try:
        kind = by_resource(key.resource)
        api_version, kind_name = kind.api_version, kind.kind
    except ShoalError:  # what is no object: a published message
        api_version, kind_name = "", key.resource.removesuffix("s").capitalize()
    digest = hashlib.blake2b(f"{key}|{uid}|{reporter}|{host}|{reason}".encode(), digest_size=8).hexdigest()
    return Event(
        metadata=ObjectMeta(
            name=f"{key.name}.{digest}",
            namespace=key.namespace or DEFAULT_NAMESPACE,
            uid=f"{digest[:8]}-{digest[8:12]}-{digest[12:]}",
            creation_timestamp=first,
        ),
        involved_object=ObjectReference(
            kind=kind_name, api_version=api_version, namespace=key.namespace, name=key.name, uid=uid
        ),
        type=type_ if type_ in (NORMAL, WARNING) else NORMAL,
        reason=reason[:REASON_MAX],
        message=message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…",
        source=EventSource(component=reporter, host=host),
        reporting_component=reporter,
        reporting_instance=host,
        first_timestamp=first,
        last_timestamp=last,
        count=max(count, 1),
    )


def succeeding(before: Event | None, event: Event) -> Event:
    """The event in the place of the one told before: of the same object it goes on counting, from the same first time.

    Told with the first time of the one before, its reporter counts itself, and its count stands; told again exactly (its
    acknowledgement was lost) it is the same event.
    """
    if before is None or before.involved_object.uid != event.involved_object.uid:
        return event
    if (before.last_timestamp, before.message) == (event.last_timestamp, event.message):
        count = max(before.count, event.count)
    elif before.first_timestamp == event.first_timestamp:
        count = event.count
    else:
        count = before.count + event.count
    return msgspec.structs.replace(
        event,
        metadata=msgspec.structs.replace(event.metadata, creation_timestamp=before.metadata.creation_timestamp),
        first_timestamp=before.first_timestamp,
        count=min(count, COUNT_MAX),
    )


async def told_before(bus: Bus, subject: str) -> Event | None:
    """The event that is stored under a subject: whoever told it. Raises: Unavailable."""
    entry = await read_one(bus, events_source(bus.names), subject)
    try:
        return msgspec.json.decode(entry.value, type=Event) if entry is not None and entry.value else None
    except msgspec.MsgspecError:
        return None


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
        self._told: OrderedDict[tuple[ObjectKey, str], _Told] = OrderedDict()

    async def emit(
        self, key: ObjectKey, uid: str, type_: str, reason: str, message: str, *, traceparent: str = ""
    ) -> None:
        """Never raises for what is only a note: while NATS is away it is lost."""
        now = self._now()
        told = self._told.pop((key, reason), None)
        if told is None or told.uid != uid:
            told = await self._before(key, uid, reason, now)
        told.count += 1
        self._told[(key, reason)] = told
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        event = make(
            key, uid, type_, reason, message, reporter=self.reporter, first=told.first, last=now, count=told.count
        )
        await publish(self._bus, key, event, reporter=self.reporter, traceparent=traceparent)

    async def _before(self, key: ObjectKey, uid: str, reason: str, now: str) -> _Told:
        with suppress(ShoalError, ValueError):
            before = await told_before(self._bus, self._bus.names.event(key, self.reporter, reason))
            if before is not None and before.involved_object.uid == uid:
                return _Told(uid, before.first_timestamp or now, min(before.count, COUNT_MAX - 1))
        return _Told(uid, now, 0)


async def publish(bus: Bus, key: ObjectKey, event: Event, *, reporter: str, traceparent: str = "") -> None:
    """`reporter`: the token of the subject; a node's name for what a node told."""
    with suppress(ShoalError, ValueError):
        await bus.publish(
            bus.names.event(key, reporter, event.reason), msgspec.json.encode(event), traceparent=traceparent
        )
