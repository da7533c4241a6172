"""What the proxy says of its node's network, by status request: one record, the newest, until it is acknowledged."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import Retryable, is_retryable
from shoal.model.meta import Condition, Record
from shoal.telemetry.logs import log
from shoal.wire import Report, ReportResult, StatusReply, StatusRequest

NETWORKS = "nodenetworks"
RETRY_MAX_S = 5.0
UNAVAILABLE = "NetworkUnavailable"
NAMED_MAX = 5
MESSAGE_MAX = 1024


class NetworkStatus(Record, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()


def condition(problems: Sequence[str], others: int) -> Condition:
    """NetworkUnavailable, in Kubernetes' sense: False is good. `problems`: a sentence for each node that cannot be
    reached, of `others`.

    True from more than half of them: then it is this host that is cut off, and nothing more is placed there. Fewer are
    named all the same; were it True then, one odd host would keep every other from getting pods.
    """
    if not problems:
        return Condition(
            type=UNAVAILABLE,
            status="False",
            reason="RoutesProgrammed",
            message="this host has a route to every node's pods",
        )
    named = "; ".join(problems[:NAMED_MAX])
    if len(problems) > NAMED_MAX:
        named += f"; and {len(problems) - NAMED_MAX} more"
    cut_off = 2 * len(problems) > others
    return Condition(
        type=UNAVAILABLE,
        status="True" if cut_off else "False",
        reason="NoRoute" if cut_off else "NoRouteToSome",
        message=named[:MESSAGE_MAX],
    )


class NetworkReporter:
    def __init__(self, bus: Bus, node: str, registered: Callable[[], int]) -> None:
        """`registered`: tells the cluster's revision when this host registered."""
        self._bus = bus
        self._node = node
        self._registered = registered
        self._uid = ""
        self._said: Condition | None = None
        self._report: Report | None = None
        self._revision = -1
        self._unanswered = False  # an earlier one may arrive yet
        self._wake = asyncio.Event()

    def known_as(self, uid: str) -> None:
        """The node's uid, without which nothing can be said; another one is another node."""
        if uid != self._uid:
            self._uid, self._revision = uid, -1
            self._make()

    def say(self, found: Condition) -> None:
        said = self._said
        if said is not None and (said.status, said.message) == (found.status, found.message):
            return
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if said is not None and said.status == found.status:
            when = said.last_transition_time or when
        self._said = msgspec.structs.replace(found, last_transition_time=when)
        self._make()

    def _make(self) -> None:
        if self._said is None or not self._uid:
            return
        status = NetworkStatus(conditions=(self._said,))
        self._report = Report(
            resource=NETWORKS,
            namespace="",
            name=self._node,
            uid=self._uid,
            order=(self._registered(), time.monotonic_ns()),
            status=msgspec.Raw(msgspec.json.encode(status)),
        )
        self._wake.set()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            report = self._report
            if report is None:
                continue
            try:
                await self._bus.connected.wait()
                said = msgspec.structs.replace(report, revision=self._revision, overtakes=self._unanswered)
                request = StatusRequest(reports=[said])
                reply = await self._bus.request(self._bus.names.status(self._node), request, StatusReply)
                again = not reply.results or self._answered(reply.results[0])
            except Retryable as error:
                again = self._unanswered = True
                log.debug("network.unanswered", error=str(error))
            if not again:
                failures = 0
                continue
            failures += 1
            self._wake.set()
            await asyncio.sleep(min(RETRY_MAX_S, 0.1 * 2.0 ** min(failures, 8)) * random.uniform(0.5, 1.0))

    def _answered(self, result: ReportResult) -> bool:
        """Whether it must be said again."""
        if result.revision or result.error is None or result.error.reason == "Conflict":
            self._revision = result.revision or -1
        if result.error is None:
            self._unanswered = False
            return False
        if again := is_retryable(result.error):
            log.debug("network.unanswered", error=result.error.message)
        else:
            log.warning("network.refused", error=result.error.message)
        return again
