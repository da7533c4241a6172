"""One time of leading: deciding what the queue gives, and committing what is decided.

A key is handed back to the queue when the view shows what was committed for it, so that no decision is made on a view
older than its own last write. What becomes of a unit: Conflict: look again when the view shows what was in the way;
Deposed: stand by; anything else: look again after a backoff. A decision or a unit that raises is logged and backs off:
one broken object stops no other.
"""

import asyncio
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.controller.actions import Absent, Confirm, Decision, Emit, Empty, NoEntry, Trace, changes
from shoal.controller.backoff import Backoff
from shoal.controller.controller import Gathering
from shoal.controller.lease import Leadership
from shoal.controller.queue import Queue
from shoal.errors import Conflict, Deposed, Retryable, ShoalError
from shoal.names import ObjectKey, desired
from shoal.store.records import Change
from shoal.telemetry.logs import log, tell_written
from shoal.telemetry.trace import Span, span
from shoal.wildcards import covers

if TYPE_CHECKING:
    from shoal.controller.shell import Shell

KEYS_A_PASS = 1000
UNITS_IN_FLIGHT_MAX = 2000
CONFIRMS_AT_ONCE = 16
RESYNC_EVERY_S = 300.0
SHOWN_TIMEOUT_S = 10.0
MOVED_TIMEOUT_S = 2.0

WorkKey = tuple[int, Hashable]  # which controller, and its key


class Term:
    """One time of leading: its queue, and the units in flight. Nothing of it outlives the lease."""

    def __init__(self, shell: "Shell", leadership: Leadership) -> None:
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
                    wish = self._wish((index, key))
                    log.exception(
                        "controller.decide_failed", controller=controller.name, key=str(key), traceparent=wish
                    )
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
            log.exception("controller.decide_failed", **self._about(key, spans))
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
                log.warning("controller.not_confirmed", **self._about(key, spans))
                self._later(key)
                return
            revisions = await self._commit(unit)
            committed = True
            spans.end()
            self.backoff.succeeded(key)
            if unit:
                self._tell_committed(key, decision, unit, revisions, spans)
            for emit in told:
                await self._emit(key, emit, spans)
            await self.shell.waits.until_shown(self._last_seen(unit, revisions), SHOWN_TIMEOUT_S)
        except Conflict as conflict:
            spans.end(conflict)
            log.debug("controller.conflict", **self._about(key, spans), entry=conflict.key)
            self._undone(key)
            await self._out_of_the_way(key, unit, conflict)
        except Deposed as error:
            spans.end(error)
            self.leadership.lost.set()
        except Retryable as error:
            spans.end(error)
            log.debug("controller.unavailable", **self._about(key, spans), error=str(error))
            self._later(key)
        except ShoalError as error:
            spans.end(error)
            log.warning("controller.refused", **self._about(key, spans), error=str(error))
            self._later(key)
        except Exception as error:
            spans.end(error)
            log.exception("controller.unit_failed", **self._about(key, spans))
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

    # --- telling ---

    def _tell_committed(
        self, key: WorkKey, decision: Decision, unit: list[Change], revisions: tuple[int, ...], spans: "_Spans"
    ) -> None:
        trace = decision.trace
        node = trace.attributes.get("node") if trace is not None else None
        told = self._about(key, spans) | {"what": trace.name if trace is not None else "write"}
        told |= {"node": node} if node else {}
        told["traceparent"] = told["traceparent"] or next((c.traceparent for c in unit if c.traceparent), "")
        tell_written("controller.committed", [c.key for c in unit], revision=max(revisions), **told)

    def _about(self, key: WorkKey, spans: "_Spans") -> dict[str, Any]:
        """What a line about a unit carries: who decided it, of what, for which wish."""
        return {
            "controller": self._name(key),
            "key": str(key[1]),
            "traceparent": spans.traceparent or self._wish(key),
        }

    def _wish(self, key: WorkKey) -> str:
        """The traceparent of the object, as it is stored; "" for a key that is none, or is gone."""
        stored = self.shell.view.get(key[1]) if isinstance(key[1], ObjectKey) else None
        return stored.traceparent if stored is not None else ""


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
