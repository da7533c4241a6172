"""The shell around any number of pure controllers: one watch, one view, one queue, one lease for all of a group.

    watch ─▶ View.apply ─▶ controller.keys ─▶ queue ─▶ controller.decide ─▶ one unit ─▶ Store.commit (fenced)
                                                ▲                                          │
                                                └── when the view shows it, or what was in the way ──┘

Every process of a group keeps its view warm; only the holder of the lease decides. A key is handed back to the queue
when the view shows what was committed for it, so that no decision is made on a view older than its own last write.
What becomes of a unit: Conflict: look again when the view shows what was in the way; Deposed: stand by; anything else:
look again after a backoff. A decision or a unit that raises is logged and backs off: one broken object stops no other.
"""

import asyncio
import gc
import os
import random as random_module
import secrets
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.controller.actions import Absent, Confirm, Decision, Emit, Empty, NoEntry, Trace, changes, rfc3339
from shoal.controller.backoff import Backoff
from shoal.controller.controller import Controller, Gathering
from shoal.controller.lease import TTL_S, Leadership, Lease
from shoal.controller.queue import Queue
from shoal.controller.waits import Waits
from shoal.errors import Conflict, Deposed, Retryable, ShoalError
from shoal.names import ObjectKey, desired, leader
from shoal.store.events import Emitter
from shoal.store.records import Change, Entry, Synced
from shoal.store.view import View
from shoal.telemetry.logs import log
from shoal.telemetry.trace import Span, span
from shoal.wildcards import covers

if TYPE_CHECKING:
    from shoal.bus.connection import Bus
    from shoal.store.store import Store

KEYS_A_PASS = 1000
UNITS_IN_FLIGHT_MAX = 2000
CONFIRMS_AT_ONCE = 16
RESYNC_EVERY_S = 300.0
SHOWN_TIMEOUT_S = 10.0
MOVED_TIMEOUT_S = 2.0

WorkKey = tuple[int, Hashable]  # which controller, and its key


class Clock(msgspec.Struct, frozen=True):
    """Where time and chance come from: tests hand in their own."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
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


class Term:
    """One time of leading: its queue, and the units in flight. Nothing of it outlives the lease."""

    def __init__(self, shell: Shell, leadership: Leadership) -> None:
        self.shell = shell
        self.leadership = leadership
        self.queue: Queue[WorkKey] = Queue(shell.clock.monotonic)
        self.backoff = Backoff(shell.clock.random)
        self._confirming = asyncio.Semaphore(CONFIRMS_AT_ONCE)
        self._flying = 0
        self._landed = asyncio.Event()

    async def run(self) -> None:
        """Begins when the view has everything that former leaders could still commit: all before our token."""
        await self.shell.ready.wait()
        while not self._current():
            await self.shell.waits.until_shown(self.leadership.fence.revision, SHOWN_TIMEOUT_S)
        async with asyncio.TaskGroup() as units:
            units.create_task(self._resync(), name=f"resync {self.shell.group}")
            while True:
                batch = await self.queue.take(KEYS_A_PASS)
                await self._room()
                for key, decision in self._decide(batch):
                    self._begin(units, key, decision)

    def _current(self) -> bool:
        view = self.shell.view
        return view.synced and view.revision >= self.leadership.fence.revision

    async def _resync(self) -> None:
        """At once: look at everything, now that this process decides. Then rarely, as a net under lost events."""
        while True:
            for count, touched in enumerate(self.shell.view.known(), start=1):
                for key in self.shell.keys_of(touched):
                    self.queue.add(key)
                if count % KEYS_A_PASS == 0:
                    await asyncio.sleep(0)  # renewals and decisions go on meanwhile
            await asyncio.sleep(RESYNC_EVERY_S * (0.75 + 0.5 * self.shell.clock.random()))

    async def _room(self) -> None:
        """Waits while too much is in flight, or while the watch lists anew and the view lacks what exists."""
        while self._flying >= UNITS_IN_FLIGHT_MAX:
            self._landed.clear()
            await self._landed.wait()
        while not self.shell.view.synced:
            await self.shell.waits.until_shown(0, SHOWN_TIMEOUT_S)

    # --- deciding: no await between the view and the changes ---

    def _decide(self, batch: list[WorkKey]) -> Iterable[tuple[WorkKey, Decision]]:
        by_controller: dict[int, list[Hashable]] = {}
        for index, key in batch:
            by_controller.setdefault(index, []).append(key)
        now = self.shell.clock.now()
        for index, keys in sorted(by_controller.items()):
            controller = self.shell.controllers[index]
            if isinstance(controller, Gathering):
                keys = controller.order(keys, self.shell.view)  # noqa: PLW2901
            for key in keys:
                try:
                    yield (index, key), controller.decide(key, self.shell.view, now)
                except Exception:
                    log.exception("controller.decide_failed", controller=controller.name, key=str(key))
                    self._retry((index, key))

    def _retry(self, key: WorkKey) -> None:
        self._later(key)
        self.queue.done(key)

    def _begin(self, units: asyncio.TaskGroup, key: WorkKey, decision: Decision) -> None:
        if decision.requeue_after_s is not None:
            self.queue.add(key, decision.requeue_after_s)
        spans = _Spans(decision.trace)
        try:
            unit = changes(decision.actions, self.shell.view, spans)
        except Exception:
            log.exception("controller.decide_failed", controller=self._name(key), key=str(key[1]))
            spans.end("not sent")
            self._retry(key)
            return
        told = [a for a in decision.actions if isinstance(a, Emit)]
        if not unit and not told:
            spans.end()
            self.backoff.succeeded(key)
            self.queue.done(key)
            return
        self._flying += 1
        units.create_task(self._carry_out(key, decision, unit, told, spans), name=f"commit {self._name(key)}")

    # --- doing ---

    async def _carry_out(
        self, key: WorkKey, decision: Decision, unit: list[Change], told: list[Emit], spans: "_Spans"
    ) -> None:
        committed = False
        try:
            if not await self._confirmed(decision):
                log.warning("controller.not_confirmed", controller=self._name(key), key=str(key[1]))
                self._later(key)
                return
            revisions = await self._commit(unit)
            committed = True
            spans.end()
            self.backoff.succeeded(key)
            for emit in told:
                await self._emit(key, emit, spans)
            await self.shell.waits.until_shown(self._last_seen(unit, revisions), SHOWN_TIMEOUT_S)
        except Conflict as conflict:
            spans.end(conflict)
            log.debug("controller.conflict", controller=self._name(key), key=str(key[1]), entry=conflict.key)
            self._undone(key)
            await self._out_of_the_way(key, unit, conflict)
        except Deposed as error:
            spans.end(error)
            self.leadership.lost.set()
        except Retryable as error:
            spans.end(error)
            log.debug("controller.unavailable", controller=self._name(key), key=str(key[1]), error=str(error))
            self._later(key)
        except ShoalError as error:
            spans.end(error)
            log.warning("controller.refused", controller=self._name(key), key=str(key[1]), error=str(error))
            self._later(key)
        except Exception as error:
            spans.end(error)
            log.exception("controller.unit_failed", controller=self._name(key), key=str(key[1]))
            self._later(key)
        finally:
            if not committed:
                self._undone(key)
            self._flying -= 1
            self._landed.set()
            self.queue.done(key)

    async def _confirmed(self, decision: Decision) -> bool:
        for question in decision.confirm:
            async with self._confirming:
                if not await self._holds(question):
                    return False
        return True

    async def _holds(self, question: Confirm) -> bool:
        store = self.shell.store
        match question:
            case Absent(key=key, uid=uid):
                entry = await store.get(desired(key), fresh=True)
                return entry is None or entry.value is None or uid not in ("", _uid_of(entry.value))
            case NoEntry(entry=name):
                entry = await store.get(name, fresh=True)
                return entry is None or entry.value is None
            case Empty(filter=filter_):
                entries, _ = await store.list(filter_)
                return not entries

    async def _commit(self, unit: list[Change]) -> tuple[int, ...]:
        if not unit:
            return ()
        if not self.leadership.valid:
            raise Deposed(f"the lease of {self.shell.group} was not renewed in time")
        return await self.shell.store.commit(unit, fence=self.leadership.fence)

    async def _emit(self, key: WorkKey, emit: Emit, spans: "_Spans") -> None:
        emitter = self.shell.emitters[key[0]]
        await emitter.emit(emit.key, emit.uid, emit.type, emit.reason, emit.message, traceparent=spans.traceparent)

    def _last_seen(self, unit: list[Change], revisions: tuple[int, ...]) -> int:
        """The newest revision of the unit that the watch will show."""
        shown = (r for c, r in zip(unit, revisions, strict=True) if any(covers(f, c.key) for f in self.shell.filters))
        return max(shown, default=0)

    async def _out_of_the_way(self, key: WorkKey, unit: list[Change], conflict: Conflict) -> None:
        expected = next((c.expected for c in unit if c.key == conflict.key), None)
        if expected is not None and any(covers(f, conflict.key) for f in self.shell.filters):
            await self.shell.waits.until_moved(conflict.key, expected, MOVED_TIMEOUT_S)
            self.queue.add(key)
        else:
            self._later(key)

    def _undone(self, key: WorkKey) -> None:
        controller = self.shell.controllers[key[0]]
        if isinstance(controller, Gathering):
            for again in controller.undone(key[1]):
                self.queue.add((key[0], again))

    def _later(self, key: WorkKey) -> None:
        self.queue.add(key, max(0.001, self.backoff.failed(key)))

    def _name(self, key: WorkKey) -> str:
        return self.shell.controllers[key[0]].name


class _Spans:
    """The spans of one unit, begun when its changes are made and ended when it is committed."""

    def __init__(self, trace: Trace | None) -> None:
        self._root: Span | None = None
        self._below: list[Span] = []
        if trace is not None:
            self._root = span(trace.name, parent=trace.parent, links=trace.links, **trace.attributes)

    @property
    def traceparent(self) -> str:
        return self._root.traceparent if self._root is not None else ""

    def created(self, key: ObjectKey) -> str:
        if self._root is None:
            return ""
        below = span("write", parent=self._root.traceparent, key=str(key), namespace=key.namespace, pod=key.name)
        self._below.append(below)
        return below.traceparent

    def changed(self, known: str) -> str:
        return self._root.traceparent if self._root is not None else known

    def end(self, error: BaseException | str = "") -> None:
        for each in (*self._below, *([self._root] if self._root is not None else [])):
            if error:
                each.error(error)
            each.end()


class _Meta(msgspec.Struct):
    uid: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


def _uid_of(value: bytes) -> str:
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(value, type=_Named).metadata.uid
    return ""


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
