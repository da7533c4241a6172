"""The `shoal` command as its users run it: a process of its own, against a real nats-server and an api."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.integration.api.conftest import api, client, start_api

from shoal.bus.connection import Bus

__all__ = ["api", "client", "start_api"]

SHOAL = Path(sys.executable).with_name("shoal")


class Ran(msgspec.Struct):
    code: int
    out: str
    err: str


Shoal = Callable[..., Awaitable[Ran]]


class Running:
    """A command that goes on: read what it prints, then interrupt it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 10)).decode().rstrip("\n")

    async def interrupt(self) -> Ran:
        self.process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(self.process.communicate(), 10)
        return Ran(self.process.returncode or 0, out.decode(), err.decode())


def environment(bus: Bus) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "SHOAL_", "OTEL_"))}
    return {**kept, "NATS_URL": bus.config.servers[0], "SHOAL_PREFIX": bus.names.prefix}


@pytest.fixture
def shoal(bus: Bus) -> Shoal:
    async def run(*words: str, stdin: str = "", **env: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            SHOAL, *words, env={**environment(bus), **env},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        return Ran(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest_asyncio.fixture
async def follow(bus: Bus) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    started: list[Any] = []

    async def start(*words: str) -> Running:
        process = await asyncio.create_subprocess_exec(
            SHOAL, *words, env=environment(bus), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        started.append(process)
        return Running(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()
