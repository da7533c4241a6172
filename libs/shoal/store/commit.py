"""commit: every write to the state goes through here, compare-and-set, gathered into few batches.

**Group commit.** At most two attempts are in flight; what is asked for meanwhile goes into the next. A change that is
alone is one put. Units of different fences never share a batch.

**A refusal** (one code for all reasons) is sorted out by reading: the leader's token first (changed: every unit with
that fence is Deposed), then all keys of the batch. Units whose key has another revision than they expect get their
Conflict, the others are sent again. `expected=0` on a key under a delete marker is sent with the marker's revision,
still a compare-and-set: whoever creates it in between wins.

**A lost acknowledgement** is resolved, never guessed. Each attempt has an id that its entries keep. After a reconnect the
keys are read: one entry with our id proves that the attempt stands, as a whole. If there is none the same changes are
sent again with the same expectations: if the lost attempt arrives after all, one of the two is refused, and the next
read tells which. So nothing is done twice. What is left when COMMIT_TIMEOUT_S is over is Unavailable: the caller reads
and decides again. One case cannot be told apart: our write stood and somebody overwrote it before we read; the caller
then gets a Conflict, as if he had written a moment later.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from shoal import names as n
from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import Conflict, Deposed, Overloaded, ShoalError, TooLarge, Unavailable
from shoal.store.batch import Sending, Unit, check, gather, send
from shoal.store.reads import Source, Stored, read_from_leader, read_last
from shoal.store.records import Change, Fence, Put
from shoal.telemetry.lazy import log

IN_FLIGHT_MAX = 2
COMMIT_TIMEOUT_S = 10.0
RETRY_CODES = frozenset({js.BATCH_TOO_MANY_IN_FLIGHT, js.BATCH_INCOMPLETE})
PUZZLED_MAX = 5  # refusals for which no reason is found: a replica lags, or a marker just expired
MARKERS_MAX = 8192


class Committer:
    def __init__(self, bus: Bus, source: Source) -> None:
        self._bus = bus
        self._source = source
        self._waiting: deque[Unit] = deque()
        self._in_flight = 0
        self._kicked = False
        self._markers: dict[str, int] = {}  # key → revision of its delete marker, as last seen: a hint

    async def commit(self, changes: Sequence[Change], fence: Fence | None = None) -> tuple[int, ...]:
        check(changes, fence)
        if not changes:
            return ()
        unit = Unit(changes, fence, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        self._kick_soon()
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                return await asyncio.shield(unit.result)
        except TimeoutError:
            if not self._withdraw(unit):
                return await unit.result  # it is on its way, and bounded by itself
            raise Unavailable("the state cannot be written: NATS does not answer") from None
        except asyncio.CancelledError:
            self._withdraw(unit)
            unit.result.cancel()
            raise

    def _withdraw(self, unit: Unit) -> bool:
        try:
            self._waiting.remove(unit)
        except ValueError:
            return False
        return True

    def _kick_soon(self) -> None:
        """Once a loop's turn: what is asked for in the same turn goes together."""
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._kick)

    def _kick(self) -> None:
        self._kicked = False
        while self._waiting and self._in_flight < IN_FLIGHT_MAX:
            units = gather(self._waiting)
            chosen = set(units)
            self._waiting = deque(u for u in self._waiting if u not in chosen)
            self._in_flight += 1
            self._bus.spawn(self._fly(units), name="commit")

    async def _fly(self, units: list[Unit]) -> None:
        try:
            await _Flight(self._bus, self._source, units, self._markers).run()
        except Exception as error:
            wrapped = error if isinstance(error, ShoalError) else ShoalError(f"commit failed: {error!r}")
            if wrapped is not error:
                log.exception("commit.failed")
            for unit in units:
                unit.fail(wrapped)
        except asyncio.CancelledError:
            for unit in units:
                unit.fail(Unavailable("the connection was closed during a commit"))
            raise
        finally:
            self._in_flight -= 1
            self._kick_soon()


class _Flight:
    """The attempts for one batch's units, until each of them has its answer."""

    def __init__(self, bus: Bus, source: Source, units: list[Unit], markers: dict[str, int]) -> None:
        self._bus = bus
        self._source = source
        self._units = units
        self._fence = units[0].fence
        self._markers = markers
        self._sent: dict[str, Sending] = {}
        self._deadline = time.monotonic() + COMMIT_TIMEOUT_S
        self._tries = 0
        self._puzzled = 0
        self._lost = False  # an acknowledgement: an attempt may stand

    async def run(self) -> None:
        while self._units:
            if not self._bus.nc.is_connected:
                await self._pause(Unavailable("there is no connection to NATS"))
                continue
            sending = Sending(self._bus.new_id(), self._units, self._fence)
            self._sent[sending.write_id] = sending
            try:
                last = await send(self._bus, self._source, sending, self._expected)
            except Conflict:
                await self._with_patience(self._sort_out)
            except (js.ApiError, Overloaded, TooLarge) as error:
                if isinstance(error, js.ApiError) and error.err_code in RETRY_CODES:
                    await self._pause(error)
                elif len(self._units) == 1:
                    raise
                else:
                    return await self._each_alone()
            except Unavailable as error:
                self._lost = True
                await self._pause(error)
                await self._with_patience(self._settle)
            else:
                sending.succeed(last)
                self._remember(sending, last)
                return None
        return None

    async def _each_alone(self) -> None:
        """The batch was refused for what one of its units is (a full bucket takes no new keys, but all else)."""
        for unit in self._units:
            try:
                await _Flight(self._bus, self._source, [unit], self._markers).run()
            except ShoalError as error:
                unit.fail(error)

    async def _with_patience(self, step: Callable[[], Awaitable[None]]) -> None:
        """Reads that fail are tried again until the deadline."""
        while True:
            try:
                await step()
                return
            except Unavailable as error:
                await self._pause(error)

    async def _settle(self) -> None:
        """After a lost acknowledgement: does any attempt stand?"""
        self._acknowledge(await self._read())

    async def _sort_out(self) -> None:
        """After a refusal: who is to blame? Removes the units that have their answer."""
        deposed = await self._deposed()
        there = await self._read()
        if self._acknowledge(there):
            return
        if deposed:
            for unit in self._units:
                unit.fail(Deposed(f"another process leads {self._fence.group if self._fence else ''}"))
            self._units = []
            return
        before = len(self._units), dict(self._markers)
        self._units = [u for u in self._units if not self._offends(u, there)]
        if (len(self._units), self._markers) == before:
            self._puzzled += 1
            if self._puzzled > PUZZLED_MAX:
                raise Conflict("the state changes faster than it can be read")
            await self._pause(Unavailable("a refusal without a reason"))

    async def _deposed(self) -> bool:
        if self._fence is None:
            return False
        token = await read_from_leader(self._bus, self._source, n.leader(self._fence.group))
        return token is None or token.revision != self._fence.revision

    def _offends(self, unit: Unit, there: dict[str, Stored]) -> bool:
        """Has one of the unit's keys changed? Then it gets its Conflict. Markers are learned on the way."""
        for change in unit.changes:
            found = there.get(change.key)
            revision = found.entry.revision if found else 0
            creates = isinstance(change, Put) and change.expected == 0
            if creates and (found is None or found.entry.value is None):
                self._learn(change.key, revision)
            elif revision != change.expected:
                unit.fail(Conflict(_sentence(change, found), key=change.key))
                return True
        return False

    def _learn(self, key: str, marker: int) -> None:
        self._markers.pop(key, None)
        if marker:
            self._markers[key] = marker
        while len(self._markers) > MARKERS_MAX:
            del self._markers[next(iter(self._markers))]

    def _remember(self, sending: Sending, last: int) -> None:
        revision = last - sending.size + 1 + (sending.fence is not None)
        for change in (c for u in sending.units for c in u.changes):
            self._learn(change.key, 0 if isinstance(change, Put) else revision)
            revision += 1

    def _expected(self, change: Change) -> int:
        if isinstance(change, Put) and change.expected == 0:
            return self._markers.get(change.key, 0)
        return change.expected

    async def _read(self) -> dict[str, Stored]:
        keys = [c.key for u in self._units for c in u.changes]
        if self._fence is not None:
            keys.append(n.fence(self._fence.group))
        found, _ = await read_last(self._bus, self._source, keys)
        return found

    def _acknowledge(self, there: dict[str, Stored]) -> bool:
        """An entry with the id of an attempt proves that all of that attempt stands."""
        for found in there.values():
            if (sending := self._sent.get(found.write_id)) is not None:
                last = found.entry.revision - found.place + sending.size
                sending.succeed(last)
                self._remember(sending, last)
                self._units = [u for u in self._units if not u.result.done()]
                return True
        return False

    async def _pause(self, why: ShoalError) -> None:
        """Wait for a connection, and a little more each time. Raises: Unavailable when the time is over."""
        self._tries += 1
        left = self._deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._bus.connected.wait()
                await asyncio.sleep(random.uniform(0.5, 1.5) * min(0.02 * 2.0**self._tries, 1.0))
        except TimeoutError:
            what = "whether the state was written is not known" if self._lost else "the state was not written"
            raise Unavailable(f"{what}: {why}") from None


def _sentence(change: Change, found: Stored | None) -> str:
    if isinstance(change, Put) and change.expected == 0:
        return f"{change.key} exists already"
    if found is None or found.entry.value is None:
        return f"{change.key} was deleted since it was read"
    return f"{change.key} changed since it was read"
