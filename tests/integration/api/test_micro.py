"""The api as NATS' own tools see it."""

import json
import shutil
import subprocess

import msgspec
import pytest

from shoal import wire
from shoal.bus.connection import Bus
from shoal.client import Client
from shoal.errors import NotFound
from shoal.local.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("api")

VERBS = {
    "apply", "create", "get", "list", "watch", "patch", "delete", "scale", "events", "logs", "exec", "attach", "session",
}  # fmt: skip


async def test_info_and_stats(bus: Bus, client: Client) -> None:
    await client.list("pods", None)
    with pytest.raises(NotFound):
        await client.get("pods", "", "x")
    ping = msgspec.json.decode(await bus.request("$SRV.PING.shoal-api", b"", bytes))
    assert (ping["name"], ping["type"]) == ("shoal-api", "io.nats.micro.v1.ping_response")
    info = msgspec.json.decode(await bus.request(f"$SRV.INFO.shoal-api.{ping['id']}", b"", bytes))
    assert {e["name"] for e in info["endpoints"]} == VERBS
    stats = msgspec.json.decode(await bus.request(f"$SRV.STATS.shoal-api.{ping['id']}", b"", bytes))
    by_name = {e["name"]: e for e in stats["endpoints"]}
    assert (by_name["list"]["num_requests"], by_name["list"]["num_errors"]) == (1, 0)
    assert (by_name["get"]["num_requests"], by_name["get"]["num_errors"]) == (1, 1)
    assert by_name["list"]["subject"] == bus.names.api_endpoint("list")


async def test_an_error_carries_the_headers_of_nats_services(bus: Bus, client: Client) -> None:
    answer = await bus.ask(bus.names.api("admin", "get", "pods", ""), msgspec.json.encode(wire.GetRequest(name="x")))
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "404"
    assert json.loads(answer.data)["reason"] == "NotFound"


@pytest.mark.skipif(not shutil.which("nats"), reason="the nats CLI is not installed")
async def test_the_nats_cli_lists_it(nats_server: NatsServer, client: Client) -> None:
    import asyncio

    shown = await asyncio.to_thread(
        subprocess.run,
        ["nats", "-s", nats_server.url, "micro", "stats", "shoal-api"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(verb in shown.stdout for verb in VERBS)
