"""The one connection of a process to NATS: publish, request, subscribe, with our errors and nobody else's.

Every exception of nats-py becomes one of `shoal.errors` here. While NATS is away nothing is buffered: a publish or a
request fails at once as `Unavailable`, and so does every request that was waiting; subscriptions come back by
themselves. Answers are published with headers of our own: nats-py's `msg.respond` echoes the request's.
"""

import asyncio
import itertools
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import msgspec

from shoal import names as n
from shoal.bus.client import Msg, NatsClient, nats_errors
from shoal.config import BusConfig
from shoal.errors import (
    BadRequest,
    Forbidden,
    ShoalError,
    Status,
    TooLarge,
    Unanswered,
    Unavailable,
    from_status,
)
from shoal.telemetry.lazy import log

T = TypeVar("T")

ERROR_TEXT = "Nats-Service-Error"  # the headers of NATS' services, so that `nats micro` understands our errors
ERROR_CODE = "Nats-Service-Error-Code"

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
STOP_TIMEOUT_S = 5.0


class Message(msgspec.Struct, frozen=True):
    """What arrived. `reply` "": nobody waits for an answer."""

    subject: str
    data: bytes
    reply: str = ""
    headers: Mapping[str, str] = {}

    @property
    def traceparent(self) -> str:
        return self.headers.get(n.TRACEPARENT, "")


Handler = Callable[[Message], Awaitable[None]]


@contextmanager
def translated(what: str, *, refused: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """The one place where nats-py's exceptions become ours. `what`: the subject or the act, for the sentence.

    `refused`: did the last server that was tried refuse the credential? nats-py says only that none is left.
    """
    try:
        yield
    except nats_errors.MaxPayloadError as e:
        raise TooLarge(f"{what}: the message is larger than NATS takes") from e
    except nats_errors.AuthorizationError as e:
        raise Forbidden(f"{what}: NATS refused the credential") from e
    except (nats_errors.BadSubjectError, nats_errors.BadHeaderError) as e:
        raise BadRequest(f"{what}: {e}") from e
    except nats_errors.NoServersError as e:
        if refused():
            raise Forbidden(f"{what}: NATS refused the credential") from e
        raise Unavailable(f"{what}: no NATS server can be reached") from e
    except (TimeoutError, nats_errors.Error, OSError) as e:
        if refused():
            raise Forbidden(f"{what}: NATS refused the credential") from e
        raise Unavailable(f"{what}: {str(e).removeprefix('nats: ') or type(e).__name__}") from e


class Inbox:
    """A subject of our own on which many messages may arrive. `get` fails at once when the connection breaks."""

    def __init__(self, subject: str, asked: str = "") -> None:
        self.subject = subject
        self.asked = asked  # the subject whose answers arrive here, where there is but one
        self._arrived: deque[Msg] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: ShoalError | None = None

    def put(self, message: Msg) -> None:
        self._arrived.append(message)
        self._wake()

    def fail(self, error: ShoalError) -> None:
        self._error = error
        self._wake()

    def get_nowait(self) -> Msg | None:
        return self._arrived.popleft() if self._arrived else None

    async def get(self, timeout: float) -> Msg:
        """The next message. Raises: Unavailable after `timeout` seconds of silence."""
        while not self._arrived:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            except TimeoutError:
                raise Unavailable(f"nothing arrived within {timeout:g} s") from None
            finally:
                self._waiter = None
        return self._arrived.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Subscription:
    def __init__(self, subject: str, stop: Callable[[], Awaitable[None]]) -> None:
        self.subject = subject
        self._stop = stop

    async def stop(self) -> None:
        """Handles what has arrived; nothing is handled after this returns."""
        await self._stop()


class Bus:
    """See the module. Made by `connecting.connect`, which also ends it.

    `connected` is set while NATS can be reached; `epoch` counts connections (a watch must list anew when it changes).
    `nc` is for the store alone.
    """

    def __init__(self, config: BusConfig, nc: NatsClient) -> None:
        self.config = config
        self.names = config.names
        self.nc = nc
        self.connected = asyncio.Event()
        self.on_state: list[Callable[[bool], None]] = []
        self.epoch = 0
        self._inboxes: dict[str, Inbox] = {}
        self._inbox_subject = ""
        self._deaf = False  # this connection may not listen for answers
        self._count = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- sending -------------------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        body: bytes | msgspec.Struct = b"",
        *,
        reply: str = "",
        traceparent: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hand one message to NATS: at most once. Raises: Unavailable while there is no connection, TooLarge."""
        await self.send(subject, _bytes(body), reply, _headers(headers, traceparent))

    async def send(self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """`publish` without conveniences, for the store's many messages."""
        if not self.nc.is_connected:
            raise Unavailable(f"{subject}: there is no connection to NATS")
        with translated(subject):
            await self.nc.publish(subject, data, reply, headers)

    async def request(
        self,
        subject: str,
        body: bytes | msgspec.Struct,
        reply: type[T],
        *,
        timeout: float = 5.0,
        traceparent: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Ask, and decode the answer as `reply` (`bytes`: as it is).

        Raises: the typed error that the other side answered; Unavailable if nobody answers.
        """
        answer = await self.ask(subject, _bytes(body), timeout=timeout, headers=_headers(headers, traceparent))
        if answer.headers and ERROR_CODE in answer.headers:
            raise _typed_error(answer)
        if reply is bytes:
            return answer.data  # type: ignore[return-value]
        try:
            return msgspec.json.decode(answer.data, type=reply)
        except msgspec.DecodeError as e:
            raise ShoalError(f"{subject}: the answer cannot be read: {e}") from e

    async def ask(
        self, subject: str, data: bytes = b"", *, timeout: float = 5.0, headers: dict[str, str] | None = None
    ) -> Msg:
        """One raw answer.

        Raises: Forbidden (the credential may not publish there, or hear no answer), Unanswered, Unavailable (nobody
        answered in time, no connection), TooLarge.
        """
        if self._deaf:
            raise _not_heard(subject, self._inbox_subject)
        with self.replies(subject) as inbox:
            await self.send(subject, data, inbox.subject, headers)
            try:
                answer = await inbox.get(timeout)
            except Unavailable as e:
                raise Unavailable(
                    f"{subject}: no answer within {timeout:g} s" if self.nc.is_connected else f"{subject}: {e}"
                ) from e
        if not answer.data and answer.headers and answer.headers.get("Status") == "503":
            raise Unanswered(f"{subject}: nobody listens there")
        return answer

    def new_id(self) -> str:
        """A unique token of 22 letters and digits."""
        return self.nc.new_inbox().rpartition(".")[2]

    # --- receiving -----------------------------------------------------------------------------------------------

    @contextmanager
    def replies(self, asked: str = "") -> Iterator[Inbox]:
        """An inbox for the answers to one message, on the connection's shared subscription."""
        token = str(next(self._count))
        inbox = self._inboxes[token] = Inbox(f"{self._inbox_subject}.{token}", asked)
        try:
            yield inbox
        finally:
            del self._inboxes[token]

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        """An inbox with a subscription of its own: for pulled messages, which keep their own subject."""
        inbox = Inbox(self.nc.new_inbox())

        async def arrived(message: Msg) -> None:
            inbox.put(message)

        if not self.nc.is_connected:
            raise Unavailable("there is no connection to NATS")
        with translated("subscribe"):
            sub = await self.nc.subscribe(inbox.subject, cb=arrived, pending_msgs_limit=0, pending_bytes_limit=0)
        self._inboxes[inbox.subject] = inbox
        try:
            yield inbox
        finally:
            del self._inboxes[inbox.subject]
            with suppress(nats_errors.Error, OSError):
                await sub.unsubscribe()

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` for each message, one at a time (rpc.serve: many at a time). What it raises is logged."""

        async def arrived(message: Msg) -> None:
            try:
                await handler(as_message(message))
            except Exception:
                log.exception("bus.handler_failed", subject=message.subject)

        with translated(subject):
            sub = await self.nc.subscribe(subject, queue=queue, cb=arrived)

        async def stop() -> None:
            with suppress(nats_errors.Error, OSError, TimeoutError):
                if self.nc.is_connected:
                    async with asyncio.timeout(STOP_TIMEOUT_S):
                        await sub.drain()  # type: ignore[no-untyped-call]
                else:
                    await sub.unsubscribe()

        return Subscription(subject, stop)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has read all that was sent, subscriptions included."""
        with translated("flush"):
            async with asyncio.timeout(timeout):
                await self.nc.flush()

    # --- life ----------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """A task that belongs to the connection: cancelled and awaited when that ends. An error in it is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bus.task_failed", task=task.get_name(), exc_info=error)

    # What `connect` calls:

    async def start(self) -> None:
        async def arrived(message: Msg) -> None:
            inbox = self._inboxes.get(message.subject.rpartition(".")[2])
            if inbox is not None:  # else its asker has given up
                inbox.put(message)

        self._inbox_subject = self.nc.new_inbox()
        await self.nc.subscribe(f"{self._inbox_subject}.*", cb=arrived, pending_msgs_limit=0, pending_bytes_limit=0)
        self.turned(connected=True)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(nats_errors.Error, OSError):
            await self.nc.close()

    def refused(self, error: Exception) -> bool:
        """Was it a right that the credential lacks? Then whoever waits for it is told at once, and the log."""
        found = _VIOLATION.search(str(error))
        if found is None:
            return False
        what, subject = found[1].lower(), found[2].lower()  # nats-py has lowered it already
        log.warning("bus.forbidden", what=what, subject=subject)
        if what == "subscription" and subject == f"{self._inbox_subject}.*".lower():
            self._deaf = True
        for inbox in list(self._inboxes.values()):
            if what == "publish" and inbox.asked.lower() == subject:
                inbox.fail(Forbidden(f"{inbox.asked}: NATS does not let this credential publish there"))
            elif what == "subscription" and inbox.subject.lower() == subject:
                inbox.fail(_not_heard(inbox.subject, inbox.subject))
            elif self._deaf and inbox.asked:
                inbox.fail(_not_heard(inbox.asked, self._inbox_subject))
        return True

    def turned(self, *, connected: bool) -> None:
        """The connection is there, or is not."""
        if connected:
            self.epoch += 1
            self.connected.set()
        else:
            self.connected.clear()
            self._deaf = False
            lost = Unavailable("the connection to NATS broke")
            for inbox in list(self._inboxes.values()):
                inbox.fail(lost)
        for callback in self.on_state:
            callback(connected)


def as_message(message: Msg) -> Message:
    return Message(message.subject, message.data, message.reply, message.headers or {})


def _bytes(body: bytes | msgspec.Struct) -> bytes:
    return body if isinstance(body, bytes) else msgspec.json.encode(body)


def _headers(headers: Mapping[str, str] | None, traceparent: str) -> dict[str, str] | None:
    if not traceparent:
        return dict(headers) if headers else None
    return {**(headers or {}), n.TRACEPARENT: traceparent}


def _not_heard(what: str, inbox: str) -> Forbidden:
    return Forbidden(f"{what}: NATS does not let this credential listen on {inbox}")


def _typed_error(answer: Msg) -> ShoalError:
    headers = answer.headers or {}
    try:
        return from_status(msgspec.json.decode(answer.data, type=Status))
    except msgspec.DecodeError:  # another's service: its text is all there is
        return ShoalError(headers.get(ERROR_TEXT) or f"error {headers.get(ERROR_CODE)}")
