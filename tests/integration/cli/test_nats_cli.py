"""The api as a NATS service, for whoever has only NATS' own command line."""

import asyncio
import json
import os

import pytest
from tests.e2e.programs import nats_cli
from tests.integration.cli.conftest import Shoal

from shoal.bus.connection import Bus
from shoal.names import API_SERVICE

pytestmark = pytest.mark.usefixtures("api")


async def micro(bus: Bus, *words: str) -> str:
    program = await asyncio.to_thread(nats_cli)
    if program is None:
        pytest.skip("the nats CLI is neither on the PATH nor where `go install` puts it")
    process = await asyncio.create_subprocess_exec(
        program, "--server", bus.config.servers[0], "micro", *words,
        env={**os.environ, "NATS_CONTEXT": "", "NATS_URL": ""}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_ls_lists_the_api(bus: Bus) -> None:
    assert API_SERVICE in await micro(bus, "ls")


async def test_info_names_every_verb_and_its_subject(bus: Bus) -> None:
    text = await micro(bus, "info", API_SERVICE)
    for verb in ("get", "list", "apply", "watch", "logs"):
        assert bus.names.api_endpoint(verb) in text


async def test_stats_count_what_was_asked(bus: Bus, shoal: Shoal) -> None:
    for _ in range(3):
        assert (await shoal("get", "nodes")).code == 0
    assert (await shoal("get", "pod/nope")).code == 1
    stats = json.loads(await micro(bus, "stats", API_SERVICE, "--json"))
    found = stats[0] if isinstance(stats, list) else stats
    by_name = {endpoint["name"]: endpoint for endpoint in found["endpoints"]}
    assert (by_name["list"]["num_requests"], by_name["list"]["num_errors"]) == (3, 0)
    assert (by_name["get"]["num_requests"], by_name["get"]["num_errors"]) == (1, 1)
