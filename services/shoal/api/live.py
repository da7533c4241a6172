"""The state as this api knows it: a view and a history, kept current by one watch over the whole bucket.

One consumer over everything, so that the view's revision is the bucket's: a read that must see what is acknowledged asks
for the last sequence, and waits until the view has it (`newest`). Copies are kept as revisions alone: the api erases them,
nothing more.
"""

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from shoal.api import present
from shoal.api.history import Change, History
from shoal.bus import jetstream
from shoal.bus.connection import Bus
from shoal.errors import ShoalError, Unavailable
from shoal.names import ALL_KEYS, ObjectKey, parse_key
from shoal.store.records import Entry, Synced
from shoal.store.store import Store
from shoal.store.stored import Stored
from shoal.store.view import View
from shoal.store.watch import Watch
from shoal.telemetry.logs import log

NEWEST_TIMEOUT_S = 5.0
EXPIRED_TAIL_AFTER_S = 0.25


class Live:
    def __init__(self, bus: Bus, store: Store) -> None:
        self.view = View()
        self.history = History()
        self._bus = bus
        self._store = store
        self._begun = False
        self._moved: asyncio.Future[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._next: asyncio.Future[int] | None = None
        self._empty_tail = (0, 0)  # up to the first, the stream has nothing after the second any more

    # --- in ---------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Ends only by cancellation."""
        watch = Watch(self._bus, name=f"api_{secrets.token_hex(6)}", filters=[ALL_KEYS])
        async with aclosing(aiter(watch)) as events:  # type: ignore[type-var]
            async for event in events:
                self._take(event)
                self._wake()

    def _take(self, event: Entry | Synced) -> None:
        if isinstance(event, Synced):
            self._synced(event)
            return
        parsed = parse_key(event.key)
        if parsed.part == "bound" and event.value is not None:
            event = Entry(event.key, b"", event.revision)
        touched = self.view.apply(event)
        if self._begun and parsed.part in ("desired", "observed"):
            self._record(touched, event.revision)
        if self.view.synced:
            self.history.reach(event.revision)

    def _synced(self, event: Synced) -> None:
        earlier = self.history.last
        touched = self.view.apply(event)
        if not self._begun or event.revision < earlier:  # the first list; a stream that began anew
            self.history.begin(event.revision)
            if not self._begun:
                log.info("api.synced", revision=event.revision, objects=len(self.view.known()))
            self._begun = True
            return
        self._record(touched, event.revision)
        self.history.reach(event.revision)

    def _record(self, touched: Iterable[ObjectKey], revision: int) -> None:
        for key in touched:
            before, after = self.view.before(key), self.view.get(key)
            if before is not None and after is not None and before.uid != after.uid:
                self._add(key, before, None, revision)
                before = None
            self._add(key, before, after, revision)

    def _add(self, key: ObjectKey, before: Stored[Any] | None, after: Stored[Any] | None, revision: int) -> None:
        if after is not None:
            if before is not None and before.version == after.version:
                return  # an entry that does not count for it
            body = present.body(after)
        elif before is not None:
            body = present.body_of(key.resource, before.object, revision)
        else:
            return
        self.history.record(
            Change(
                revision,
                key,
                present.facts(key.resource, before.object) if before is not None else None,
                present.facts(key.resource, after.object) if after is not None else None,
                body,
            )
        )

    # --- out --------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self.view.revision

    @property
    def synced(self) -> bool:
        return self._begun and self.view.synced

    async def ready(self) -> None:
        """Waits for the first list."""
        while not self.synced:
            await self.move()

    async def move(self) -> None:
        """Waits for the next event of the watch."""
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._moved)

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    async def newest(self) -> None:
        """Waits until the view has all that was acknowledged before the call. Raises: Unavailable."""
        try:
            async with asyncio.timeout(NEWEST_TIMEOUT_S):
                await self.reached(await self._last())
        except TimeoutError:
            raise Unavailable("the api has not caught up with the store yet: try again") from None

    async def reached(self, revision: int) -> None:
        """Waits until the view has everything up to `revision`, for as long as the caller lets it."""
        while not self._has(revision):
            try:
                async with asyncio.timeout(EXPIRED_TAIL_AFTER_S):
                    await self.move()
            except TimeoutError:
                if self.synced:
                    await self._look_at_tail()

    def _has(self, revision: int) -> bool:
        upto, newest = self._empty_tail
        return self.synced and (self.revision >= revision or (revision <= upto and self.revision >= newest))

    async def _look_at_tail(self) -> None:
        """The last message may have expired (a marker's time is over): nothing will ever come at its sequence."""
        with suppress(Unavailable, jetstream.ApiError):
            last = await self._store.last_revision()
            newest = await self._store.get(ALL_KEYS, fresh=True)
            self._empty_tail = (last, newest.revision if newest is not None else 0)

    async def _last(self) -> int:
        """The stream's last sequence, asked for after the call: those who wait meanwhile share the next question."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = self._bus.spawn(self._ask(), name="ask for the last revision")
        return await asyncio.shield(self._next)

    async def _ask(self) -> None:
        try:
            while self._next is not None:
                answered, self._next = self._next, None
                try:
                    answered.set_result(await self._store.last_revision())
                except (ShoalError, msgspec.MsgspecError) as error:
                    _fail(answered, error)
                except BaseException:
                    _fail(answered, Unavailable("the store could not be asked"))
                    raise
        finally:
            self._asking = None
            if self._next is not None:  # nobody else would ask for them
                left, self._next = self._next, None
                _fail(left, Unavailable("the store could not be asked"))


def _fail(answer: asyncio.Future[int], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # whoever asked may have gone
