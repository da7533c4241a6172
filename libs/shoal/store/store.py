"""The store as a process sees it: commit, get, list, and what events were told. Watches are in `watch`, their consumers
in `consumers`; events are told in `events`.

A write that changes nothing must not be sent: the server would mint a revision and wake everyone. Whoever decides
compares first (`unchanged` helps); `commit` sends what it is given.
"""

from collections.abc import Sequence
from contextlib import aclosing

from shoal.bus.connection import Bus
from shoal.errors import TooLarge
from shoal.store import reads
from shoal.store.commit import Committer
from shoal.store.consumers import events_source, state_source
from shoal.store.reads import Source
from shoal.store.records import Change, Entry, Fence, Put, Synced
from shoal.store.watch import Watch

Listing = tuple[list[Entry], int]


class Store:
    """One a process, beside its `Bus`: group commit only gathers what goes through the same one."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state = state_source(bus.names)
        self._events = events_source(bus.names)
        self._committer = Committer(bus, self._state)

    async def commit(self, changes: Sequence[Change], *, fence: Fence | None = None) -> tuple[int, ...]:
        """Write all of `changes`, or none. The revision of each.

        Waits out a short absence of NATS. Raises: Conflict (`key` says which entry changed; read and decide again),
        Deposed (the fence's token changed: stop leading), TooLarge (over 999 messages with the fence, or a value over
        1.5 MiB), BadRequest (an illegal key, one key twice), Overloaded (the bucket is full: it takes no new keys),
        Unavailable (not written, or not known 10 s after it was sent).
        """
        return await self._committer.commit(changes, fence)

    async def get(self, key: str, *, fresh: bool = False) -> Entry | None:
        """The newest entry; value None: deleted. None: there is nothing, not even a marker.

        `fresh`: the stream's leader answers, so that nothing acknowledged is missed (a replica may lag): ask so before
        anything is stopped because it is missing.
        """
        read = reads.read_from_leader if fresh else reads.read_one
        return await read(self._bus, self._state, key)

    async def list(self, *filters: str) -> Listing:
        """What is there under `filters` (keys or wildcards; none: everything), in order of revision, and the revision
        of which that is the exact state: a watch from there misses nothing. Deleted entries are left out.
        """
        return await _list(self._bus, self._state, filters)

    async def last_revision(self) -> int:
        """The cluster's revision now."""
        return await reads.last_revision(self._bus, self._state)

    async def events(self, *filters: str) -> Listing:
        """Events by subject (`names.events_of`, `events_in`), as `list`. The keys are whole subjects."""
        return await _list(self._bus, self._events, filters)

    async def last_event(self) -> int:
        """The events' revision now: where it did not move there is nothing new to read."""
        return await reads.last_revision(self._bus, self._events)


def unchanged(there: Entry | None, change: Put) -> bool:
    """Would this put store the same bytes again? Then leave it out."""
    return there is not None and there.value == change.value


async def _list(bus: Bus, source: Source, filters: Sequence[str]) -> Listing:
    filters = filters or (">",)
    try:
        found, revision = await reads.read_last(bus, source, list(filters))
        if not found and not revision:  # an empty answer names no revision, so: ask before, read again
            revision = await reads.last_revision(bus, source)
            found, later = await reads.read_last(bus, source, list(filters))
            revision = later or revision
    except TooLarge:
        return await _list_by_consumer(bus, source, filters)
    entries = (s.entry for s in found.values() if s.entry.value is not None)
    return sorted(entries, key=lambda e: e.revision), revision


async def _list_by_consumer(bus: Bus, source: Source, filters: Sequence[str]) -> Listing:
    found: dict[str, Entry] = {}
    watch = Watch(bus, name="list", filters=filters, source=source)
    async with aclosing(aiter(watch)) as changes:  # type: ignore[type-var]
        async for change in changes:
            if isinstance(change, Synced):
                for key in change.gone:
                    found.pop(key, None)
                return sorted(found.values(), key=lambda e: e.revision), change.revision
            if change.value is None:
                found.pop(change.key, None)
            else:
                found[change.key] = change
    raise AssertionError("a watch never ends by itself")
