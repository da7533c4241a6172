"""Published manifests, one at a time: a durable pull consumer with explicit acks and one message in flight.

Whoever leads pulls. A message that is not acknowledged comes again, to the next leader: after `ACK_WAIT_S` if its
predecessor died, at once if it handed the message back.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import msgspec

from shoal import names as n
from shoal.bus import jetstream
from shoal.bus.client import Msg
from shoal.bus.connection import Bus, Inbox
from shoal.errors import ShoalError, Unavailable

ACK_WAIT_S = 3
WORKING_EVERY_S = 1.0
PULL_EXPIRES_S = 30
HEARTBEAT_S = 2
SILENCE_S = 3.0 * HEARTBEAT_S
_NS = 1_000_000_000


class Published(msgspec.Struct, frozen=True):
    """`stored_ns`: when JetStream took it, Unix time. `delivered`: how many times it came, from 1."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    delivered: int
    stored_ns: int
    ack: str

    @property
    def traceparent(self) -> str:
        return self.headers.get(n.TRACEPARENT, "")


class _Lost(Unavailable):
    """The pull is not answered any more: pull again."""


class Pull:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.names.manifests_stream
        self._consumer = bus.names.manifests_consumer

    async def prepare(self) -> str:
        """Make the consumer, or bring it up to date. The stream's date of birth: numbers begin anew in another one."""
        config = {
            "durable_name": self._consumer,
            "name": self._consumer,
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_S * _NS,
            "max_ack_pending": 1,
            "max_deliver": -1,
            "max_waiting": 16,
            "deliver_policy": "all",
            "filter_subject": self._bus.names.manifests_all,
        }
        body = {"stream_name": self._stream, "config": config}
        subject = f"CONSUMER.CREATE.{self._stream}.{self._consumer}.{self._bus.names.manifests_all}"
        await jetstream.api(self._bus, subject, body)
        answer = await jetstream.api(self._bus, f"STREAM.INFO.{self._stream}")
        return msgspec.json.decode(answer, type=_Info).created

    async def messages(self) -> AsyncIterator[Published]:
        """One after the other, each to be acknowledged before the next is asked for. Raises: Unavailable."""
        async with self._bus.inbox() as inbox:
            while True:
                body = {"batch": 1, "expires": PULL_EXPIRES_S * _NS, "idle_heartbeat": HEARTBEAT_S * _NS}
                subject = f"{self._bus.names.js}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
                await self._bus.send(subject, msgspec.json.encode(body), inbox.subject)
                found = await _next(inbox)
                if found is not None:
                    yield found

    async def done(self, message: Published) -> None:
        """Raises: Unavailable: it will come again, and the cursor says that it was done."""
        await self._bus.ask(message.ack, b"+ACK", timeout=2.0)

    async def working(self, message: Published) -> None:
        with suppress(ShoalError):
            await self._bus.send(message.ack, b"+WPI")

    async def hand_back(self, message: Published) -> None:
        """It comes again at once. Never raises: it comes again anyway."""
        with suppress(ShoalError):
            await self._bus.send(message.ack, b"-NAK")


async def _next(inbox: Inbox) -> Published | None:
    """None: the pull has ended without a message. Raises: Unavailable."""
    while True:
        message = await inbox.get(SILENCE_S)
        headers = message.headers or {}
        status = headers.get("Status") if not message.reply.startswith(n.JS_ACK) else None
        match status:
            case None:
                return _published(message)
            case "100":  # heartbeat
                continue
            case "404" | "408":
                return None
            case _:
                raise _Lost(f"the manifests consumer: {status} {headers.get('Description', '')}")


def _published(message: Msg) -> Published:
    """From $JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumer-sequence.time.pending[.token]."""
    tokens = message.reply.split(".")
    first = 6 if len(tokens) >= 11 else 4
    delivered, sequence, _, stored_ns = (int(t) for t in tokens[first : first + 4])
    return Published(
        message.subject, message.data, dict(message.headers or {}), sequence, delivered, stored_ns, message.reply
    )


class _Info(msgspec.Struct):
    created: str = ""
