"""What this node has to say, sent by request: the newest status of each pod and of itself, and events.

What gathers while one request is in flight goes into the next. Of each record only the newest is sent; unanswered it is
sent again, unless something newer took its place meanwhile. Doing it twice is harmless (the api compares), and so is a
request that arrives late: each report says when it was made (`wire.Report.order`).
"""

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import Retryable, is_retryable
from shoal.names import ObjectKey
from shoal.telemetry.logs import log
from shoal.wire import NodeEvent, Report, ReportResult, StatusReply, StatusRequest

REPORTS_MAX = 200  # a request; the api takes 400, and a message 1 MiB
REQUEST_BYTES_MAX = 524_288
EVENTS_MAX = 100
EVENTS_KEPT_MAX = 2000  # while nobody answers; the oldest are dropped
ANSWER_S = 5.0
RETRY_MAX_S = 5.0
CONFLICTS_AT_ONCE = 1  # the answer names the revision to build upon: the next should do


class Reporter:
    """`run` sends until it is cancelled. `pod` and `event` only remember."""

    def __init__(self, bus: Bus, node: str, session: str, registered: int = 0) -> None:
        """`registered`: the cluster's revision when this host did."""
        self._bus = bus
        self._node = node
        self._session = session
        self._registered = registered
        self._waiting: dict[tuple[ObjectKey, str], Report] = {}
        self._asked: dict[tuple[ObjectKey, str], Report] = {}  # in the request that is under way
        self._sent: dict[tuple[ObjectKey, str], bytes] = {}  # what was acknowledged
        self._revisions: dict[tuple[ObjectKey, str], int] = {}
        self._unanswered: set[tuple[ObjectKey, str]] = set()  # something of it may arrive yet
        self._events: deque[NodeEvent] = deque(maxlen=EVENTS_KEPT_MAX)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._heard = asyncio.Event()
        self._conflicts = 0  # answers in a row that held one

    def pod(
        self, key: ObjectKey, uid: str, status: msgspec.Struct, *, gone: bool = False, traceparent: str = ""
    ) -> None:
        """The newest status of an object of this node; one that was acknowledged already is not sent."""
        raw = msgspec.json.encode(status, order="deterministic")
        which = (key, uid)
        mark = raw + (b"!" if gone else b"")
        if which not in self._waiting and self._sent.get(which) == mark:
            return
        self._waiting[which] = Report(
            resource=key.resource,
            namespace=key.namespace,
            name=key.name,
            uid=uid,
            revision=self._revisions.get(which, -1),
            order=(self._registered, time.monotonic_ns()),
            status=msgspec.Raw(raw),
            gone=gone,
            traceparent=traceparent,
        )
        self._idle.clear()
        self._wake.set()

    def event(self, key: ObjectKey, uid: str, type_: str, reason: str, message: str, *, field_path: str = "") -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._events.append(
            NodeEvent(
                resource=key.resource,
                namespace=key.namespace,
                name=key.name,
                uid=uid,
                type=type_,
                reason=reason,
                message=message,
                field_path=field_path,
                first=now,
                last=now,
            )
        )
        self._idle.clear()
        self._wake.set()

    def forget(self, key: ObjectKey, uid: str) -> None:
        """Nothing more will be said of it."""
        which = (key, uid)
        for known in (self._waiting, self._asked, self._sent, self._revisions):
            known.pop(which, None)
        self._unanswered.discard(which)

    async def told(self, key: ObjectKey, uid: str) -> None:
        """Until what was said of an object last is acknowledged."""
        while (key, uid) in self._waiting or (key, uid) not in self._sent:
            self._heard.clear()
            await self._heard.wait()

    async def drained(self) -> None:
        """Until all that was said is acknowledged."""
        await self._idle.wait()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._events:
                try:
                    await self._bus.connected.wait()
                    await self._send()
                    failures = 0
                except Retryable as error:
                    failures += 1
                    if failures in {1, 10, 100}:
                        log.warning("status.unanswered", tries=failures, error=str(error))
                    await asyncio.sleep(min(RETRY_MAX_S, 0.1 * 2.0 ** min(failures, 8)) * random.uniform(0.5, 1.0))
            self._idle.set()

    async def _send(self) -> None:
        reports = self._asked = self._take()
        order = list(reports)
        events = [self._events.popleft() for _ in range(min(len(self._events), EVENTS_MAX))]
        told = [msgspec.structs.replace(r, overtakes=which in self._unanswered) for which, r in reports.items()]
        request = StatusRequest(session=self._session, reports=told, events=events)
        try:
            reply = await self._bus.request(self._bus.names.status(self._node), request, StatusReply, timeout=ANSWER_S)
        except BaseException:
            self._unanswered.update(self._asked)
            self._again()
            self._events.extendleft(reversed(events))
            raise
        refused = "" if len(reply.results) >= len(order) else "the api answered only some of the reports"
        again = 0
        for which, result in zip(order, reply.results, strict=False):
            if result.error is not None and result.error.reason != "Conflict" and is_retryable(result.error):
                refused = result.error.message
            elif (report := self._asked.pop(which, None)) is not None:
                self._answered(which, report, result)
                again += result.error is not None and result.error.reason == "Conflict"
        self._again()
        self._conflicts = self._conflicts + 1 if again else 0
        if self._conflicts > CONFLICTS_AT_ONCE:
            refused = refused or f"{again} reports conflict with what is stored, again and again"
        if refused:
            raise Retryable(refused)

    def _again(self) -> None:
        """What was asked and not answered waits again, unless something newer took its place."""
        for which, report in self._asked.items():
            self._waiting.setdefault(which, report)
        self._asked = {}

    def _take(self) -> dict[tuple[ObjectKey, str], Report]:
        taken: dict[tuple[ObjectKey, str], Report] = {}
        size = 0
        for which, report in list(self._waiting.items()):
            size += len(bytes(report.status)) + 256
            if taken and (len(taken) >= REPORTS_MAX or size > REQUEST_BYTES_MAX):
                break
            taken[which] = self._waiting.pop(which)
        return taken

    def _answered(self, which: tuple[ObjectKey, str], report: Report, result: ReportResult) -> None:
        if result.revision:
            self._revisions[which] = result.revision
        error = result.error
        if error is None:
            self._unanswered.discard(which)
            self._sent[which] = bytes(report.status) + (b"!" if report.gone else b"")
            self._heard.set()
            if (newer := self._waiting.get(which)) is not None:
                self._waiting[which] = msgspec.structs.replace(newer, revision=result.revision)
        elif error.reason == "Conflict":
            again = self._waiting.get(which, report)
            self._waiting[which] = msgspec.structs.replace(again, revision=result.revision)
        else:
            # It is another's now, or no more: the watch tells.
            level = log.debug if error.reason == "NotFound" else log.warning
            level(
                "status.refused",
                key=str(which[0]),
                uid=which[1],
                revision=report.revision,
                reason=error.reason,
                error=error.message,
                traceparent=report.traceparent,
            )
