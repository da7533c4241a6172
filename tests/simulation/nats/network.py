"""A loop, a server in memory, and processes that are connected to it: the ground of every simulation."""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from tests.simulation.loop import EPOCH, Loop, Process, this_process
from tests.simulation.nats.client import Client, Link
from tests.simulation.nats.server import Server

from shoal.bus import connecting


class Network:
    """While it is entered, every `connect` in a process of its loop is one to its server."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loop = Loop()
        self.server = Server(
            monotonic=self.loop.time,
            now=lambda: EPOCH + self.loop.time(),
            later=self._later,
            chance=random.Random(self.chance.random()),
        )
        self.clients: dict[str, Client] = {}
        self.links: dict[str, Link] = {}
        self._seam = patch.object(connecting, "NatsClient", self._client)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.loop.call_later(seconds, call, context=contextvars.Context())

    def _client(self) -> Client:
        process = this_process()
        assert process is not None
        client = Client(self.server, self.link(process.name), random.Random(self.chance.random()))
        self.clients[process.name] = client
        return client

    def link(self, name: str) -> Link:
        """The way of one process to the server; it outlives the process."""
        if name not in self.links:
            self.links[name] = Link(self.server, self.loop, random.Random(self.chance.random()))
        return self.links[name]

    def run(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """One process from its start to its end; what it returned."""
        process = Process(self.loop, name)
        process.run(work)
        assert process.task is not None
        return self.loop.run_until_complete(process.task)

    def __enter__(self) -> Self:
        self._seam.start()
        asyncio.set_event_loop(self.loop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._seam.stop()
        asyncio.set_event_loop(None)
        self.loop.close()
