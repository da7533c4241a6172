"""A process's events: counted on, also by the one that leads after it."""

import msgspec

from shoal.bus.connection import Bus
from shoal.model.event import Event
from shoal.names import ObjectKey
from shoal.store.events import Emitter
from shoal.store.store import Store

POD = ObjectKey("pods", "default", "web")


async def stored(store: Store) -> Event:
    while not (entries := (await store.events())[0]):
        pass
    return msgspec.json.decode(entries[0].value or b"", type=Event)


async def test_the_next_leader_counts_on(bus: Bus, store: Store) -> None:
    before = Emitter(bus, reporter="scheduler", now=lambda: "2026-01-01T10:00:00Z")
    for _ in range(3):
        await before.emit(POD, "u1", "Warning", "FailedScheduling", "no node")
    await bus.flush()
    while (await stored(store)).count < 3:
        pass

    after = Emitter(bus, reporter="scheduler", now=lambda: "2026-01-01T11:00:00Z")
    await after.emit(POD, "u1", "Warning", "FailedScheduling", "no node")
    await bus.flush()
    while (found := await stored(store)).last_timestamp != "2026-01-01T11:00:00Z":
        pass
    assert (found.count, found.first_timestamp) == (4, "2026-01-01T10:00:00Z")


async def test_a_successor_of_the_name_begins_at_one(bus: Bus, store: Store) -> None:
    for uid in ("u1", "u2"):
        emitter = Emitter(bus, reporter="scheduler", now=lambda: "2026-01-01T10:00:00Z")
        await emitter.emit(POD, uid, "Warning", "FailedScheduling", "no node")
        await bus.flush()
    while (found := await stored(store)).involved_object.uid != "u2":
        pass
    assert found.count == 1
