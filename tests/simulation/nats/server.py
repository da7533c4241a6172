"""A NATS server in memory: subjects, queue groups, and JetStream's API as far as Shoal uses it.

It is synchronous: a message is routed when it arrives. All that takes time, or goes wrong, happens on the way between a
client and here (`link.py`).
"""

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from tests.simulation.nats.consumer import NS, Consumer
from tests.simulation.nats.stream import Refused, Stored, Stream

from shoal.bus import jetstream as js
from shoal.wildcards import covers

API = "$JS.API"
MAX_PAYLOAD = 8 << 20


class Listener(Protocol):
    """A connection, as the server sees it."""

    def receive(self, sid: int, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None: ...


class _Subscription(msgspec.Struct):
    listener: Any
    sid: int
    subject: str
    queue: str


class Server:
    """`later(seconds, call)`: the loop's timer. `monotonic`, `now`: seconds of the loop, and of the wall."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
        chance: random.Random,
    ) -> None:
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.up = True
        self.lose = {"messages": 0, "writes": 0}  # how many of the next acknowledgements are lost
        self._monotonic = monotonic
        self._now = now
        self._later = later
        self._chance = chance
        self._literal: dict[str, list[_Subscription]] = {}
        self._wild: dict[str, list[_Subscription]] = {}  # by the first two tokens, "" where one of them is a wildcard

    # --- subjects ---

    def subscribe(self, listener: Listener, sid: int, subject: str, queue: str) -> None:
        made = _Subscription(listener, sid, subject, queue)
        where, key = self._place(subject)
        where.setdefault(key, []).append(made)

    def _place(self, subject: str) -> tuple[dict[str, list[_Subscription]], str]:
        if "*" not in subject and ">" not in subject:
            return self._literal, subject
        head = _head(subject)
        return self._wild, "" if "*" in head or ">" in head else head

    def unsubscribe(self, listener: Listener, sid: int | None = None) -> None:
        """One subscription, or (None) all that the connection has."""
        for where in (self._literal, self._wild):
            for key, there in list(where.items()):
                left = [s for s in there if s.listener is not listener or (sid is not None and s.sid != sid)]
                if left:
                    where[key] = left
                else:
                    del where[key]

    def publish(self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Route one message. Nobody there to answer a request is an answer (503), as the server's is."""
        if subject.startswith("$JS."):
            self._jetstream(subject, data, reply)
            return
        stored = self._store(subject, data, reply, headers or {})
        if not self._route(subject, subject, reply, data, headers) and not stored and reply:
            self._route(reply, reply, "", b"", {"Status": "503"})

    def _route(self, to: str, subject: str, reply: str, data: bytes, headers: Mapping[str, str] | None) -> bool:
        """To all that listen on `to`, one of each queue group; the message says `subject`."""
        found = list(self._literal.get(to, ()))
        for key in (_head(to), ""):
            found += [s for s in self._wild.get(key, ()) if covers(s.subject, to)]
        groups: dict[str, list[_Subscription]] = {}
        chosen = []
        for s in found:
            if s.queue:
                groups.setdefault(s.queue, []).append(s)
            else:
                chosen.append(s)
        chosen += [self._chance.choice(members) for members in groups.values()]
        for s in chosen:
            s.listener.receive(s.sid, subject, reply, data, dict(headers) if headers else None)
        return bool(chosen)

    def _answer(self, reply: str, body: Any) -> None:
        if reply:
            self._route(reply, reply, "", body if isinstance(body, bytes) else msgspec.json.encode(body), None)

    # --- streams ---

    def _store(self, subject: str, data: bytes, reply: str, headers: Mapping[str, str]) -> bool:
        for stream in self.streams.values():
            if not stream.takes(subject):
                continue
            try:
                sequence = stream.publish(subject, data, headers)
            except Refused as refused:
                self._answer(reply, {"error": refused.body, "stream": stream.name, "seq": 0})
                return True
            if sequence is not None and self._lost("writes"):
                return True
            if sequence is None:  # an entry of a batch: the first is answered empty
                self._answer(reply, b"")
            else:
                ack: dict[str, Any] = {"stream": stream.name, "seq": sequence}
                if js.BATCH_ID in headers:
                    ack |= {"batch": headers[js.BATCH_ID], "count": int(headers[js.BATCH_SEQUENCE])}
                self._answer(reply, ack)
            self._watch_expiry(stream)
            return True
        return False

    def _watch_expiry(self, stream: Stream) -> None:
        """A message that expires is noticed at its time: its marker is a message of its own."""
        at = stream.next_expiry()
        if at is None or at == getattr(stream, "expiry_watched", None):
            return
        stream.expiry_watched = at  # type: ignore[attr-defined]

        def look() -> None:
            stream.expire()
            self._watch_expiry(stream)

        self._later(max(0.0, at - self._now()) + 0.001, look)

    def _jetstream(self, subject: str, data: bytes, reply: str) -> None:
        tokens = subject.split(".")
        if subject.startswith("$JS.ACK."):
            consumer = self.consumers.get((tokens[2], tokens[3]))
            if data == b"+ACK" and self._lost("messages"):
                return
            if consumer is not None:
                consumer.acknowledge(int(tokens[5]), data)
                self._answer(reply, b"")
            return
        call = ".".join(tokens[2:4])
        handler = {
            "STREAM.INFO": self._stream_info,
            "STREAM.CREATE": self._stream_create,
            "STREAM.UPDATE": self._stream_update,
            "STREAM.DELETE": self._stream_delete,
            "STREAM.MSG": self._message_get,
            "CONSUMER.CREATE": self._consumer_create,
            "CONSUMER.DELETE": self._consumer_delete,
            "CONSUMER.MSG": self._consumer_next,
            "DIRECT.GET": self._direct_get,
        }[call]
        try:
            answer = handler(tokens, data, reply)
        except Refused as refused:
            answer = {"error": refused.body}
        if answer is not None:
            self._answer(reply, answer)

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise Refused(js.STREAM_NOT_FOUND, "stream not found", 404)
        return self.streams[name]

    def _stream_info(self, tokens: list[str], _data: bytes, _reply: str) -> Any:
        stream = self._stream(tokens[4])
        stream.expire()
        return _info(stream)

    def _stream_create(self, tokens: list[str], data: bytes, _reply: str) -> Any:
        config = msgspec.json.decode(data)
        there = self.streams.get(tokens[4])
        if there is not None and there.config != config:
            raise Refused(js.STREAM_NAME_IN_USE, "stream name already in use with a different configuration")
        if there is None:
            there = self.streams[tokens[4]] = Stream(config, self._now)
        return _info(there)

    def _stream_update(self, tokens: list[str], data: bytes, _reply: str) -> Any:
        stream = self._stream(tokens[4])
        stream.config = msgspec.json.decode(data)
        return _info(stream)

    def _stream_delete(self, tokens: list[str], _data: bytes, _reply: str) -> Any:
        self._stream(tokens[4])
        for key in [k for k in self.consumers if k[0] == tokens[4]]:
            self.consumers.pop(key).end()
        del self.streams[tokens[4]]
        return {"success": True}

    def _message_get(self, tokens: list[str], data: bytes, _reply: str) -> Any:
        """STREAM.MSG.GET.<stream>: the newest of a subject (which may be a wildcard)."""
        found = self._stream(tokens[5]).newest_of([msgspec.json.decode(data)["last_by_subj"]])
        if not found:
            raise Refused(js.MESSAGE_NOT_FOUND, "no message found", 404)
        message = found[-1]
        head = "NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in message.headers.items()) + "\r\n"
        encoded = {"hdrs": base64.b64encode(head.encode()).decode()} if message.headers else {}
        body = {"data": base64.b64encode(message.data).decode()} if message.data else {}
        return {"message": {"subject": message.subject, "seq": message.sequence} | encoded | body}

    def _direct_get(self, tokens: list[str], data: bytes, reply: str) -> Any:
        stream = self._stream(tokens[4])
        if len(tokens) > 5:
            message = stream.last(".".join(tokens[5:]))
            if message is None:
                self._route(reply, reply, "", b"", {"Status": "404", "Description": "Message Not Found"})
            else:
                self._route(reply, reply, "", message.data, _direct_headers(stream, message))
            return None
        body = msgspec.json.decode(data)
        there = stream.newest_of(body["multi_last"])
        found = [m for m in there if m.sequence >= body.get("seq", 0)]
        if len(found) > 1024:
            self._route(reply, reply, "", b"", {"Status": "413", "Description": "Too Many Results"})
            return None
        if not there:
            self._route(reply, reply, "", b"", {"Status": "404", "Description": "No Results"})
            return None
        upto = stream.last_sequence
        page, size = [], 0
        for message in found[: body["batch"]]:
            page.append(message)
            size += len(message.data) + len(message.subject)
            if size > body.get("max_bytes", 1 << 62):
                break
        for place, message in enumerate(page, 1):
            left = len(found) - place
            headers = _direct_headers(stream, message) | {"Nats-Num-Pending": str(left)}
            self._route(reply, reply, "", message.data, headers)
        end = {"Status": "204", "Description": "EOB", "Nats-Num-Pending": str(len(found) - len(page))}
        self._route(reply, reply, "", b"", end | {"Nats-UpTo-Sequence": str(upto)})
        return None

    # --- consumers ---

    def _consumer_create(self, tokens: list[str], data: bytes, _reply: str) -> Any:
        stream = self._stream(tokens[4])
        request = msgspec.json.decode(data)
        config, key = request["config"], (tokens[4], tokens[5])
        there = self.consumers.get(key)
        if there is not None and request.get("action") == "create" and there.config != config:
            raise Refused(10148, "consumer already exists")
        if there is None:
            there = self.consumers[key] = Consumer(
                stream, config, clock=self._monotonic, later=self._later, deliver=self._route_to
            )
            self._watch_inactive(key, there)
        return {"name": there.name, "stream_name": stream.name, "config": there.config, "num_pending": there.pending()}

    def _route_to(self, inbox: str, subject: str, reply: str, data: bytes, headers: dict[str, str]) -> None:
        self._route(inbox, subject, reply, data, headers)

    def _watch_inactive(self, key: tuple[str, str], consumer: Consumer) -> None:
        limit_s = consumer.config.get("inactive_threshold", 0) / NS
        if not limit_s:
            return

        def look() -> None:
            if self.consumers.get(key) is not consumer:
                return
            left = consumer.used_at + limit_s - self._monotonic()
            if left > 0:
                self._later(left, look)
            else:
                self.consumers.pop(key).end()

        self._later(limit_s, look)

    def _consumer_delete(self, tokens: list[str], _data: bytes, _reply: str) -> Any:
        self._stream(tokens[4])
        consumer = self.consumers.pop((tokens[4], tokens[5]), None)
        if consumer is None:
            raise Refused(js.CONSUMER_NOT_FOUND, "consumer not found", 404)
        consumer.end()
        return {"success": True}

    def _consumer_next(self, tokens: list[str], data: bytes, reply: str) -> Any:
        """CONSUMER.MSG.NEXT.<stream>.<consumer>"""
        consumer = self.consumers.get((tokens[5], tokens[6]))
        if consumer is None:
            self._route(reply, reply, "", b"", {"Status": "503"})
        else:
            consumer.pull(reply, msgspec.json.decode(data))
        return None

    # --- faults ---

    def _lost(self, what: str) -> bool:
        if not self.lose[what]:
            return False
        self.lose[what] -= 1
        return True

    def restart(self, *, lose_memory: bool = True) -> None:
        """As kill -9 and start: what is on disk stays, consumers in memory and open batches do not."""
        self._literal.clear()
        self._wild.clear()
        for key, consumer in list(self.consumers.items()):
            if consumer.config.get("mem_storage") and lose_memory:
                self.consumers.pop(key).end()


def _head(subject: str) -> str:
    """Its first two tokens."""
    return ".".join(subject.split(".", 2)[:2])


def _info(stream: Stream) -> dict[str, Any]:
    created = msgspec.json.decode(msgspec.json.encode(str(stream.created_at)))
    state = {"last_seq": stream.last_sequence, "messages": len(stream.messages)}
    return {"config": stream.config, "created": created, "state": state}


def _direct_headers(stream: Stream, message: Stored) -> dict[str, str]:
    return dict(message.headers) | {
        "Nats-Stream": stream.name,
        "Nats-Subject": message.subject,
        "Nats-Sequence": str(message.sequence),
    }
