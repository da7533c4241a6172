"""Serving requests: errors, overload, guards, and being seen by `nats micro`."""

import asyncio
from typing import Any

import msgspec
import pytest

from shoal.bus.connection import Bus
from shoal.bus.rpc import MicroService, Request, decode, serve
from shoal.errors import BadRequest, Conflict, NotFound, Overloaded, ShoalError, Unavailable
from shoal.wire import GetRequest, NodeWatchRequest


class Said(msgspec.Struct):
    words: str


async def test_a_handler_sees_who_asks_for_what(bus: Bus) -> None:
    async def tell(request: Request) -> Said:
        return Said(f"{request.user} {request.verb} {request.resource} {request.namespace} {request.traceparent}")

    await serve(bus, bus.names.api_endpoint("get"), tell)
    subject = bus.names.api("bob", "get", "widgets.example.com", "")
    assert await bus.request(subject, GetRequest(name="x"), Said, traceparent="00-a") == Said(
        "bob get widgets.example.com  00-a"
    )


async def test_what_a_handler_raises_is_raised_at_the_asker(bus: Bus) -> None:
    async def refuse(request: Request) -> bytes:
        match decode(request, GetRequest).name:
            case "conflict":
                raise Conflict("somebody was first", path="metadata.name", hint="read again")
            case "bug":
                raise ZeroDivisionError("of the handler's")
            case name:
                raise NotFound(f"no {name}\nanywhere")

    await serve(bus, "refuse", refuse)
    with pytest.raises(Conflict) as caught:
        await bus.request("refuse", GetRequest(name="conflict"), bytes)
    assert (caught.value.message, caught.value.path, caught.value.hint) == (
        "somebody was first",
        "metadata.name",
        "read again",
    )
    with pytest.raises(NotFound, match="no x\nanywhere"):
        await bus.request("refuse", GetRequest(name="x"), bytes)
    with pytest.raises(ShoalError, match="internal error: ZeroDivisionError"):
        await bus.request("refuse", GetRequest(name="bug"), bytes)
    with pytest.raises(BadRequest, match=r"\$\.name"):
        await bus.request("refuse", b'{"name":7}', bytes)


async def test_a_slow_request_holds_up_nobody_and_beyond_the_bound_is_overload(bus: Bus) -> None:
    go = asyncio.Event()
    started = asyncio.Semaphore(0)

    async def wait(request: Request) -> bytes:
        started.release()
        await go.wait()
        return request.data

    subscription = await serve(bus, "slow", wait, limit=2)
    slow = [asyncio.create_task(bus.request("slow", b"1", bytes)) for _ in range(2)]
    for _ in slow:
        await started.acquire()
    with pytest.raises(Overloaded, match="2 requests"):
        await bus.request("slow", b"3", bytes)
    stopping = asyncio.create_task(subscription.stop())
    go.set()
    assert await asyncio.gather(*slow) == [b"1", b"1"]
    await stopping
    with pytest.raises(Unavailable):
        await bus.request("slow", b"4", bytes)


async def test_a_request_led_here_under_another_subject_is_dropped(bus: Bus) -> None:
    """A reply subject can be led into a subscription: what arrives then bears another subject than was subscribed."""
    heard: list[str] = []

    async def note(request: Request) -> bytes:
        heard.append(request.subject)
        return b""

    await serve(bus, "status.*", note)
    assert await bus.request("status.n1", b"", bytes) == b""
    sid, sub = next((i, s) for i, s in bus.nc._subs.items() if s.subject == "status.*")
    await bus.nc._process_msg(sid, b"elsewhere.n2", b"", b"led here", b"")
    await bus.nc._process_msg(sid, b"status.*", b"", b"a literal wildcard", b"")
    await bus.request("status.n3", b"", bytes)
    assert heard == ["status.n1", "status.n3"]
    assert sub.pending_msgs == 0


async def test_a_request_whose_reply_is_not_of_the_wanted_kind_is_dropped(bus: Bus) -> None:
    async def answer(_request: Request) -> bytes:
        return b"yes"

    await serve(bus, "genuine", answer, reply_prefix="_R_.")
    with pytest.raises(Unavailable):
        await bus.request("genuine", b"", bytes, timeout=0.1)


async def test_an_answer_never_carries_headers_of_the_request(bus: Bus) -> None:
    async def answer(_request: Request) -> bytes:
        return b"yes"

    await serve(bus, "plain", answer)
    reply = await bus.ask("plain", b"", headers={"Nats-Rollup": "all"})
    assert reply.headers is None
    async with MicroService(bus, "svc", version="1.0.0"):
        assert (await bus.ask("$SRV.PING.svc", b"", headers={"Nats-Rollup": "all"})).headers is None


async def ask_micro(bus: Bus, verb: str, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(await bus.request(f"$SRV.{verb}.{name}", b"", bytes))
    return answer


async def test_nats_micro_sees_the_service_and_counts(bus: Bus) -> None:
    async def get(request: Request) -> bytes:
        if not request.data:
            raise BadRequest("empty")
        await asyncio.sleep(0.01)
        return b"x"

    async with MicroService(bus, "shoal-api", version="0.1.0", description="what people ask") as service:
        await service.add("get", bus.names.api_endpoint("get"), get)
        await service.add("list", bus.names.api_endpoint("list"), get)
        ping = await ask_micro(bus, "PING", "shoal-api")
        info = await ask_micro(bus, "INFO", "shoal-api")
        assert ping == {
            "type": "io.nats.micro.v1.ping_response",
            "name": "shoal-api",
            "id": info["id"],
            "version": "0.1.0",
            "metadata": {},
        }
        assert await ask_micro(bus, "PING", f"shoal-api.{info['id']}") == ping
        assert info["description"] == "what people ask"
        assert [(e["name"], e["subject"], e["queue_group"]) for e in info["endpoints"]] == [
            ("get", bus.names.api_endpoint("get"), "q"),
            ("list", bus.names.api_endpoint("list"), "q"),
        ]
        subject = bus.names.api("admin", "get", "pods", "default")
        await asyncio.gather(*(bus.request(subject, b"1", bytes) for _ in range(3)))
        with pytest.raises(BadRequest):
            await bus.request(subject, b"", bytes)
        stats = (await ask_micro(bus, "STATS", "shoal-api"))["endpoints"][0]
        assert (stats["num_requests"], stats["num_errors"], stats["last_error"]) == (4, 1, "empty")
        assert stats["processing_time"] > 30_000_000
        assert stats["average_processing_time"] == stats["processing_time"] // 4
    with pytest.raises(Unavailable):
        await bus.request("$SRV.PING.shoal-api", b"", bytes)


async def test_instances_share_an_endpoint_and_all_answer_for_themselves(bus: Bus, another: Any) -> None:
    second = await another()

    async def who(request: Request) -> bytes:
        return b"1"

    async with MicroService(bus, "shared", version="1.0.0") as a, MicroService(second, "shared", version="1.0.0") as b:
        for service in (a, b):
            await service.add("who", "who.*", who)
        await second.flush()
        await asyncio.gather(*(bus.request("who.me", NodeWatchRequest(), bytes) for _ in range(20)))
        with bus.replies() as inbox:
            await bus.publish("$SRV.STATS.shared", reply=inbox.subject)
            answers = [msgspec.json.decode((await inbox.get(2)).data) for _ in range(2)]
        assert sum(x["endpoints"][0]["num_requests"] for x in answers) == 20
        assert len({x["id"] for x in answers}) == 2
