"""The yardstick: the bare engine, driven through aiodocker, creating and starting plain containers.

A plain container is what `docker run -d` makes: one image, the engine's default network, no limits.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import aiodocker

_serial = itertools.count()


class BareEngine:
    """One engine. `close()` removes everything that it started."""

    def __init__(self, docker_host: str, image: str, command: Sequence[str]) -> None:
        self._docker = aiodocker.Docker(url=docker_host)
        self._config: dict[str, Any] = {"Image": image, "Cmd": list(command), "Labels": {"io.shoal.bench": "yardstick"}}
        self._made: list[Any] = []

    async def close(self) -> None:
        await self.clear()
        await self._docker.close()

    async def start_one(self) -> str:
        """Create and start one container. Its id."""
        container = await self._docker.containers.create(self._config, name=f"yardstick-{next(_serial)}")
        self._made.append(container)
        await container.start()
        return str(container.id)

    async def clear(self) -> None:
        made, self._made = self._made, []
        await at_once([partial(c.delete, force=True) for c in made], 4)


async def at_once(jobs: Sequence[Callable[[], Awaitable[Any]]], limit: int) -> None:
    """Run `jobs`, at most `limit` at a time."""
    gate = asyncio.Semaphore(limit)

    async def one(job: Callable[[], Awaitable[Any]]) -> None:
        async with gate:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(one(job))


async def start_many(engines: Sequence[BareEngine], each: int, limit: int) -> None:
    """Start `each` containers on each engine, at most `limit` at once on each."""
    await asyncio.gather(*(at_once([engine.start_one] * each, limit) for engine in engines))
