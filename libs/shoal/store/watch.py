"""The watch: every key under some filters, then every change, and never silence that is not noticed.

    async with aclosing(aiter(Watch(bus, name="scheduler", filters=["desired.>"]))) as changes:
        async for change in changes:          # Entry | Synced

Entries come in stream order. Act only after `Synced`: from then on what was delivered is the filters' exact state at
the last revision delivered. A watch never ends by itself. It *resumes* where it was only on the same connection with
its consumer still there; after anything odd else it *lists again*: entries come again (the latest delivered wins; after
a restore revisions go back), then a `Synced` names in `gone` the keys that vanished meanwhile.

What is odd: a gap in the consumer's sequence, a heartbeat (one a second) that counts another number of messages than
arrived, three seconds of silence, a consumer that was deleted, lost its server or its stream. nats-py's own watch loses
state in four such cases (NATS.md section 4); the test suite plays each of them.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress

import msgspec

from shoal import names as n
from shoal.bus import jetstream as js
from shoal.bus.client import Msg
from shoal.bus.connection import Bus, Inbox
from shoal.errors import Retryable, ShoalError
from shoal.store.consumers import ConsumerMaker, DirectConsumer, state_source
from shoal.store.reads import Source, is_marker
from shoal.store.records import Entry, Synced
from shoal.telemetry.lazy import log

_NS = 1_000_000_000
BATCH = 500  # messages a pull; the next one is sent when half of it is left
PULL_BYTES = 2 << 20  # two pulls in flight stay within what the server holds for one client (max_pending)
EXPIRES_S = 30
HEARTBEAT_S = 1
SILENCE_S = 3.0
FLOOR_WAIT_S = 5.0  # so long a list may lag behind what was seen before (a replica), then it is believed (a restore)
PAUSE_MAX_S = 2.0
PULL_ENDED = ("Message Size Exceeds MaxBytes", "Batch Completed")  # of a pull with `max_bytes`: nothing odd


class _Position:
    """How far a watch has come; it outlives the consumers."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}  # what is there, by key: its revision
        self.revision = 0  # of the last message delivered
        self.floor = 0  # the highest revision seen while in step
        self.listing = True  # a list was begun and not finished
        self.lost = False  # the consumer was taken away
        self.epoch = 0  # of the connection
        self.alive_at = 0.0


class Watch:
    """See the module. `name` is for people (the consumer's name begins with it). One iteration at a time."""

    def __init__(
        self,
        bus: Bus,
        *,
        name: str,
        filters: Sequence[str],
        consumer: ConsumerMaker | None = None,
        source: Source | None = None,
    ) -> None:
        self._bus = bus
        self._name = name
        self._source = source or state_source(bus.names)
        self._maker = consumer or DirectConsumer(bus, self._source, name, filters)
        self._at = _Position()

    async def __aiter__(self) -> AsyncIterator[Entry | Synced]:
        pause = 0.05
        try:
            while True:
                try:
                    await self._bus.connected.wait()
                    async with self._bus.inbox() as inbox:
                        relist, consumer, waiting = await self._begin()
                        drain = _Drain(
                            self._bus, self._source, self._at, inbox, consumer, relist=relist, waiting=waiting
                        )
                        async for item in drain.run():
                            pause = 0.05
                            yield item
                except (Retryable, js.ApiError) as error:
                    say = log.warning if pause == PAUSE_MAX_S else log.debug
                    say("watch.again", watch=self._name, error=str(error))
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                    pause = min(pause * 2, PAUSE_MAX_S)
        finally:
            with suppress(ShoalError):
                await self._maker.drop()

    async def _begin(self) -> tuple[bool, str, int]:
        at, epoch = self._at, self._bus.epoch
        away = time.monotonic() - at.alive_at
        relist = at.listing or at.lost or epoch != at.epoch or away > self._source.marker_ttl_s / 2
        at.epoch = epoch
        consumer, waiting = await self._maker.make(None if relist else at.revision + 1)
        at.lost = False
        at.listing = relist  # a list cut short begins anew, or what vanished is never told
        return relist, consumer, waiting


class _Again(Retryable):
    """The consumer must be made anew."""


class _Drain:
    """One consumer's life: from the first pull to the first odd thing."""

    def __init__(
        self, bus: Bus, source: Source, at: _Position, inbox: Inbox, consumer: str, *, relist: bool, waiting: int
    ) -> None:
        self._bus = bus
        self._source = source
        self._at = at
        self._inbox = inbox
        self._relist = relist
        self._waiting = waiting
        self._subject = f"{bus.names.js}.CONSUMER.MSG.NEXT.{source.stream}.{consumer}"
        self._delivered = 0  # by this consumer
        self._asked = 0  # pulled and not delivered yet
        self._seen: set[str] = set()
        self._synced = False
        self._began = time.monotonic()

    async def run(self) -> AsyncGenerator[Entry | Synced, None]:
        at = self._at
        if self._relist:
            at.revision = 0
        at.alive_at = time.monotonic()
        if not self._waiting and self._whole():
            yield self._sync()
        while True:
            await self._pull()
            message = await self._inbox.get(SILENCE_S)
            headers = message.headers or {}
            status = headers.get("Status")
            if status is not None and not message.reply.startswith(n.JS_ACK):
                if self._control(status, headers) and not self._synced and self._whole():
                    yield self._sync()
                continue
            entry, pending = self._take(message, headers)
            yield entry
            if not self._synced and pending == 0 and self._whole():
                yield self._sync()

    async def _pull(self) -> None:
        if self._asked > BATCH // 2:
            return
        body = {
            "batch": BATCH,
            "expires": EXPIRES_S * _NS,
            "idle_heartbeat": HEARTBEAT_S * _NS,
            "max_bytes": PULL_BYTES,
        }
        await self._bus.send(self._subject, msgspec.json.encode(body), self._inbox.subject)
        self._asked += BATCH

    def _control(self, status: str, headers: dict[str, str]) -> bool:
        """A status instead of a message. True: nothing is left to deliver. Raises: _Again."""
        description = headers.get("Description", "")
        if status == "100":
            if int(headers.get("Nats-Last-Consumer") or self._delivered) != self._delivered:
                raise _Again("the newest messages were lost")
            self._at.alive_at = time.monotonic()
            return True
        if status in ("404", "408") or (status == "409" and description in PULL_ENDED):
            self._asked -= int(headers.get("Nats-Pending-Messages") or BATCH)  # the pull ended unfilled
            return False
        self._at.lost = "Leader" not in description
        raise _Again(f"{status} {description}")

    def _take(self, message: Msg, headers: dict[str, str]) -> tuple[Entry, int]:
        at = self._at
        # $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending
        tokens = message.reply.split(".")
        i = 8 if len(tokens) >= 11 else 6
        if int(tokens[i]) != self._delivered + 1:
            raise _Again("messages were lost")
        self._delivered += 1
        self._asked -= 1
        revision = int(tokens[i - 1])
        at.revision, at.alive_at = revision, time.monotonic()
        if self._synced:
            at.floor = revision
        key = self._source.key(message.subject)
        if is_marker(headers):
            at.known.pop(key, None)
            self._seen.discard(key)
            value = None
        else:
            at.known[key] = revision
            if not self._synced:
                self._seen.add(key)
            value = message.data
        return Entry(key, value, revision, headers.get(n.TRACEPARENT, "")), int(tokens[i + 2])

    def _whole(self) -> bool:
        """Not yet, if a replica answers that lags behind what was seen."""
        at = self._at
        return not self._relist or at.revision >= at.floor or time.monotonic() - self._began > FLOOR_WAIT_S

    def _sync(self) -> Synced:
        at = self._at
        gone = tuple(k for k in at.known if k not in self._seen) if self._relist else ()
        for key in gone:
            del at.known[key]
        self._synced = True
        self._seen = set()
        at.listing, at.floor = False, at.revision
        return Synced(at.revision, gone)
