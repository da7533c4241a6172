"""Who of a group of controllers leads: one key with a time to live, and a token that the store compares.

The key `<group>` in the bucket `leases` is put with `Nats-TTL` by compare-and-set, renewed each third of it, and erased
on a clean stop. The holder then writes `system.leaders.<group>` in `state`: that entry's revision is the fence of all
its batches, so that what a former leader still sends is refused whole. A leader whose last successful renewal was sent
longer ago than the time to live, by its own monotonic clock, stops deciding; the server is not asked.

Those who stand by hear the key's messages (a release wakes them at once) and read it when its time should be over. The
recipe is NATS.md section 7; headers are written by hand, since nats-py's `create` takes an expired key for a live one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from shoal import clock as real
from shoal.bus import jetstream
from shoal.errors import Conflict, ShoalError, Unavailable
from shoal.names import leader
from shoal.store.reads import Source, read_from_leader
from shoal.store.records import Fence, Put
from shoal.telemetry.logs import log

if TYPE_CHECKING:
    from shoal.bus.connection import Bus, Message
    from shoal.store.store import Store

TTL_S = 2  # whole seconds: the server's unit
HURRY_S = 0.005
SLACK_S = 0.05  # the server removes an expired key that much late
RETRY_S = 0.1


class _Held(msgspec.Struct):
    """The value of the key and of the token."""

    holder: str


class _Seen(msgspec.Struct, frozen=True):
    """`holder` "": nobody holds it; `revision` is then the marker's, 0 if there was never a key."""

    holder: str
    revision: int


class Leadership:
    """What a leader has while it leads. `lost` is set once and for ever."""

    def __init__(self, fence: Fence, clock: Callable[[], float], valid_until: float) -> None:
        self.fence = fence
        self.lost = asyncio.Event()
        self.valid_until = valid_until
        self._clock = clock

    @property
    def valid(self) -> bool:
        return not self.lost.is_set() and self._clock() < self.valid_until

    async def while_held(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Do this until the lease is lost; it is cancelled then. Raises what it raises."""
        task = asyncio.create_task(work, name=name)
        lost = asyncio.create_task(self.lost.wait(), name=f"lost {name}")
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, lost):
                each.cancel()
            await asyncio.gather(task, lost, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


class _Heard:
    """When a sign of life of the holder was seen last, by our clock.

    A release is heard when it is sent, which is a moment before the server has stored it: until a read shows that, the
    next reads follow soon.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._revision = 0
        self._hurry = False
        self._released = asyncio.Event()

    async def on_message(self, message: "Message") -> None:
        self._at = self._clock()
        self._hurry = jetstream.OPERATION in message.headers
        if self._hurry:
            self._released.set()

    def read(self, revision: int) -> None:
        if revision != self._revision:
            self._revision, self._at, self._hurry = revision, self._clock(), False

    async def over(self, silence_s: float) -> None:
        """Waits until the holder has given up, or has been silent for so long (and then a moment at least)."""
        if self._hurry and not self._released.is_set():
            await asyncio.sleep(HURRY_S)
            return
        wait_s = max(self._at + silence_s - self._clock(), SLACK_S)
        while wait_s > 0 and not self._released.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._released.wait()
            wait_s = self._at + silence_s - self._clock()
        self._released.clear()


class Lease:
    """One process's side of one group's lease. `holder` is unique to the process."""

    def __init__(
        self,
        bus: "Bus",
        store: "Store",
        group: str,
        *,
        holder: str,
        ttl_s: int = TTL_S,
        clock: Callable[[], float] = real.monotonic,
    ) -> None:
        self.group = group
        self.holder = holder
        self._bus = bus
        self._store = store
        self._ttl_s = ttl_s
        self._clock = clock
        self._subject = bus.names.lease_subject(group)
        self._revision = 0
        self._sent_at = 0.0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Leadership]:
        """Waits until this process leads; gives the lease back at the end. Watch `lost` meanwhile."""
        await self._take()
        fence = await self._write_token()
        leadership = Leadership(fence, self._clock, self._sent_at + self._ttl_s)
        renewing = asyncio.create_task(self._renew(leadership), name=f"renew {self.group}")
        log.info("lease.taken", group=self.group, token=fence.revision)
        try:
            yield leadership
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if leadership.valid:
                with suppress(ShoalError):
                    await self._release()
                log.info("lease.released", group=self.group)
            leadership.lost.set()

    # --- taking ---

    async def _take(self) -> None:
        heard = _Heard(self._clock)
        sub = None
        try:
            while True:
                with suppress(ShoalError):
                    sub = sub or await self._bus.subscribe(self._subject, heard.on_message)
                if await self._try_to_take(heard):
                    return
                await heard.over(self._ttl_s + SLACK_S)
        finally:
            if sub is not None:
                await sub.stop()

    async def _try_to_take(self, heard: "_Heard") -> bool:
        try:
            seen = await self._read()
            if seen.holder and seen.holder != self.holder:
                heard.read(seen.revision)
                return False
            await self._put(seen.revision, timeout=self._ttl_s / 2)
        except Conflict:
            return False
        except Unavailable:
            await self._bus.connected.wait()
            await asyncio.sleep(RETRY_S)
            return False
        return True

    async def _write_token(self) -> Fence:
        """Raises: Unavailable, Conflict if others write it in turn."""
        key = leader(self.group)
        value = msgspec.json.encode(_Held(self.holder))
        for _ in range(5):
            entry = await self._store.get(key)
            with suppress(Conflict):
                (revision,) = await self._store.commit([Put(key, value, entry.revision if entry else 0)])
                return Fence(self.group, revision)
        raise Conflict(f"{key} changes faster than it can be written", key=key)

    # --- keeping and giving back ---

    async def _renew(self, leadership: Leadership) -> None:
        pause_s = self._ttl_s / 3
        while True:
            await asyncio.sleep(pause_s)
            left_s = leadership.valid_until - self._clock()
            if left_s <= 0:
                break
            try:
                await self._put(self._revision, timeout=min(left_s, self._ttl_s / 3))
            except Conflict:
                if not await self._is_ours():
                    break
                pause_s = 0.0  # an earlier renewal had arrived, its answer had not: renew upon that one
            except ShoalError as error:
                log.debug("lease.renewal_failed", group=self.group, error=str(error))
                pause_s = RETRY_S
            else:
                leadership.valid_until = self._sent_at + self._ttl_s
                pause_s = self._ttl_s / 3
        log.warning("lease.lost", group=self.group)
        leadership.lost.set()

    async def _is_ours(self) -> bool:
        try:
            seen = await self._read()
        except ShoalError:
            return False
        if seen.holder == self.holder:
            self._revision = seen.revision
            return True
        return False

    async def _put(self, expected: int, *, timeout: float) -> None:
        sent_at = self._clock()
        headers = {jetstream.EXPECTED_REVISION: str(expected), jetstream.MESSAGE_TTL: str(self._ttl_s)}
        value = msgspec.json.encode(_Held(self.holder))
        self._revision = await jetstream.publish(self._bus, self._subject, value, headers=headers, timeout=timeout)
        self._sent_at = sent_at

    async def _release(self) -> None:
        """Also when a renewal was under way, which arrived and whose answer nobody read."""
        try:
            await self._erase()
        except Conflict:
            if await self._is_ours():
                await self._erase()

    async def _erase(self) -> None:
        headers = {jetstream.EXPECTED_REVISION: str(self._revision), jetstream.OPERATION: "DEL"}
        await jetstream.publish(self._bus, self._subject, b"", headers=headers, timeout=1.0)

    async def _read(self) -> _Seen:
        """Raises: Unavailable."""
        source = Source(self._bus.names.leases_stream)
        try:
            entry = await read_from_leader(self._bus, source, self._subject, timeout=self._ttl_s / 2)
        except jetstream.ApiError as error:
            raise Unavailable(f"the lease of {self.group}: {error}") from error
        if entry is None or entry.value is None:
            return _Seen("", entry.revision if entry is not None else 0)
        return _Seen(msgspec.json.decode(entry.value, type=_Held).holder, entry.revision)
