"""The shell around any number of pure controllers: one watch, one view, one queue, one lease for all of a group.

    watch ─▶ View.apply ─▶ controller.keys ─▶ queue ─▶ controller.decide ─▶ one unit ─▶ Store.commit (fenced)
                                                ▲                                          │
                                                └── when the view shows it, or what was in the way ──┘

Every process of a group keeps its view warm; only the holder of the lease decides (`term`).
"""

import asyncio
import gc
import os
import random as random_module
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from shoal import clock as real
from shoal.controller.actions import rfc3339
from shoal.controller.backoff import Backoff
from shoal.controller.controller import Controller
from shoal.controller.lease import TTL_S, Leadership, Lease
from shoal.controller.term import Term, WorkKey
from shoal.controller.waits import Waits
from shoal.errors import Retryable
from shoal.names import ObjectKey, leader
from shoal.store.events import Emitter
from shoal.store.records import Entry, Synced
from shoal.store.view import View
from shoal.telemetry.logs import log

if TYPE_CHECKING:
    from shoal.bus.connection import Bus
    from shoal.store.store import Store


class Clock(msgspec.Struct, frozen=True):
    """Where time and chance come from: tests hand in their own."""

    monotonic: Callable[[], float] = real.monotonic
    now: Callable[[], float] = real.now
    random: Callable[[], float] = random_module.random


class Shell:
    """The part that lives as long as the process: the view, and the term if this process leads."""

    def __init__(
        self, controllers: Sequence[Controller], *, bus: "Bus", store: "Store", group: str, clock: Clock
    ) -> None:
        self.controllers = tuple(controllers)
        self.bus = bus
        self.store = store
        self.group = group
        self.clock = clock
        self.view = View()
        self.waits = Waits(self.view)
        self.ready = asyncio.Event()
        self.filters = tuple(dict.fromkeys([leader(group), *(f for c in controllers for f in c.filters)]))
        self.emitters = [Emitter(bus, reporter=c.reporter, now=lambda: rfc3339(clock.now())) for c in controllers]
        self.term: Term | None = None

    def absorb(self, event: Entry | Synced) -> None:
        """One event of the watch. Cheap and synchronous: it never decides and never waits."""
        for touched in self.view.apply(event):
            for key in self.keys_of(touched):
                if self.term is not None:
                    self.term.queue.add(key)
        if isinstance(event, Synced):
            for name in event.gone:
                self.waits.moved(name)
            if not self.ready.is_set():
                self.ready.set()
                gc.collect()
                gc.freeze()  # the first list lives long: no later collection looks at it
        else:
            self.waits.moved(event.key)
        self.waits.shown()

    def keys_of(self, touched: ObjectKey) -> Iterable[WorkKey]:
        for index, controller in enumerate(self.controllers):
            try:
                keys = list(controller.keys(touched, self.view))
            except Exception:
                log.exception("controller.keys_failed", controller=controller.name, key=str(touched))
                continue
            for key in keys:
                yield index, key

    async def follow(self, watch: Any) -> None:
        async with aclosing(aiter(watch)) as events:
            async for event in events:
                self.absorb(event)

    async def lead(self, lease: Lease) -> None:
        """Stand by, lead, and stand by again, for ever."""
        backoff = Backoff(self.clock.random, base_s=0.1, bound_s=2.0)
        while True:
            try:
                async with lease.hold() as leadership:
                    backoff.succeeded(self.group)
                    await self._serve_term(leadership)
            except Retryable as error:
                log.warning("lease.failed", group=self.group, error=str(error))
                await asyncio.sleep(backoff.failed(self.group))

    async def _serve_term(self, leadership: Leadership) -> None:
        term = Term(self, leadership)
        self.term = term
        try:
            await leadership.while_held(term.run(), name=f"term {self.group}")
        finally:
            self.term = None
        log.info("lease.standing_by", group=self.group)


def holder_name() -> str:
    """Unique to this process, and readable in the lease."""
    return f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"


async def run(
    controllers: Sequence[Controller],
    *,
    bus: "Bus",
    store: "Store",
    group: str,
    clock: Clock | None = None,
    ttl_s: int = TTL_S,
    on_ready: Callable[[], Any] | None = None,
) -> None:
    """Follow the state, lead when the lease is free, until cancelled; the lease is given back at the end.

    `on_ready` is called once the view is whole, whether this process leads or stands by.
    """
    from shoal.store.watch import Watch

    clock = clock or Clock()
    holder = holder_name()
    shell = Shell(controllers, bus=bus, store=store, group=group, clock=clock)
    lease = Lease(bus, store, group, holder=holder, ttl_s=ttl_s, clock=clock.monotonic)
    watch = Watch(bus, name=group, filters=shell.filters)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(shell.follow(watch), name=f"watch {group}")
        tasks.create_task(shell.lead(lease), name=f"lead {group}")
        await shell.ready.wait()
        log.info("ready", group=group, revision=shell.view.revision, controllers=[c.name for c in controllers])
        if on_ready is not None:
            on_ready()
