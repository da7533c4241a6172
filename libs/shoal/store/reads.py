"""Reading the newest entry of keys without a watch: JetStream's direct get, by many subjects at once.

Any replica answers, so that on a cluster an answer may lack the last write: a writer's compare-and-set makes that
harmless, and who must know asks the stream's leader (`read_from_leader`).
"""

import base64

import msgspec

from shoal import names as n
from shoal.bus import jetstream as js
from shoal.bus.client import Msg
from shoal.bus.connection import Bus
from shoal.errors import TooLarge, Unavailable
from shoal.store.records import Entry

PAGE = 1000
PAGE_BYTES = 4 << 20  # half of what the server holds for one client before it cuts it off
READ_TIMEOUT_S = 5.0


class Source(msgspec.Struct, frozen=True):
    """A stream as a set of keys: a key is a subject without `prefix`. Markers live `marker_ttl_s`."""

    stream: str
    prefix: str = ""
    marker_ttl_s: float = 3600.0

    def subject(self, key: str) -> str:
        return self.prefix + key

    def key(self, subject: str) -> str:
        return subject[len(self.prefix) :]


class Stored(msgspec.Struct, frozen=True):
    """An entry with the mark of the write that made it: the batch's or put's id, and the place in the batch (from 1)."""

    entry: Entry
    write_id: str
    place: int


def is_marker(headers: dict[str, str]) -> bool:
    return headers.get(js.OPERATION) in ("DEL", "PURGE") or js.MARKER_REASON in headers


def stored(source: Source, message: Msg) -> Stored:
    h = message.headers or {}
    entry = Entry(
        source.key(h["Nats-Subject"]),
        None if is_marker(h) else message.data,
        int(h["Nats-Sequence"]),
        h.get(n.TRACEPARENT, ""),
    )
    if js.BATCH_ID in h:
        return Stored(entry, h[js.BATCH_ID], int(h[js.BATCH_SEQUENCE]))
    return Stored(entry, h.get(n.WRITE_ID, ""), 1)


async def read_last(bus: Bus, source: Source, filters: list[str]) -> tuple[dict[str, Stored], int]:
    """The newest entry of every key under `filters` (keys or wildcards), markers too, and the revision at which that
    is so: 0 where there is nothing.

    Pages are not bound to the first one's revision: a key that changes meanwhile comes again, newer, so that the
    whole is exact at the last page's revision. Raises: TooLarge for more than 1,024 keys, Unavailable.
    """
    found: dict[str, Stored] = {}
    body: dict[str, object] = {
        "multi_last": [source.subject(f) for f in filters],
        "batch": PAGE,
        "max_bytes": PAGE_BYTES,
    }
    after = 0
    while True:
        if after:
            body["seq"] = after + 1
        page, pending, revision = await _page(bus, source, body)
        for item in page:
            found[item.entry.key] = item
            after = item.entry.revision
        if not pending or not page:
            return found, revision


async def _page(bus: Bus, source: Source, body: object) -> tuple[list[Stored], int, int]:
    subject = f"{bus.names.js}.DIRECT.GET.{source.stream}"
    items: list[Stored] = []
    with bus.replies() as inbox:
        await bus.send(subject, msgspec.json.encode(body), inbox.subject)
        while True:
            message = await inbox.get(READ_TIMEOUT_S)
            h = message.headers or {}
            match h.get("Status") if not message.data and "Nats-Sequence" not in h else None:
                case None:
                    items.append(stored(source, message))
                case "204":
                    return items, int(h.get("Nats-Num-Pending", 0)), int(h.get("Nats-UpTo-Sequence", 0))
                case "404":
                    return items, 0, 0
                case "413":
                    raise TooLarge(f"{source.stream}: more keys than one read can list")
                case status:
                    raise Unavailable(f"{subject}: {status} {h.get('Description', '')}")


async def read_one(bus: Bus, source: Source, key: str) -> Entry | None:
    """The newest entry of one key (a marker has value None); None if there is nothing."""
    subject = f"{bus.names.js}.DIRECT.GET.{source.stream}.{source.subject(key)}"
    message = await bus.ask(subject)
    h = message.headers or {}
    if "Nats-Sequence" in h:
        return stored(source, message).entry
    if h.get("Status") == "404":
        return None
    raise Unavailable(f"{subject}: {h.get('Status')} {h.get('Description', '')}")


class _LeaderMessage(msgspec.Struct):
    seq: int
    subject: str
    hdrs: str = ""
    data: str = ""


class _LeaderAnswer(msgspec.Struct):
    message: _LeaderMessage


async def read_from_leader(bus: Bus, source: Source, key: str, *, timeout: float = js.API_TIMEOUT_S) -> Entry | None:
    """`read_one`, answered by the stream's leader: every acknowledged write is in it. Raises: Unavailable, js.ApiError."""
    body = {"last_by_subj": source.subject(key)}
    try:
        data = await js.api(bus, f"STREAM.MSG.GET.{source.stream}", body, timeout=timeout)
    except js.ApiError as error:
        if error.err_code == js.MESSAGE_NOT_FOUND:
            return None
        raise
    message = msgspec.json.decode(data, type=_LeaderAnswer).message
    h = _parse_headers(base64.b64decode(message.hdrs))
    value = None if is_marker(h) else base64.b64decode(message.data)
    return Entry(key, value, message.seq, h.get(n.TRACEPARENT, ""))


def _parse_headers(raw: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n")[1:])
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


class _State(msgspec.Struct):
    last_seq: int


class _StreamInfo(msgspec.Struct):
    state: _State


async def last_revision(bus: Bus, source: Source) -> int:
    """The sequence of the stream's newest message, as its leader knows it."""
    return msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{source.stream}"), type=_StreamInfo).state.last_seq
