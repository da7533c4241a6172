"""One connection: requests and their errors, and what happens when the server goes away or the cable is cut."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from shoal.bus.connecting import connect
from shoal.bus.connection import Bus, Message
from shoal.config import BusConfig
from shoal.errors import Invalid, TooLarge, Unavailable
from shoal.local.nats_server import NatsServer

pytestmark = pytest.mark.integration


class Question(msgspec.Struct):
    text: str


class Answer(msgspec.Struct):
    text: str


async def echo(bus: Bus, subject: str) -> None:
    async def answer(message: Message) -> None:
        text = msgspec.json.decode(message.data, type=Question).text
        await bus.publish(message.reply, Answer(text=f"{text} {message.traceparent}".strip()))

    await bus.subscribe(subject, answer)


async def test_a_request_is_answered_and_decoded_with_its_trace(bus: Bus) -> None:
    await echo(bus, "here")

    assert await bus.request("here", Question(text="hello"), Answer) == Answer("hello")
    assert await bus.request("here", Question(text="hello"), Answer, traceparent="00-1-2-01") == Answer(
        "hello 00-1-2-01"
    )
    assert await bus.request("here", Question(text="raw"), bytes) == b'{"text":"raw"}'


async def test_an_answer_with_an_error_is_raised_as_its_type(bus: Bus) -> None:
    async def refuse(message: Message) -> None:
        status = b'{"message":"not so","reason":"Invalid","code":422,"details":{"path":"spec.x","hint":"y"}}'
        await bus.publish(message.reply, status, headers={"Nats-Service-Error-Code": "422"})

    await bus.subscribe("refuses", refuse)

    with pytest.raises(Invalid, match=r"spec\.x: not so \(y\)"):
        await bus.request("refuses", b"", Answer)


async def test_nobody_there_is_unavailable_at_once_and_names_the_subject(bus: Bus) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"nobody\.there"):
        await bus.request("nobody.there", b"", bytes)
    assert time.monotonic() - began < 1


async def test_silence_is_unavailable_after_the_timeout(bus: Bus) -> None:
    async def silent(_message: Message) -> None: ...

    await bus.subscribe("silent", silent)
    with pytest.raises(Unavailable, match=r"silent.*0\.1 s"):
        await bus.request("silent", b"", bytes, timeout=0.1)


async def test_a_message_larger_than_the_server_takes_is_refused(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        await bus.publish("big", b"x" * (4 << 20 | 1))


async def test_a_failing_handler_does_not_end_its_subscription(bus: Bus) -> None:
    async def sometimes(message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("on purpose")
        await bus.publish(message.reply, message.data)

    await bus.subscribe("sometimes", sometimes)
    await bus.publish("sometimes", b"bad")
    assert await bus.request("sometimes", b"good", bytes) == b"good"


async def test_a_stopped_subscription_handles_what_arrived_and_nothing_more(bus: Bus) -> None:
    heard: list[bytes] = []

    async def note(message: Message) -> None:
        await asyncio.sleep(0.01)
        heard.append(message.data)

    subscription = await bus.subscribe("notes", note)
    for i in range(5):
        await bus.publish("notes", b"%d" % i)
    await subscription.stop()
    assert heard == [b"0", b"1", b"2", b"3", b"4"]
    await bus.publish("notes", b"late")
    await bus.flush()
    assert len(heard) == 5
    await subscription.stop()  # twice is harmless


async def test_a_queue_shares_the_work(bus: Bus, another: Callable[[], Awaitable[Bus]]) -> None:
    heard: list[int] = []

    async def join(member: Bus, number: int) -> None:
        async def note(message: Message) -> None:
            heard.append(number)
            await member.publish(message.reply, b"")

        await member.subscribe("work", note, queue="q")
        await member.flush()

    await join(bus, 1)
    await join(await another(), 2)
    for _ in range(50):
        await bus.request("work", b"", bytes)
    assert len(heard) == 50
    assert set(heard) == {1, 2}


async def test_without_a_server_connecting_once_fails_in_one_sentence() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"nats://127\.0\.0\.1:1"):
        async with connect(BusConfig(servers=("nats://127.0.0.1:1",)), name="once", wait=False):
            pass
    assert time.monotonic() - began < 1


async def test_a_process_waits_for_the_server(own_server: NatsServer) -> None:
    url = own_server.url
    await own_server.stop()

    async def first_words() -> int:
        async with connect(BusConfig(servers=(url,)), name="early") as bus:
            return bus.epoch

    early = asyncio.create_task(first_words())
    await asyncio.sleep(0)
    await own_server.start()
    assert await early == 1


async def test_subscriptions_survive_the_server_and_requests_fail_at_once(own_bus: Bus, own_server: NatsServer) -> None:
    states: list[bool] = []
    own_bus.on_state.append(states.append)
    await echo(own_bus, "here")

    async def never(_message: Message) -> None: ...

    await own_bus.subscribe("silent", never)
    waiting = asyncio.create_task(own_bus.request("silent", b"", bytes, timeout=60))
    await own_bus.flush()
    await own_server.kill()
    with pytest.raises(Unavailable, match=r"silent.*broke"):
        await waiting
    assert not own_bus.connected.is_set()
    with pytest.raises(Unavailable, match="there is no connection"):
        await own_bus.publish("here", b"")

    await own_server.start()
    await own_bus.connected.wait()
    assert own_bus.epoch == 2
    assert states == [False, True]
    assert await own_bus.request("here", Question(text="again"), Answer) == Answer("again")


async def test_what_was_not_sent_when_the_connection_broke_is_dropped(own_bus: Bus, own_server: NatsServer) -> None:
    """A write that its author has given up must not arrive later."""
    heard: list[bytes] = []

    async def note(message: Message) -> None:
        heard.append(message.data)

    await own_bus.subscribe("late", note)
    await own_bus.flush()
    own_server.send_signal(19)  # SIGSTOP: the connection is there, nothing is read
    filler = b"x" * (1 << 20)

    async def flood(subject: str, data: bytes) -> None:
        while True:
            await own_bus.publish(subject, data)

    with pytest.raises(TimeoutError):  # until the sockets' buffers are full
        await asyncio.wait_for(flood("filler", filler), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood("late", b"late" + filler), 0.2)
    await own_server.restart()
    await own_bus.connected.wait()
    await own_bus.publish("late", b"now")
    await own_bus.flush()
    assert [h[:4] for h in heard] == [b"now"]


async def test_a_cable_that_swallows_everything_is_noticed_and_left(cable: Any, bus: Bus) -> None:
    """No FIN, no RST: only pings tell. The old connection must not hold up the new one."""
    config = BusConfig(servers=(cable.url,), names=bus.names)
    async with connect(config, name="behind") as behind:
        await echo(behind, "behind")
        await behind.flush()
        cable.swallow()
        began = time.monotonic()
        while behind.connected.is_set():
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 10
        cable.heal()
        await behind.connected.wait()
        assert await bus.request("behind", Question(text="back"), Answer) == Answer("back")


async def test_an_error_of_the_server_does_not_end_the_connection(bus: Bus) -> None:
    """nats-py closes for good on any -ERR; an illegal protocol line draws one."""
    assert bus.nc._transport is not None
    bus.nc._transport.write(b"NONSENSE\r\n")
    while bus.epoch == 1:
        await asyncio.sleep(0.01)
    await echo(bus, "here")
    assert await bus.request("here", Question(text="still"), Answer) == Answer("still")


async def test_what_is_subscribed_while_away_hears_each_message_once(own_bus: Bus, own_server: NatsServer) -> None:
    heard: list[bytes] = []

    async def note(message: Message) -> None:
        heard.append(message.data)

    await own_server.kill()
    while own_bus.connected.is_set():
        await asyncio.sleep(0.01)
    await own_bus.subscribe("early", note)
    await own_server.start()
    await own_bus.connected.wait()
    for i in range(3):
        await own_bus.publish("early", b"%d" % i)
    await own_bus.flush()
    await own_bus.flush()
    assert heard == [b"0", b"1", b"2"]


async def test_leaving_while_the_server_is_away_takes_no_time(own_server: NatsServer) -> None:
    async with connect(BusConfig(servers=(own_server.url,)), name="leaves") as bus:
        await own_server.kill()
        while bus.connected.is_set():
            await asyncio.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 1


async def test_a_cancelled_publisher_ends(own_bus: Bus, own_server: NatsServer) -> None:
    """nats-py swallows the cancellation of a task that waits for room in its buffer."""
    own_server.send_signal(19)

    async def flood() -> None:
        while True:
            await own_bus.publish("flood", b"x" * (1 << 20))

    task = asyncio.create_task(flood())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    own_server.send_signal(18)


async def test_tasks_of_the_connection_end_with_it(bus_config: BusConfig) -> None:
    async with connect(bus_config, name="short") as short:
        task = short.spawn(asyncio.sleep(3600), name="long")
    assert task.cancelled()
