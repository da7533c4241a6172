"""What stands in the place of nats-py's client, and the link between it and the server: where messages are late, lost
and doubled, and connections break.

A link keeps the order of what it carries (TCP), unless `Weather` says otherwise. While it is *cut* nothing arrives, and
all of it does once it is mended, unless the client has given the connection up meanwhile (NOTICED_AFTER_S); when it
*breaks*, what was under way is lost, in both directions: an acknowledgement too.
"""

import asyncio
import contextvars
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from tests.simulation.loop import Process, this_process
from tests.simulation.nats.server import MAX_PAYLOAD, Server

from shoal.bus.client import Msg, nats_errors

NOTICED_AFTER_S = 5.0  # two or three pings without an answer
LATENCY_S = (0.0002, 0.002)
TICK_S = 1e-7  # what arrives at the same moment has no order: timers are a heap


class Weather(msgspec.Struct):
    """How likely it is (0 to 1) that one message is lost, comes twice, or comes late and out of order."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_s: float = 0.5


class Link:
    """One connection's two directions. `weather` may change at any time."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, chance: random.Random) -> None:
        self.cut = False
        self.weather = Weather()
        self.generation = 0  # of the connection: what an older one carried never arrives
        self._server = server
        self._loop = loop
        self._chance = chance
        self._last = {True: 0.0, False: 0.0}  # when the newest message of each direction arrives
        self._held: list[tuple[int, Callable[[], None]]] = []

    @property
    def usable(self) -> bool:
        return self._server.up and not self.cut

    def carry(self, up: bool, arrive: Callable[[], None]) -> None:
        """`arrive` is called at the other end (`up`: the server's), if it gets there."""
        dice, weather = self._chance.random, self.weather
        if weather.lost and dice() < weather.lost:
            return
        copies = 2 if weather.doubled and dice() < weather.doubled else 1
        for _ in range(copies):
            due = self._loop.time() + self._chance.uniform(*LATENCY_S)
            if weather.late and dice() < weather.late:
                due += self._chance.uniform(0, weather.late_s)  # overtaken by what comes behind it
            else:
                due = self._last[up] = max(due, self._last[up] + TICK_S)
            self._loop.call_at(due, self._arrived, self.generation, arrive, context=_NOBODY)

    def _arrived(self, generation: int, arrive: Callable[[], None]) -> None:
        if self.cut:
            self._held.append((generation, arrive))
        elif generation == self.generation and self._server.up:
            arrive()

    def mend(self) -> None:
        self.cut = False
        held, self._held = self._held, []
        for generation, arrive in held:
            self._arrived(generation, arrive)

    def forget(self) -> None:
        """The connection is no more: what was under way is lost."""
        self.generation += 1
        self._held.clear()


_NOBODY = contextvars.Context()  # the way of a message is no process'


class _Subscription:
    def __init__(self, client: "Client", sid: int, subject: str, queue: str, cb: Callable[[Msg], Awaitable[None]]):
        self.subject, self.queue, self.sid = subject, queue, sid
        self._client = client
        self._cb = cb
        self._arrived: deque[Msg] = deque()
        self._working: asyncio.Task[None] | None = None

    def arrived(self, message: Msg) -> None:
        self._arrived.append(message)
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), name=f"on {self.subject}")

    async def _work(self) -> None:
        try:
            while self._arrived:
                await self._cb(self._arrived.popleft())
        finally:
            self._working = None

    async def unsubscribe(self) -> None:
        self._arrived.clear()
        self._client.drop(self)

    async def drain(self) -> None:
        self._client.drop(self)
        while self._arrived or self._working:
            await asyncio.sleep(0.001)


class Client:
    """nats-py's client as `Bus` uses it. Connects as the process that runs it."""

    max_payload = MAX_PAYLOAD
    connected_url = None

    def __init__(self, server: Server, link: Link, chance: random.Random) -> None:
        process = this_process()
        assert process is not None, "a client belongs to a process"
        self.process: Process = process
        self.link = link
        self.is_connected = False
        self.is_closed = False
        self.options: dict[str, Any] = {}
        self._server = server
        self._chance = chance
        self._subs: dict[int, _Subscription] = {}
        self._sids = itertools.count(1)
        self._inboxes = itertools.count(1)
        self._name = f"{process.name}-{chance.getrandbits(40):010x}".replace(".", "-").replace(" ", "-")
        self._reconnecting: asyncio.Task[None] | None = None
        process.at_death.append(self._gone)

    async def connect(self, _servers: Any, **options: Any) -> None:
        self.options = options
        while not self.link.usable:
            await options["error_cb"](ConnectionRefusedError("the server does not answer"))
            await asyncio.sleep(self._chance.uniform(0.1, 0.3))
        await self._handshake()

    async def _handshake(self) -> None:
        self.link.forget()
        self._server.unsubscribe(self)
        await self._round_trip(2.0)
        self.is_connected = True
        for sub in self._subs.values():
            self._subscribe(sub)

    async def _round_trip(self, timeout_s: float) -> None:
        """To the server and back, behind all that was sent before. Raises: TimeoutError."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard() -> None:
            if not answered.done():
                answered.set_result(None)

        self.link.carry(True, lambda: self.link.carry(False, lambda: self.process.call(heard)))
        async with asyncio.timeout(timeout_s):
            await answered

    def _subscribe(self, sub: _Subscription) -> None:
        self.link.carry(True, lambda: self._server.subscribe(self, sub.sid, sub.subject, sub.queue))

    async def subscribe(
        self, subject: str, *, queue: str = "", cb: Callable[[Msg], Awaitable[None]], **_limits: Any
    ) -> _Subscription:
        sub = _Subscription(self, next(self._sids), subject, queue, cb)
        self._subs[sub.sid] = sub
        if self.is_connected:
            self._subscribe(sub)
        return sub

    def drop(self, sub: _Subscription) -> None:
        if self._subs.pop(sub.sid, None) is not None and self.is_connected:
            self.link.carry(True, lambda: self._server.unsubscribe(self, sub.sid))

    async def publish(
        self, subject: str, data: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        if not self.is_connected:
            raise nats_errors.ConnectionClosedError
        if len(data) > self.max_payload:
            raise nats_errors.MaxPayloadError
        sent = dict(headers) if headers else None
        self.link.carry(True, lambda: self._server.publish(subject, data, reply, sent))

    def receive(self, sid: int, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        """From the server, on its way."""
        message = Msg(_client=None, subject=subject, reply=reply, data=data, headers=headers)  # type: ignore[arg-type]
        self.link.carry(False, lambda: self.process.call(self._arrived, sid, message))

    def _arrived(self, sid: int, message: Msg) -> None:
        sub = self._subs.get(sid)
        if sub is not None and not self.is_closed:
            sub.arrived(message)

    def new_inbox(self) -> str:
        return f"_INBOX.{self._name}{next(self._inboxes):x}{self._chance.getrandbits(40):010x}"  # no two end alike

    async def flush(self, timeout: float = 10) -> None:
        await self._round_trip(timeout)

    async def close(self) -> None:
        self.is_closed = True
        self.is_connected = False
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self._gone()

    def _gone(self) -> None:
        """The socket is closed: what was sent before still arrives."""
        self.link.carry(True, lambda: self._server.unsubscribe(self))

    # --- faults ---

    def broken(self) -> None:
        """The connection breaks. Called from outside."""
        self.link.forget()
        self._server.unsubscribe(self)
        self.process.call(self._lost)

    def _lost(self) -> None:
        if self.is_connected and not self.is_closed:
            self.is_connected = False
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect(), name="reconnect")

    async def _reconnect(self) -> None:
        await self.options["disconnected_cb"]()
        while not self.is_closed:
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))
            if not self.link.usable:
                continue
            try:
                await self._handshake()
            except TimeoutError:
                continue
            await self.options["reconnected_cb"]()
            return
