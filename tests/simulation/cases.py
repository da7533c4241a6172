"""What the memory bus must do as nats-server does it. Each case returns what it saw, in plain values; the test runs it on
both and compares. A case uses only subjects under `bus.names`, so that two do not meet on one server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus, Inbox, Message
from shoal.errors import ShoalError
from shoal.store.consumers import state_source
from shoal.store.reads import read_from_leader, read_last, read_one

NS = 1_000_000_000
Case = Callable[[Bus], Awaitable[Any]]
CASES: list[Case] = []


def case(run: Case) -> Case:
    CASES.append(run)
    return run


# --- what the cases do ----------------------------------------------------------------------------------------------


async def put(bus: Bus, key: str, *, expected: int | None = None) -> Any:
    """The sequence, or the error's number."""
    headers = None if expected is None else {js.EXPECTED_REVISION: str(expected)}
    answer = await bus.ask(bus.names.state_subject(key), b"x", headers=headers)
    return _sequence(answer.data)


def _sequence(data: bytes) -> Any:
    if not data:
        return "empty"
    body = msgspec.json.decode(data)
    return body["error"]["err_code"] if "error" in body else body["seq"]


async def batch(bus: Bus, name: str, entries: list[tuple[str, dict[str, str]]], *, commit: bool = True) -> list[Any]:
    """What answered the first entry, and what the last."""
    answers: list[Any] = []
    for place, (key, headers) in enumerate(entries, 1):
        sent = headers | {js.BATCH_ID: name, js.BATCH_SEQUENCE: str(place)}
        subject = bus.names.state_subject(key)
        if place == len(entries) and commit:
            sent[js.BATCH_COMMIT] = "1"
        if place in (1, len(entries)):
            answers.append(_sequence((await bus.ask(subject, b"x", headers=sent)).data))
        else:
            await bus.send(subject, b"x", "", sent)
    return answers


async def keys(bus: Bus, *filters: str) -> Any:
    found, revision = await read_last(bus, state_source(bus.names), list(filters) or [">"])
    return [(k, s.entry.revision, s.entry.value, s.place) for k, s in sorted(found.items())], revision


async def make(bus: Bus, name: str, **config: Any) -> Any:
    body = {"stream_name": bus.names.state_stream, "config": {"name": name, "ack_policy": "none"} | config}
    answer = await js.api(bus, f"CONSUMER.CREATE.{bus.names.state_stream}.{name}", body | {"action": "create"})
    return msgspec.json.decode(answer)["num_pending"]


async def pull(bus: Bus, inbox: Inbox, name: str, stream: str = "", **request: Any) -> None:
    subject = f"{bus.names.js}.CONSUMER.MSG.NEXT.{stream or bus.names.state_stream}.{name}"
    await bus.send(subject, msgspec.json.encode(request), inbox.subject)


async def arrivals(bus: Bus, inbox: Inbox, count: int, *, within_s: float = 3.0) -> list[Any]:
    """The next messages: key, consumer's and stream's numbers and what is pending; of a status its words."""
    seen: list[Any] = []
    for _ in range(count):
        message = await inbox.get(within_s)
        headers = message.headers or {}
        if "Status" in headers and not message.reply.startswith("$JS.ACK"):
            named = ("Status", "Nats-Last-Consumer", "Nats-Last-Stream", "Nats-Pending-Messages")
            seen.append([headers[k] for k in named if k in headers])
        else:
            delivered, stream, consumer, _, pending = message.reply.split(".")[4:9]
            seen.append(
                (message.subject.removeprefix(bus.names.state_subject("")), delivered, stream, consumer, pending)
            )
    return seen


async def error(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except js.ApiError as e:
        return e.err_code
    except ShoalError as e:
        return type(e).__name__


# --- subjects ---------------------------------------------------------------------------------------------------------


@case
async def who_answers_nobody(bus: Bus) -> Any:
    return await error(bus.request(f"{bus.names.prefix}.nobody", b"", bytes))


@case
async def a_queue_group_gets_each_message_once(bus: Bus) -> Any:
    heard: list[str] = []

    async def one(message: Message) -> None:
        heard.append(message.subject.rpartition(".")[2])

    subject = f"{bus.names.prefix}.q"
    subscriptions = [await bus.subscribe(f"{subject}.*", one, queue="g") for _ in range(3)]
    subscriptions.append(await bus.subscribe(f"{subject}.>", one))
    for i in range(6):
        await bus.publish(f"{subject}.{i}")
    await bus.flush()
    await asyncio.sleep(0.1)
    for subscription in subscriptions:
        await subscription.stop()
    return sorted(heard)


@case
async def what_is_stored_is_also_heard(bus: Bus) -> Any:
    heard: list[tuple[str, bytes]] = []

    async def one(message: Message) -> None:
        heard.append((message.subject, message.data))

    subscription = await bus.subscribe(bus.names.lease_subject("g"), one)
    await bus.flush()
    await js.publish(bus, bus.names.lease_subject("g"), b"held")
    await asyncio.sleep(0.05)
    await subscription.stop()
    return len(heard), heard[0][1]


# --- compare and set --------------------------------------------------------------------------------------------------


@case
async def compare_and_set(bus: Bus) -> Any:
    return [
        await put(bus, "desired.a", expected=0),
        await put(bus, "desired.a", expected=0),
        await put(bus, "desired.a", expected=1),
        await put(bus, "desired.a", expected=1),
        await put(bus, "desired.b", expected=3),
        await put(bus, "desired.b"),
        await keys(bus),
    ]


@case
async def another_keys_revision_can_be_compared(bus: Bus) -> Any:
    token = bus.names.state_subject("system.leaders.g")
    fence = {js.EXPECTED_SUBJECT: token}
    return [
        await put(bus, "system.leaders.g"),
        await batch(bus, "b1", [("system.fence.g", fence | {js.EXPECTED_REVISION: "1"}), ("desired.a", {})]),
        await put(bus, "system.leaders.g"),
        await batch(bus, "b2", [("system.fence.g", fence | {js.EXPECTED_REVISION: "1"}), ("desired.b", {})]),
        await keys(bus),
    ]


@case
async def a_deleted_key_keeps_its_marker(bus: Bus) -> Any:
    marker = {js.OPERATION: "DEL", js.MESSAGE_TTL: "1s"}
    subject, source = bus.names.state_subject("desired.a"), state_source(bus.names)
    seen = [await put(bus, "desired.a")]
    await bus.ask(subject, b"", headers=marker | {js.EXPECTED_REVISION: "1"})
    seen.append((await read_one(bus, source, "desired.a"), await read_from_leader(bus, source, "desired.a")))
    seen.append(await put(bus, "desired.a", expected=0))
    await asyncio.sleep(1.6)
    seen.append((await read_one(bus, source, "desired.a"), await read_from_leader(bus, source, "desired.a")))
    seen.append(await put(bus, "desired.a", expected=0))
    return seen


# --- batches ------------------------------------------------------------------------------------------------------------


@case
async def a_batch_stands_whole_or_not(bus: Bus) -> Any:
    stale = {js.EXPECTED_REVISION: "7"}
    return [
        await batch(bus, "b1", [("desired.a", {}), ("desired.b", {}), ("desired.c", {})]),
        await batch(bus, "b2", [("desired.d", {}), ("desired.a", stale)]),
        await batch(bus, "b3", [("desired.d", {js.EXPECTED_REVISION: "0"})]),
        await keys(bus),
    ]


@case
async def a_key_twice_in_a_batch(bus: Bus) -> Any:
    compared = {js.EXPECTED_REVISION: "0"}
    return [
        await batch(bus, "b1", [("desired.a", {}), ("desired.a", {})]),
        await batch(bus, "b2", [("desired.b", compared), ("desired.b", compared)]),
        await keys(bus),
    ]


@case
async def a_batch_with_a_gap(bus: Bus) -> Any:
    first = {js.BATCH_ID: "gap", js.BATCH_SEQUENCE: "1"}
    third = {js.BATCH_ID: "gap", js.BATCH_SEQUENCE: "3", js.BATCH_COMMIT: "1"}
    a, b = bus.names.state_subject("desired.a"), bus.names.state_subject("desired.b")
    return [
        _sequence((await bus.ask(a, b"x", headers=first)).data),
        _sequence((await bus.ask(b, b"x", headers=third)).data),
        await keys(bus),
    ]


@case
async def a_batch_that_nobody_began(bus: Bus) -> Any:
    second = {js.BATCH_ID: "late", js.BATCH_SEQUENCE: "2", js.BATCH_COMMIT: "1"}
    return _sequence((await bus.ask(bus.names.state_subject("desired.a"), b"x", headers=second)).data)


# --- consumers ----------------------------------------------------------------------------------------------------------


@case
async def the_newest_of_each_key_then_what_comes(bus: Bus) -> Any:
    for key in ("desired.a", "desired.b", "desired.a", "other.c"):
        await put(bus, key)
    subjects = [bus.names.state_subject("desired.>")]
    seen: list[Any] = [await make(bus, "w", deliver_policy="last_per_subject", filter_subjects=subjects)]
    async with bus.inbox() as inbox:
        await pull(bus, inbox, "w", batch=10, expires=5 * NS, idle_heartbeat=NS // 2)
        seen += await arrivals(bus, inbox, 2)
        seen += await arrivals(bus, inbox, 1)
        await put(bus, "other.d")
        await put(bus, "desired.e")
        seen += await arrivals(bus, inbox, 1)
    return seen


@case
async def from_a_sequence_on(bus: Bus) -> Any:
    for key in ("desired.a", "desired.b", "desired.c", "desired.b"):
        await put(bus, key)
    subjects = [bus.names.state_subject("desired.b"), bus.names.state_subject("desired.c")]
    config = {"deliver_policy": "by_start_sequence", "opt_start_seq": 2, "filter_subjects": subjects}
    seen: list[Any] = [await make(bus, "w", **config)]
    async with bus.inbox() as inbox:
        await pull(bus, inbox, "w", batch=2, expires=5 * NS)
        seen += await arrivals(bus, inbox, 2)
    return seen


@case
async def a_pull_that_stays_empty(bus: Bus) -> Any:
    await make(bus, "w", deliver_policy="last_per_subject", filter_subjects=[bus.names.state_subject(">")])
    async with bus.inbox() as inbox:
        await pull(bus, inbox, "w", batch=5, expires=int(1.2 * NS), idle_heartbeat=NS // 2)
        return await arrivals(bus, inbox, 3)


@case
async def a_consumer_that_is_deleted(bus: Bus) -> Any:
    stream = bus.names.state_stream
    await make(bus, "w", deliver_policy="last_per_subject", filter_subjects=[bus.names.state_subject(">")])
    async with bus.inbox() as inbox:
        await pull(bus, inbox, "w", batch=5, expires=5 * NS)
        await bus.flush()
        await js.api(bus, f"CONSUMER.DELETE.{stream}.w")
        seen = await arrivals(bus, inbox, 1)
    return [seen, await error(js.api(bus, f"CONSUMER.DELETE.{stream}.w"))]


@case
async def a_pull_from_nothing(bus: Bus) -> Any:
    async with bus.inbox() as inbox:
        await pull(bus, inbox, "nothing", batch=5, expires=NS)
        return await arrivals(bus, inbox, 1)


@case
async def what_is_not_acknowledged_comes_again(bus: Bus) -> Any:
    stream = bus.names.manifests_stream
    subject = bus.names.manifests_all.replace("*", "admin", 1).replace("*", "_").replace(">", "_")
    for text in (b"one", b"two"):
        await js.publish(bus, subject, text)
    config = {"durable_name": "m", "name": "m", "ack_policy": "explicit", "ack_wait": NS, "max_ack_pending": 1}
    config |= {"deliver_policy": "all", "max_deliver": -1, "filter_subject": bus.names.manifests_all}
    await js.api(
        bus, f"CONSUMER.CREATE.{stream}.m.{bus.names.manifests_all}", {"stream_name": stream, "config": config}
    )
    seen: list[Any] = []
    async with bus.inbox() as inbox:

        async def take() -> str:
            await pull(bus, inbox, "m", stream, batch=1, expires=5 * NS)
            message = await inbox.get(5)
            seen.append((message.data, message.reply.split(".")[4:7]))
            return message.reply

        await take()
        await take()  # after a second
        await bus.send(await take_back(bus, await take()), b"")
        ack = await take()
        await bus.ask(ack, b"+ACK")
        await bus.ask(await take(), b"+ACK")
    info = msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{stream}"))
    return [seen, info["state"]["last_seq"], info["state"].get("messages", 0)]


async def take_back(bus: Bus, ack: str) -> str:
    await bus.send(ack, b"-NAK")
    return f"{bus.names.prefix}.nowhere"


# --- times to live ------------------------------------------------------------------------------------------------------


@case
async def a_lease_ends_with_a_marker(bus: Bus) -> Any:
    subject, stream = bus.names.lease_subject("g"), bus.names.leases_stream
    seen = [await js.publish(bus, subject, b"held", headers={js.EXPECTED_REVISION: "0", js.MESSAGE_TTL: "1"})]
    await asyncio.sleep(1.6)
    data = await js.api(bus, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    message = msgspec.json.decode(data)["message"]
    headers = msgspec.json.decode(msgspec.json.encode(message["hdrs"]), type=bytes).decode()
    seen += [message["seq"], js.MARKER_REASON in headers, "data" in message]
    seen.append(await error(js.publish(bus, subject, b"x", headers={js.EXPECTED_REVISION: "0"})))
    seen.append(await error(js.publish(bus, subject, b"x", headers={js.EXPECTED_REVISION: "2"})))
    return seen


# --- streams and reads ----------------------------------------------------------------------------------------------------


@case
async def reads_in_pages(bus: Bus) -> Any:
    for i in range(7):
        await put(bus, f"desired.k{i}")
    subject = f"{bus.names.js}.DIRECT.GET.{bus.names.state_stream}"
    body = {"multi_last": [bus.names.state_subject("desired.>")], "batch": 3}
    seen: list[Any] = []
    for first in (0, 4, 7, 99):
        async with bus.inbox() as inbox:
            await bus.send(subject, msgspec.json.encode(body | ({"seq": first} if first else {})), inbox.subject)
            while True:
                h = (await inbox.get(2)).headers or {}
                named = ("Status", "Nats-Sequence", "Nats-Num-Pending", "Nats-UpTo-Sequence")
                seen.append([h.get(k) for k in named])
                if "Status" in h:
                    break
    return seen


@case
async def what_is_not_there(bus: Bus) -> Any:
    stream, source = bus.names.state_stream, state_source(bus.names)
    return [
        await read_one(bus, source, "desired.none"),
        await read_from_leader(bus, source, "desired.none"),
        await keys(bus, "desired.>"),
        await error(js.api(bus, "STREAM.INFO.nothing_of_that_name")),
        await error(js.api(bus, f"CONSUMER.DELETE.{stream}.none")),
        await error(js.api(bus, f"STREAM.MSG.GET.{stream}", {"last_by_subj": bus.names.state_subject("none")})),
    ]


@case
async def a_stream_is_made_once(bus: Bus) -> Any:
    name = f"{bus.names.prefix}_made"
    config = {"name": name, "subjects": [f"{name}.>"], "storage": "memory"}
    return [
        await error(js.api(bus, f"STREAM.CREATE.{name}", config)) is not None,
        await error(js.api(bus, f"STREAM.CREATE.{name}", config)) is not None,
        await error(js.api(bus, f"STREAM.CREATE.{name}", config | {"max_msgs": 5})),
        msgspec.json.decode(await js.api(bus, f"STREAM.DELETE.{name}"))["success"],
        await error(js.api(bus, f"STREAM.INFO.{name}")),
    ]
