"""Answering requests: many at a time, with typed errors, and visible to `nats micro`.

A request is handed to a task at once, so that a slow one holds up nobody; beyond a bound the answer is Overloaded.
Two guards against requests that are led where they do not belong (a sender may name any reply subject, and an import
may carry it on): a message whose subject is not what was subscribed is dropped, and so, where `reply_prefix` is set, is
one whose reply does not start with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec

from shoal import names as n
from shoal.bus.connection import ERROR_CODE, ERROR_TEXT, Bus, Message, Subscription
from shoal.errors import BadRequest, Overloaded, ShoalError, to_status
from shoal.telemetry.lazy import log
from shoal.wildcards import covers


class Request(msgspec.Struct, frozen=True):
    """One request. `tokens`: the subject's, taken apart and decoded after the cluster's prefix (`api`, user, verb, …)."""

    subject: str
    data: bytes
    tokens: tuple[str, ...]
    traceparent: str = ""

    @property
    def user(self) -> str:
        """Who asks, on an api subject: the server has checked it."""
        return self._token(1)

    @property
    def verb(self) -> str:
        return self._token(2)

    @property
    def resource(self) -> str:
        return self._token(3)

    @property
    def namespace(self) -> str:
        return self._token(4)

    @property
    def node(self) -> str:
        """Who reports, on a node's subject (`register`, `status`, `watch`, …) or is asked (`node`)."""
        return self._token(1)

    def _token(self, i: int) -> str:
        return self.tokens[i] if i < len(self.tokens) else ""


Reply = msgspec.Struct | bytes
Handler = Callable[[Request], Awaitable[Reply]]
Finished = Callable[[int, str], None]  # nanoseconds it took, the error's text ("" = none)


def matches(pattern: str, subject: str) -> bool:
    """NATS' wildcards. A literal `*` or `>` in the subject matches nothing: no sender has a right to it."""
    return not any(t in ("", "*", ">") for t in subject.split(".")) and covers(pattern, subject)


async def serve(
    bus: Bus,
    subject: str,
    handler: Handler,
    *,
    queue: str = "",
    limit: int = 64,
    reply_prefix: str = "",
    finished: Finished | None = None,
) -> Subscription:
    """Answer what arrives on `subject` (wildcards allowed), `limit` requests at a time.

    What `handler` raises is the answer: a ShoalError as its Status, anything else as an internal error, logged.
    `stop()` of what is returned lets the requests at work finish.
    """
    server = _Server(bus, handler, limit, finished or (lambda _ns, _error: None))

    async def arrived(message: Message) -> None:
        if not matches(subject, message.subject) or not message.reply.startswith(reply_prefix):
            log.warning("rpc.dropped", subject=message.subject, subscribed=subject)
            return
        await server.take(message)

    inner = await bus.subscribe(subject, arrived, queue=queue)

    async def stop() -> None:
        await inner.stop()
        await server.drain()

    return Subscription(subject, stop)


class _Server:
    def __init__(self, bus: Bus, handler: Handler, limit: int, finished: Finished) -> None:
        self._bus = bus
        self._handler = handler
        self._limit = limit
        self._finished = finished
        self._working: set[Any] = set()

    async def take(self, message: Message) -> None:
        if len(self._working) >= self._limit:
            await self._fail(message, Overloaded(f"{self._limit} requests are at work already, try again"), 0)
            return
        task = self._bus.spawn(self._work(message), name=f"serve {message.subject}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def drain(self) -> None:
        for task in list(self._working):
            await task

    async def _work(self, message: Message) -> None:
        began = time.perf_counter_ns()
        try:
            body = await self._handler(_request(self._bus.names, message))
        except ShoalError as error:
            await self._fail(message, error, began)
        except Exception as error:
            log.exception("rpc.handler_failed", subject=message.subject)
            await self._fail(message, ShoalError(f"internal error: {type(error).__name__}: {error}"), began)
        else:
            self._finished(time.perf_counter_ns() - began, "")
            await self._answer(message, body, None)

    async def _fail(self, message: Message, error: ShoalError, began: int) -> None:
        self._finished(time.perf_counter_ns() - began if began else 0, str(error))
        headers = {ERROR_TEXT: error.message.replace("\n", " "), ERROR_CODE: str(error.code)}
        await self._answer(message, to_status(error), headers)

    async def _answer(self, message: Message, body: Reply, headers: dict[str, str] | None) -> None:
        if not message.reply:
            return
        try:
            await self._bus.publish(message.reply, body, headers=headers)
        except ShoalError as error:  # the asker asks again
            log.info("rpc.answer_lost", subject=message.subject, error=str(error))


def _request(names: n.Names, message: Message) -> Request:
    tail = message.subject.removeprefix(f"{names.prefix}.").split(".")
    return Request(message.subject, message.data, tuple(n.untoken(t) for t in tail), message.traceparent)


def decode(request: Request, kind: type[msgspec.Struct]) -> Any:
    """The body as `kind`. Raises: BadRequest with the decoder's sentence (it names the path)."""
    try:
        return msgspec.json.decode(request.data or b"{}", type=kind)
    except msgspec.DecodeError as e:
        raise BadRequest(f"the request cannot be read: {e}") from e


# --- NATS' service protocol ---------------------------------------------------------------------------------------


class _Endpoint(msgspec.Struct):
    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str] = {}
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0

    def finished(self, nanoseconds: int, error: str) -> None:
        self.num_requests += 1
        self.processing_time += nanoseconds
        if error:
            self.num_errors += 1
            self.last_error = error


class MicroService:
    """A service as `nats micro ls`, `info` and `stats` see it (ADR-32 of nats-architecture-and-design).

    Not `nats.micro`: that works one request an endpoint at a time, so that a handler that hands off is counted before
    it did anything, and it echoes a request's headers in its answers.

        async with MicroService(bus, "shoal-api", version="0.1.0") as service:
            await service.add("get", names.api_endpoint("get"), get)
    """

    def __init__(self, bus: Bus, name: str, *, version: str, description: str = "", queue: str = "q") -> None:
        self._bus = bus
        self._identity = {"name": name, "id": bus.new_id(), "version": version, "metadata": dict[str, str]()}
        self._description = description
        self._queue = queue
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._endpoints: list[_Endpoint] = []
        self._subscriptions: list[Subscription] = []

    async def __aenter__(self) -> Self:
        for verb, answer in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            name, instance = str(self._identity["name"]), str(self._identity["id"])
            for subject in (n.micro(verb), n.micro(verb, name), n.micro(verb, name, instance)):
                self._subscriptions.append(await self._bus.subscribe(subject, self._control(answer)))
        return self

    async def __aexit__(self, *_: object) -> None:
        async with asyncio.TaskGroup() as stopping:  # what one of them waits for holds up no other
            for subscription in self._subscriptions:
                stopping.create_task(subscription.stop(), name=f"stop {subscription.subject}")

    async def add(self, name: str, subject: str, handler: Handler, *, limit: int = 64) -> None:
        """Serve one endpoint. Raises as `serve`'s handlers: see there."""
        endpoint = _Endpoint(name, subject, self._queue)
        self._endpoints.append(endpoint)
        self._subscriptions.append(
            await serve(self._bus, subject, handler, queue=self._queue, limit=limit, finished=endpoint.finished)
        )

    def _control(self, answer: Callable[[], dict[str, Any]]) -> Callable[[Message], Awaitable[None]]:
        async def reply(message: Message) -> None:
            if message.reply:
                await self._bus.publish(message.reply, msgspec.json.encode(self._identity | answer()))

        return reply

    def _ping(self) -> dict[str, Any]:
        return {"type": "io.nats.micro.v1.ping_response"}

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": e.name, "subject": e.subject, "queue_group": e.queue_group, "metadata": e.metadata}
            for e in self._endpoints
        ]
        return {
            "type": "io.nats.micro.v1.info_response",
            "description": self._description,
            "endpoints": endpoints,
        }

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            msgspec.structs.asdict(e) | {"average_processing_time": e.processing_time // max(1, e.num_requests)}
            for e in self._endpoints
        ]
        return {"type": "io.nats.micro.v1.stats_response", "started": self._started, "endpoints": endpoints}
