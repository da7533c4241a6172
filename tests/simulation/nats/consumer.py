"""A pull consumer: what waits for it, who asks for it, and what was delivered and not acknowledged."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from tests.simulation.nats.stream import Stored, Stream

from shoal.wildcards import covers

NS = 1_000_000_000
Deliver = Callable[
    [str, str, bytes, dict[str, str]], None
]  # inbox, subject, data, headers; the reply is in the headers
Later = Callable[[float, Callable[[], None]], None]
REPLY = "reply"


class _Pull(msgspec.Struct):
    """One request for messages. Times are the loop's."""

    inbox: str
    batch: int
    bytes_left: int
    ends_at: float
    heartbeat_s: float
    beat_at: float


class _Pending(msgspec.Struct):
    sequence: int
    delivered: int
    due_at: float


class Consumer:
    """`deliver(inbox, subject, reply, data, headers)` hands a message to the server, on its way to whoever pulls."""

    def __init__(
        self,
        stream: Stream,
        config: Mapping[str, Any],
        *,
        clock: Callable[[], float],
        later: Later,
        deliver: Callable[[str, str, str, bytes, dict[str, str]], None],
    ) -> None:
        self.stream = stream
        self.config = dict(config)
        self.name = str(config.get("durable_name") or config["name"])
        self.filters = list(config.get("filter_subjects") or [config.get("filter_subject") or ">"])
        self.explicit = config.get("ack_policy") == "explicit"
        self.used_at = clock()
        self._clock = clock
        self._later = later
        self._deliver = deliver
        self._pulls: deque[_Pull] = deque()
        self._delivered = 0
        self._pending: dict[int, _Pending] = {}  # by stream sequence, explicit acks only
        self._again: deque[int] = deque()
        self._counts: dict[int, int] = {}
        self._first: deque[int] = deque()  # of the newest messages, at the time it was made
        self._at = 0
        self.deleted = False
        self._begin()

    def _begin(self) -> None:
        policy = self.config.get("deliver_policy", "all")
        if policy == "last_per_subject":
            self._first.extend(m.sequence for m in self.stream.newest_of(self.filters))
            self._at = self.stream.last_sequence
        elif policy == "by_start_sequence":
            self._at = int(self.config["opt_start_seq"]) - 1
        self._waiting = deque(m.sequence for m in self.stream.after(self._at, self.filters))
        self.stream.heard.append(self._stored)

    def end(self) -> None:
        self.deleted = True
        self.stream.heard.remove(self._stored)
        for pull in self._pulls:
            self._status(pull, "409", "Consumer Deleted")
        self._pulls.clear()

    def pending(self) -> int:
        there = self.stream.messages
        while self._waiting and self._waiting[0] not in there:
            self._waiting.popleft()
        while self._first and self._first[0] not in there:
            self._first.popleft()
        return sum(s in there for s in self._first) + sum(s in there for s in self._waiting)

    def _stored(self, message: Stored) -> None:
        if any(covers(f, message.subject) for f in self.filters):
            self._waiting.append(message.sequence)
            self._later(0.0, self.serve)

    # --- pulling ---

    def pull(self, inbox: str, body: Mapping[str, Any]) -> None:
        self.used_at = now = self._clock()
        heartbeat_s = body.get("idle_heartbeat", 0) / NS
        expires_s = body.get("expires", 0) / NS
        pull = _Pull(
            inbox=inbox,
            batch=int(body.get("batch", 1)),
            bytes_left=int(body.get("max_bytes") or 1 << 62),
            ends_at=now + expires_s,
            heartbeat_s=heartbeat_s,
            beat_at=now + heartbeat_s,
        )
        self._pulls.append(pull)
        self.serve()
        if pull in self._pulls:
            self._watch(pull)

    def _watch(self, pull: _Pull) -> None:
        """Heartbeats while nothing comes, and the end of the request."""
        wait = min(pull.ends_at, pull.beat_at if pull.heartbeat_s else pull.ends_at) - self._clock()

        def tick() -> None:
            if self.deleted or pull not in self._pulls:
                return
            now = self._clock()
            if now >= pull.ends_at:
                self._pulls.remove(pull)
                self._status(pull, "408", "Request Timeout", left=True)
                return
            if pull.heartbeat_s and now >= pull.beat_at:
                pull.beat_at = now + pull.heartbeat_s
                self._beat(pull)
            self._watch(pull)

        self._later(max(wait, 0.001), tick)

    def _beat(self, pull: _Pull) -> None:
        headers = {
            "Status": "100",
            "Description": "Idle Heartbeat",
            "Nats-Last-Consumer": str(self._delivered),
            "Nats-Last-Stream": str(self._at),
        }
        self._deliver(pull.inbox, pull.inbox, "", b"", headers)

    def _status(self, pull: _Pull, status: str, description: str, *, left: bool = False) -> None:
        headers = {"Status": status, "Description": description}
        if left:
            headers |= {"Nats-Pending-Messages": str(pull.batch), "Nats-Pending-Bytes": str(pull.bytes_left)}
        self._deliver(pull.inbox, pull.inbox, "", b"", headers)

    def serve(self) -> None:
        """Deliver what waits to who asks."""
        if self.deleted:
            return
        self.stream.expire()
        while self._pulls and (message := self._next()) is not None:
            pull = self._pulls[0]
            size = len(message.data) + len(message.subject)
            if size > pull.bytes_left:
                self._pulls.popleft()
                self._put_back(message.sequence)
                self._status(pull, "409", "Message Size Exceeds MaxBytes", left=True)
                continue
            pull.batch -= 1
            pull.bytes_left -= size
            pull.beat_at = self._clock() + pull.heartbeat_s
            self._send(pull, message)
            if pull.batch == 0:
                self._pulls.popleft()

    def _next(self) -> Stored | None:
        if self.explicit and len(self._pending) >= int(self.config.get("max_ack_pending", 1000)):
            return None
        for queue in (self._again, self._first, self._waiting):
            while queue:
                message = self.stream.messages.get(queue.popleft())
                if message is not None:
                    return message
        return None

    def _put_back(self, sequence: int) -> None:
        self._again.appendleft(sequence)

    def _send(self, pull: _Pull, message: Stored) -> None:
        self._delivered += 1
        self._at = max(self._at, message.sequence)
        count = self._counts[message.sequence] = self._counts.get(message.sequence, 0) + 1
        if self.explicit:
            self._await_ack(message.sequence, count)
        else:
            del self._counts[message.sequence]
        stored_ns = int(message.stored_at * 1000) * 1_000_000
        numbers = f"{count}.{message.sequence}.{self._delivered}.{stored_ns}.{self.pending()}"
        reply = f"$JS.ACK.{self.stream.name}.{self.name}.{numbers}"
        self._deliver(pull.inbox, message.subject, reply, message.data, dict(message.headers))

    # --- acknowledging ---

    def _await_ack(self, sequence: int, count: int) -> None:
        wait_s = self.config.get("ack_wait", 30 * NS) / NS
        pending = self._pending[sequence] = _Pending(sequence, count, self._clock() + wait_s)

        def tick() -> None:
            if self.deleted or self._pending.get(sequence) is not pending:
                return
            left = pending.due_at - self._clock()
            if left > 0:
                self._later(left, tick)
                return
            self._redeliver(sequence)

        self._later(wait_s, tick)

    def _redeliver(self, sequence: int) -> None:
        del self._pending[sequence]
        self._again.append(sequence)
        self.serve()

    def acknowledge(self, sequence: int, word: bytes) -> None:
        pending = self._pending.get(sequence)
        if pending is None:
            return
        if word.startswith(b"-NAK"):
            self._redeliver(sequence)
        elif word.startswith(b"+WPI"):
            pending.due_at = self._clock() + self.config.get("ack_wait", 30 * NS) / NS
        else:
            del self._pending[sequence]
            self._counts.pop(sequence, None)
            if self.stream.config.get("retention") == "workqueue":
                self.stream.remove(sequence)
            self.serve()
