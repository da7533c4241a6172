"""README.md says how to deploy with any NATS client: its own blocks are run, as they stand there, against a lab."""

import asyncio
import os
import re
import sys
from pathlib import Path

import msgspec
import pytest
from tests.e2e.programs import go_path, nats_cli
from tests.e2e.world import pods, running

from shoal import wire
from shoal.client import Client
from shoal.errors import NotFound
from shoal.local.lab import Lab

ROOT = Path(__file__).parents[2]
PODS = {"clock": 1, "hello": 3}  # examples/hello.yaml, by their label `app`


def block(language: str, word: str) -> str:
    """The one block of that language that holds the word."""
    (found,) = (
        b for b in re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if word in b
    )
    return str(found)


async def run(argv: list[str], lab: Lab) -> str:
    env = {**os.environ, **lab.environment(), "PATH": go_path()}
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def runs(client: Client) -> None:
    """The example's pods do. Raises: TimeoutError."""
    async with asyncio.timeout(60):
        for app, count in PODS.items():
            while len(running(await pods(client, "default", f"app={app}"))) != count:
                await asyncio.sleep(0.2)


async def clear(client: Client) -> None:
    for resource, name in (("replicasets", "hello"), ("pods", "clock")):
        try:
            await client.delete(resource, "default", wire.DeleteRequest(name=name))
        except NotFound:
            continue
    async with asyncio.timeout(60):
        while any([await pods(client, "default", f"app={app}") for app in PODS]):
            await asyncio.sleep(0.2)


async def test_the_snippet_of_nats_py_deploys_the_example(lab: Lab, client: Client) -> None:
    code = block("python", "nats.connect")
    assert len(code.splitlines()) <= 5
    said = await run([sys.executable, "-c", code], lab)
    assert "shoal_manifests" in said
    await runs(client)
    await clear(client)


async def test_the_line_for_the_nats_cli_deploys_the_example(lab: Lab, client: Client) -> None:
    if await asyncio.to_thread(nats_cli) is None:
        pytest.skip("there is no nats CLI: Go, which installs one, is not there")
    said = await run(["bash", "-ec", block("sh", "nats pub")], lab)
    assert "Stored in Stream: shoal_manifests" in said
    await runs(client)
    await clear(client)


async def test_the_service_is_seen_by_nats_micro(lab: Lab, client: Client) -> None:
    """`nats micro ls` and `nats micro stats`, in their own protocol."""
    reply = await client.bus.nc.request("$SRV.STATS.shoal-api", b"", timeout=5)
    stats = msgspec.json.decode(reply.data)
    assert stats["name"] == "shoal-api"
    assert {"apply", "get", "list", "watch", "patch", "delete"} <= {e["name"] for e in stats["endpoints"]}
