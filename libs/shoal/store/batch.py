"""How changes become messages: one compare-and-set put, or one atomic batch behind its leader's fence.

An entry of a batch carries `Nats-Batch-Id`, its place (from 1) and what revision its key must have; the last commits.
The first and the last message are requests: the first is answered empty, or with the reason why there is no batch; the
last with the acknowledgement, whose sequence is that of the last entry: entry i of k has `seq - k + i`.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from shoal import names as n
from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import BadRequest, TooLarge, Unavailable
from shoal.store.reads import Source
from shoal.store.records import BATCH_MAX, MARKER_TTL_S, OBJECT_BYTES_MAX, Change, Delete, Fence, Put

BATCH_BYTES_MAX = 8 << 20  # beyond this a batch takes up no further unit (one unit alone may be larger)
ACK_TIMEOUT_S = 5.0
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")


class Unit:
    """One caller's changes: all of them stand, or none. `result`: their revisions."""

    def __init__(
        self, changes: Sequence[Change], fence: Fence | None, result: "asyncio.Future[tuple[int, ...]]"
    ) -> None:
        self.changes = changes
        self.fence = fence
        self.result = result
        self.keys = frozenset(c.key for c in changes)
        self.bytes = sum(len(c.value) for c in changes if isinstance(c, Put))

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)

    def succeed(self, revisions: tuple[int, ...]) -> None:
        if not self.result.done():
            self.result.set_result(revisions)


def check(changes: Sequence[Change], fence: Fence | None) -> None:
    """Raises: TooLarge (more than a batch holds, or a value over 1.5 MiB), BadRequest (an illegal key, or one twice)."""
    if len(changes) + (fence is not None) > BATCH_MAX:
        raise TooLarge(f"{len(changes)} changes do not fit one batch of {BATCH_MAX}")
    if len({c.key for c in changes}) != len(changes):
        raise BadRequest("a key occurs twice in one commit")
    for change in changes:
        if not _KEY.fullmatch(change.key):
            raise BadRequest(f"{change.key!r} cannot be a key")
        if isinstance(change, Put) and len(change.value) > OBJECT_BYTES_MAX:
            raise TooLarge(f"{change.key}: {len(change.value)} bytes, {OBJECT_BYTES_MAX} at most")


def gather(waiting: "Iterable[Unit]") -> list[Unit]:
    """What goes into the next batch: the first unit, and of those behind it all with the same fence that fit and touch
    no key that is in it already (the server compares a key once a batch).
    """
    chosen: list[Unit] = []
    keys: set[str] = set()
    passed: set[str] = set()  # keys of units that wait on: nothing of theirs may be overtaken
    room, bytes_left = BATCH_MAX, BATCH_BYTES_MAX
    for unit in waiting:
        if not chosen:
            fence = unit.fence
            room -= fence is not None
        fits = unit.fence == fence and len(unit.changes) <= room and (unit.bytes <= bytes_left or not chosen)
        if not fits or unit.keys & keys or unit.keys & passed:
            passed |= unit.keys
            continue
        chosen.append(unit)
        keys |= unit.keys
        room -= len(unit.changes)
        bytes_left -= unit.bytes
        if room <= 0:
            break
    return chosen


class Sending(msgspec.Struct):
    """One attempt: these units, in this order, under this id."""

    write_id: str
    units: list[Unit]
    fence: Fence | None

    @property
    def is_put(self) -> bool:
        return self.fence is None and len(self.units) == 1 and len(self.units[0].changes) == 1

    @property
    def size(self) -> int:
        return sum(len(u.changes) for u in self.units) + (self.fence is not None)

    def succeed(self, last: int) -> None:
        """`last`: the sequence of the last message."""
        revision = last - self.size + 1 + (self.fence is not None)
        for unit in self.units:
            unit.succeed(tuple(range(revision, revision + len(unit.changes))))
            revision += len(unit.changes)


Expected = Callable[[Change], int]


async def send(bus: Bus, source: Source, sending: Sending, expected: Expected) -> int:
    """Do one attempt; the sequence of its last message.

    Raises: Conflict (10071: an expectation or the fence failed), js.ApiError, Unavailable (nobody knows whether it stands).
    """
    if sending.is_put:
        change = sending.units[0].changes[0]
        headers = _headers(change, expected) | {n.WRITE_ID: sending.write_id}
        subject = source.subject(change.key)
        answer = await bus.ask(subject, _value(change), timeout=ACK_TIMEOUT_S, headers=headers)
        return js.read_ack(subject, answer.data).seq
    return await _send_batch(bus, source, sending, expected)


async def _send_batch(bus: Bus, source: Source, sending: Sending, expected: Expected) -> int:
    messages: list[tuple[str, bytes, dict[str, str]]] = []
    if sending.fence is not None:
        messages.append(_fence(source, sending.fence))
    messages += [(source.subject(c.key), _value(c), _headers(c, expected)) for u in sending.units for c in u.changes]
    last = len(messages)
    with bus.replies() as opened, bus.replies() as committed:
        for place, (subject, value, headers) in enumerate(messages, 1):
            headers[js.BATCH_ID], headers[js.BATCH_SEQUENCE] = sending.write_id, str(place)
            if place == last:
                headers[js.BATCH_COMMIT] = "1"
            reply = committed.subject if place == last else opened.subject if place == 1 else ""
            await bus.send(subject, value, reply, headers)
        answer = await committed.get(ACK_TIMEOUT_S)
        if last > 1 and (refused := opened.get_nowait()) is not None and refused.data:
            answer = refused  # the reason; the commit only knows that there is no such batch
    if not answer.data:
        raise Unavailable("the state's stream does not answer")
    return js.read_ack(messages[-1][0], answer.data).seq


def _value(change: Change) -> bytes:
    return change.value if isinstance(change, Put) else b""


def _headers(change: Change, expected: Expected) -> dict[str, str]:
    headers: dict[str, Any] = {js.EXPECTED_REVISION: str(expected(change))}
    if isinstance(change, Delete):
        headers[js.OPERATION] = "DEL"
        headers[js.MESSAGE_TTL] = f"{MARKER_TTL_S}s"
    elif change.ttl_s:
        headers[js.MESSAGE_TTL] = f"{change.ttl_s}s"
    if change.traceparent:
        headers[n.TRACEPARENT] = change.traceparent
    return headers


def _fence(source: Source, fence: Fence) -> tuple[str, bytes, dict[str, str]]:
    expectation = {
        js.EXPECTED_REVISION: str(fence.revision),
        js.EXPECTED_SUBJECT: source.subject(n.leader(fence.group)),
    }
    return source.subject(n.fence(fence.group)), b"", expectation
