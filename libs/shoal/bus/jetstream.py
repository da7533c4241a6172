"""The few calls of JetStream's API that Shoal makes, raw: nats-py's own context knows neither batches nor fences."""

from typing import Any

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import Conflict, Overloaded, ShoalError, TooLarge, Unavailable

# err_code: nats-server's errors.json
WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
STREAM_NAME_IN_USE = 10058
MESSAGE_NOT_FOUND = 10037
MESSAGE_TOO_LARGE = 10054
STORE_FULL = 10077  # a stream's bound on bytes, or on messages a subject
BATCH_TOO_MANY_IN_FLIGHT = 10210
BATCH_INCOMPLETE = 10176

# Headers
EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
MESSAGE_TTL = "Nats-TTL"
OPERATION = "KV-Operation"
MARKER_REASON = "Nats-Marker-Reason"

API_TIMEOUT_S = 5.0


class ApiError(ShoalError):
    """What JetStream answered. `err_code` is the server's own number; callers translate the ones they expect."""

    def __init__(self, message: str, *, code: int, err_code: int) -> None:
        super().__init__(message)
        self.http_code = code
        self.err_code = err_code


class _Error(msgspec.Struct):
    code: int = 500
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


class PubAck(msgspec.Struct):
    seq: int = 0
    count: int = 0
    duplicate: bool = False
    error: _Error | None = None


async def api(bus: Bus, call: str, body: Any = None, *, timeout: float = API_TIMEOUT_S) -> bytes:
    """One call, `STREAM.INFO.<stream>` and the like, under the API's configured name. The answer's JSON.

    Raises: ApiError, Unavailable.
    """
    answer = await bus.ask(
        f"{bus.names.js}.{call}", b"" if body is None else msgspec.json.encode(body), timeout=timeout
    )
    if (error := msgspec.json.decode(answer.data, type=_Answer).error) is not None:
        if error.code == 503:  # no leader just now, shutting down
            raise Unavailable(f"{call}: {error.description}")
        raise ApiError(f"{call}: {error.description}", code=error.code, err_code=error.err_code)
    return answer.data


def read_ack(subject: str, data: bytes) -> PubAck:
    """The acknowledgement of a stored message.

    Raises: Conflict (its expectation failed), Overloaded (the stream is full), TooLarge, ApiError, Unavailable.
    """
    ack = msgspec.json.decode(data, type=PubAck)
    if (error := ack.error) is None:
        return ack
    if error.err_code == WRONG_LAST_SEQUENCE:
        raise Conflict(f"{subject} changed since it was read")
    if error.err_code == MESSAGE_TOO_LARGE:
        raise TooLarge(f"{subject}: the message is larger than its stream takes")
    if error.err_code == STORE_FULL:
        raise Overloaded(f"{subject}: {error.description}")
    if error.code == 503:  # no leader just now, shutting down
        raise Unavailable(f"{subject}: {error.description}")
    raise ApiError(f"{subject}: {error.description}", code=error.code, err_code=error.err_code)


async def publish(
    bus: Bus, subject: str, data: bytes, *, headers: dict[str, str] | None = None, timeout: float = API_TIMEOUT_S
) -> int:
    """Store one message in the stream that listens on `subject`; its sequence. Raises as `read_ack`."""
    answer = await bus.ask(subject, data, headers=headers, timeout=timeout)
    return read_ack(subject, answer.data).seq
