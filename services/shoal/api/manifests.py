"""Published manifests, applied in order by one leader: exactly once, whatever is killed in between.

    manifests stream ──▶ read whole ──▶ commit [fence, documents…, cursor] ──▶ outcome ──▶ ack

The cursor says how many documents of which message are done; it moves in the batch that writes them, so a message that
comes again goes on after it, and never undoes what was applied since. Where nothing was written last (all unchanged, or
refused) it moves by itself, [fence, cursor], before the outcome is told: what was said to be unchanged or refused must not
be decided anew upon a later state. The fence refuses what a former leader still sends.

Nothing in a message can block the next one: what cannot be read, and what makes our own code fail, is refused like
anything else that is wrong. A message that came several times may have killed its reader: it is read in a process of
its own first.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from shoal import names as n
from shoal.api import guard
from shoal.api.documents import FAILED, Applier, Progress, Refusal, Whole, fit, read
from shoal.api.live import Live
from shoal.api.pull import WORKING_EVERY_S, Published, Pull
from shoal.api.writing import WRITTEN, tell_applied
from shoal.bus import jetstream
from shoal.bus.connection import Bus
from shoal.controller.lease import Leadership, Lease
from shoal.errors import BadRequest, Deposed, Forbidden, Retryable, ShoalError, Status, TooLarge, Unavailable, to_status
from shoal.names import CURSOR_MANIFESTS, ObjectKey
from shoal.store.events import WARNING, Emitter
from shoal.store.records import Put
from shoal.store.store import Store, unchanged
from shoal.telemetry.logs import log
from shoal.telemetry.trace import span
from shoal.wire import ApplyReply, DocumentResult

GROUP = "manifests"
SUSPECT_AFTER = 4  # deliveries: a leader that is killed in turn explains a few
TRIAL_TIMEOUT_S = 60.0
PAUSE_S = 0.2
HEADERS_MAX = 4096
ERROR_BYTES_MAX = 65_536  # of a refusal, in the cursor


class Cursor(msgspec.Struct, omit_defaults=True):
    """system.cursor.manifests. `stream`: the stream's date of birth, since numbers are its own. `results`: what became of
    the first `document` documents, one letter each. `error`: the message was refused with it, and is done.
    """

    sequence: int
    document: int
    stream: str = ""
    results: str = ""
    error: Status | None = None


class Sender(msgspec.Struct, frozen=True):
    """Who published, and under which id the outcome is told."""

    user: str
    namespace: str
    id: str


class Manifests:
    def __init__(self, bus: Bus, live: Live, store: Store, applier: Applier, emitter: Emitter) -> None:
        self._bus = bus
        self._store = store
        self._live = live
        self._applier = applier
        self._emitter = emitter
        self._pull = Pull(bus)
        self._stream = ""

    async def lead(self, lease: Lease) -> None:
        """Stand by, lead, and stand by again. Ends only by cancellation."""
        while True:
            try:
                async with lease.hold() as leadership:
                    await leadership.while_held(self._work(leadership), name="manifests")
            except Retryable as error:
                log.info("manifests.pause", why=str(error))
                await asyncio.sleep(PAUSE_S)

    async def _work(self, leadership: Leadership) -> None:
        """For as long as this process leads; what a former leader still wrote is in the view before anything is read."""
        while not leadership.lost.is_set():
            try:
                await self._live.reached(leadership.fence.revision)
                self._stream = await self._pull.prepare()
                async for message in self._pull.messages():
                    await self._handle(message, leadership)
            except Deposed:
                leadership.lost.set()
            except (Retryable, jetstream.ApiError) as error:
                log.info("manifests.pause", why=str(error))
                await self._bus.connected.wait()
                await asyncio.sleep(PAUSE_S)
            except Exception:
                log.exception("manifests.failed")
                await asyncio.sleep(PAUSE_S)

    async def _handle(self, message: Published, leadership: Leadership) -> None:
        """One message to its end. Raises: Deposed, Unavailable: then it has been handed back."""
        try:
            async with _Heart(lambda: self._pull.working(message)):
                await self._live.newest()
                if self._cursor().sequence <= message.sequence:  # only what was acknowledged is followed by another
                    await self._apply(message, leadership)
        except BaseException:
            await self._pull.hand_back(message)
            raise
        with suppress(Unavailable):
            await self._pull.done(message)

    async def _apply(self, message: Published, leadership: Leadership) -> None:
        sender = self._sender(message)
        traceparent = guard.context(message.traceparent)
        if not traceparent:
            with span("publish", start_ns=message.stored_ns, user=sender.user) as published:
                traceparent = published.traceparent
        about: ObjectKey | None = None
        cursor = self._cursor()
        try:
            if cursor.sequence == message.sequence and cursor.error is not None:
                reply = ApplyReply(error=cursor.error, traceparent=traceparent)
            else:
                reply = await self._documents(message, sender, leadership, traceparent)
        except Refusal as refusal:
            about = refusal.about
            reply = ApplyReply(error=to_status(refusal.error), traceparent=traceparent)
        except (Deposed, Retryable):
            raise
        except Exception as error:
            log.exception("manifests.failed", sequence=message.sequence, user=sender.user, traceparent=traceparent)
            reply = ApplyReply(error=to_status(_internal(error)), traceparent=traceparent)
        await self._conclude(message, reply, leadership)
        reply.sequence = message.sequence
        try:
            await self._tell(sender, reply, about)
        except Retryable:
            raise
        except Exception as error:  # what was done is done: the next message does not wait because it cannot be told
            log.exception("manifests.not_told", sequence=message.sequence, user=sender.user, traceparent=traceparent)
            failed = ApplyReply(error=to_status(_internal(error)), traceparent=traceparent, sequence=message.sequence)
            await self._publish(sender, failed)

    async def _documents(
        self, message: Published, sender: Sender, leadership: Leadership, traceparent: str
    ) -> ApplyReply:
        _check_tokens(sender)
        if message.delivered >= SUSPECT_AFTER:
            await self._try_out(message)
        documents = await read(message.data, sender.namespace)
        cursor = self._cursor()
        begun = Progress(cursor.results) if cursor.sequence == message.sequence else Progress()
        whole = Whole(leadership.fence, lambda progress: self._advance(message, progress))
        return await self._applier.apply(documents, begun=begun, whole=whole, traceparent=traceparent)

    async def _conclude(self, message: Published, reply: ApplyReply, leadership: Leadership) -> None:
        """The cursor behind the whole message, if the last batch has not brought it there. Raises: Deposed, Retryable."""
        cursor = self._cursor()
        begun = Progress(cursor.results) if cursor.sequence == message.sequence else Progress()
        progress = begun if reply.error is not None else Progress().then(reply.results)
        put = self._advance(message, progress, _short(reply.error))
        entry = self._live.view.entry(CURSOR_MANIFESTS)
        if not unchanged(entry, put):
            (revision,) = await self._store.commit([put], fence=leadership.fence)
            await self._live.reached(revision)

    def _cursor(self) -> Cursor:
        entry = self._live.view.entry(CURSOR_MANIFESTS)
        if entry is not None and entry.value:
            with suppress(msgspec.MsgspecError):
                cursor = msgspec.json.decode(entry.value, type=Cursor)
                if cursor.stream == self._stream:
                    return cursor
        return Cursor(sequence=0, document=0)

    def _advance(self, message: Published, progress: Progress, error: Status | None = None) -> Put:
        entry = self._live.view.entry(CURSOR_MANIFESTS)
        cursor = Cursor(message.sequence, len(progress.letters), self._stream, progress.letters, error)
        return Put(CURSOR_MANIFESTS, msgspec.json.encode(cursor), entry.revision if entry is not None else 0)

    def _sender(self, message: Published) -> Sender:
        user, namespace = (n.untoken(t) for t in message.subject.split(".")[-2:])
        own = message.headers.get(n.MESSAGE_ID, "")
        return Sender(user, namespace, own if re.fullmatch(n.MESSAGE_ID_PATTERN, own) else str(message.sequence))

    async def _try_out(self, message: Published) -> None:
        """Raises: Refusal if reading it kills, or never ends."""
        wish = guard.context(message.traceparent)
        log.warning("manifests.suspect", sequence=message.sequence, delivered=message.delivered, traceparent=wish)
        trial = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "shoal.api.trial",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(TRIAL_TIMEOUT_S):
                await trial.communicate(message.data)
        except TimeoutError:
            raise Refusal(BadRequest("this message takes too long to read")) from None
        finally:
            if trial.returncode is None:
                trial.kill()
                await trial.wait()
        if trial.returncode != 0:
            raise Refusal(BadRequest("reading this message ends the process that reads it"))

    # --- telling -----------------------------------------------------------------------------------------------------

    async def _tell(self, sender: Sender, reply: ApplyReply, about: ObjectKey | None) -> None:
        """The outcome, and an event for each thing that was refused. Raises: Unavailable."""
        log.info(
            "manifests.applied" if reply.error is None else "manifests.refused",
            user=sender.user,
            id=sender.id,
            sequence=reply.sequence,
            documents=len(reply.results),
            written=sum(r.result in WRITTEN for r in reply.results),
            failed=sum(r.result == FAILED for r in reply.results),
            error=reply.error.message if reply.error else None,
            traceparent=reply.traceparent,
        )
        tell_applied(reply)
        if reply.error is not None:
            key = about or ObjectKey("manifests", sender.namespace, sender.id)
            await self._emit(key, "Refused", reply.error.message, reply.traceparent)
        for result in reply.results:
            if result.error is not None:
                await self._emit(_key(result), "ApplyFailed", result.error.message, reply.traceparent)
        await self._publish(sender, reply)

    async def _publish(self, sender: Sender, reply: ApplyReply) -> None:
        """Raises: Unavailable. What the stream refuses is logged, and lost."""
        try:
            subject = self._bus.names.outcome(sender.user, sender.id)
        except ValueError:
            return  # a user that can be none: nobody could read it
        headers = {n.OUTCOME: "1"} | ({n.TRACEPARENT: reply.traceparent} if reply.traceparent else {})
        body = msgspec.json.encode(fit(reply, self._bus.nc.max_payload - HEADERS_MAX))
        try:
            await jetstream.publish(self._bus, subject, body, headers=headers)
        except (TooLarge, jetstream.ApiError):
            log.exception(
                "manifests.outcome_lost", sequence=reply.sequence, user=sender.user, traceparent=reply.traceparent
            )

    async def _emit(self, key: ObjectKey, reason: str, message: str, traceparent: str) -> None:
        stored = self._live.view.get(key)
        uid = stored.uid if stored is not None else ""
        await self._emitter.emit(key, uid, WARNING, reason, message, traceparent=traceparent)


def _check_tokens(sender: Sender) -> None:
    """A literal wildcard passes the server's check wherever a right has a wildcard. Raises: Refusal."""
    for what, text in (("user", sender.user), ("namespace", sender.namespace)):
        if not guard.is_token(text):
            raise Refusal(Forbidden(f"{text[:64]!r} cannot be the {what} of a subject"))


def _short(error: Status | None) -> Status | None:
    """What is longer than the cursor should carry is told once, in the outcome."""
    if error is None or len(msgspec.json.encode(error)) <= ERROR_BYTES_MAX:
        return error
    return to_status(BadRequest("refused when this message was read first"))


def _internal(error: Exception) -> ShoalError:
    return ShoalError(f"internal error: {type(error).__name__}: {error}"[:1000])


def _key(result: DocumentResult) -> ObjectKey:
    return ObjectKey(result.resource, result.namespace, result.name)


class _Heart:
    """Says that a message is being worked on, for as long as the block lasts."""

    def __init__(self, beat: Callable[[], Awaitable[None]]) -> None:
        self._beat = beat
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._beating(), name="working on it")

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beating(self) -> None:
        while True:
            await self._beat()
            await asyncio.sleep(WORKING_EVERY_S)
