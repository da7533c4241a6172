"""A stream of JetStream in memory: the newest messages by subject, compare-and-set, atomic batches, times to live.

Only what Shoal relies on, as nats-server 2.14 does it; the suite in `test_memory_bus.py` asks the real server the same.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shoal.bus import jetstream as js
from shoal.wildcards import covers

EXPIRED = "MaxAge"
BATCH_MAX = 1000
BATCHES_OPEN_MAX = 50
BATCH_ABANDONED_S = 10.0


class Refused(Exception):
    """The server's answer instead of an acknowledgement."""

    def __init__(self, err_code: int, description: str, code: int = 400) -> None:
        super().__init__(description)
        self.body = {"code": code, "err_code": err_code, "description": description}


class Stored(msgspec.Struct, frozen=True):
    """One message as it lies in the stream. `stored_at`: Unix seconds."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    stored_at: float


class _Batch:
    def __init__(self, now: float) -> None:
        self.entries: list[tuple[str, bytes, dict[str, str]]] = []
        self.touched_at = now


class Stream:
    """`config`: as JetStream's API has it. `heard`: called with each message when it is stored."""

    def __init__(self, config: Mapping[str, Any], now: Callable[[], float]) -> None:
        self.config = dict(config)
        self.created_at = now()
        self.last_sequence = int(config.get("first_seq", 1) or 1) - 1
        self.messages: dict[int, Stored] = {}  # in order of sequence
        self.heard: list[Callable[[Stored], None]] = []
        self.removed: list[Callable[[int], None]] = []
        self._now = now
        self._takes: dict[str, bool] = {}
        self._by_subject: dict[str, list[int]] = {}  # sequences, oldest first
        self._expiring: list[tuple[float, int]] = []
        self._batches: dict[str, _Batch] = {}

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def takes(self, subject: str) -> bool:
        known = self._takes.get(subject)
        if known is None:
            known = self._takes[subject] = any(covers(pattern, subject) for pattern in self.config["subjects"])
        return known

    def last(self, subject: str) -> Stored | None:
        self.expire()
        sequences = self._by_subject.get(subject)
        return self.messages[sequences[-1]] if sequences else None

    def newest_of(self, filters: Iterable[str]) -> list[Stored]:
        """The newest message of each subject under `filters`, by sequence."""
        self.expire()
        wanted = list(filters)
        literal = [f for f in wanted if "*" not in f and ">" not in f]
        wild = [f for f in wanted if f not in literal]
        found = {s for s in literal if s in self._by_subject}
        for pattern in wild:
            found.update(s for s in self._by_subject if covers(pattern, s))
        return sorted((self.messages[self._by_subject[s][-1]] for s in found), key=lambda m: m.sequence)

    def after(self, sequence: int, filters: Iterable[str]) -> Iterator[Stored]:
        wanted = list(filters)
        for message in list(self.messages.values()):
            if message.sequence > sequence and any(covers(f, message.subject) for f in wanted):
                yield message

    # --- writing ---

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int | None:
        """The sequence of what was stored; None for an entry of a batch that is not complete. Raises: Refused."""
        self.expire()
        if js.BATCH_ID in headers:
            return self._batch_entry(subject, data, dict(headers))
        self._check(subject, headers, {})
        return self._store(subject, data, dict(headers))

    def _batch_entry(self, subject: str, data: bytes, headers: dict[str, str]) -> int | None:
        name, place = headers[js.BATCH_ID], int(headers[js.BATCH_SEQUENCE])
        if not self.config.get("allow_atomic"):
            raise Refused(10174, "atomic publish is disabled")
        now = self._now()
        for stale in [n for n, b in self._batches.items() if now - b.touched_at > BATCH_ABANDONED_S]:
            del self._batches[stale]
        if place == 1:
            if len(self._batches) >= BATCHES_OPEN_MAX:
                raise Refused(js.BATCH_TOO_MANY_IN_FLIGHT, "atomic publish too many inflight", 429)
            self._batches[name] = _Batch(now)
        batch = self._batches.get(name)
        if batch is None or place != len(batch.entries) + 1:
            self._batches.pop(name, None)
            raise Refused(js.BATCH_INCOMPLETE, "atomic publish batch is incomplete")
        if place > BATCH_MAX:
            del self._batches[name]
            raise Refused(10199, "atomic publish batch is too large: 1000")
        batch.entries.append((subject, data, headers))
        batch.touched_at = now
        if headers.get(js.BATCH_COMMIT) != "1":
            return None
        del self._batches[name]
        written: dict[str, None] = {}
        for entry_subject, _, entry_headers in batch.entries:
            self._check(entry_subject, entry_headers, written)
            written[entry_subject] = None
        sequence = 0
        for entry in batch.entries:
            sequence = self._store(*entry)
        return sequence

    def _check(self, subject: str, headers: Mapping[str, str], written: Mapping[str, None]) -> None:
        """Raises: Refused. `written`: subjects of the same batch, before this entry."""
        if (expected := headers.get(js.EXPECTED_REVISION)) is not None:
            compared = headers.get(js.EXPECTED_SUBJECT, subject)
            if compared in written:
                raise Refused(10164, "wrong last sequence: 0", 400)
            last = self.last(compared)
            there = last.sequence if last else 0
            if there != int(expected):
                raise Refused(js.WRONG_LAST_SEQUENCE, f"wrong last sequence: {there}")
        limit = self.config.get("max_msgs_per_subject", 0)
        per_subject = self.config.get("discard_new_per_subject", False)
        if per_subject and limit and len(self._by_subject.get(subject, ())) >= limit:
            raise Refused(js.STORE_FULL, "maximum messages per subject exceeded", 503)

    def _store(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        self.last_sequence += 1
        message = Stored(self.last_sequence, subject, data, headers, self._now())
        self.messages[message.sequence] = message
        kept = self._by_subject.setdefault(subject, [])
        kept.append(message.sequence)
        if (ttl := headers.get(js.MESSAGE_TTL)) and self.config.get("allow_msg_ttl"):
            heapq.heappush(self._expiring, (self._now() + float(ttl.removesuffix("s")), message.sequence))
        elif age := self.config.get("max_age"):
            heapq.heappush(self._expiring, (self._now() + age / 1e9, message.sequence))
        limit = self.config.get("max_msgs_per_subject", 0)
        while limit > 0 and len(kept) > limit:
            self.remove(kept[0])
        for listener in self.heard:
            listener(message)
        return message.sequence

    def remove(self, sequence: int) -> None:
        message = self.messages.pop(sequence, None)
        if message is None:
            return
        kept = self._by_subject[message.subject]
        kept.remove(sequence)
        if not kept:
            del self._by_subject[message.subject]
        for listener in self.removed:
            listener(sequence)

    def expire(self) -> None:
        while self._expiring and self._expiring[0][0] <= self._now():
            _, sequence = heapq.heappop(self._expiring)
            message = self.messages.get(sequence)
            if message is None:
                continue
            newest = self._by_subject[message.subject][-1] == sequence
            self.remove(sequence)
            marker_ns = self.config.get("subject_delete_marker_ttl", 0)
            if marker_ns and newest and js.MARKER_REASON not in message.headers:
                ttl = f"{marker_ns // 1_000_000_000}s"
                self._store(message.subject, b"", {js.MARKER_REASON: EXPIRED, js.MESSAGE_TTL: ttl})

    def next_expiry(self) -> float | None:
        """Unix seconds, None: nothing expires."""
        return self._expiring[0][0] if self._expiring else None
