"""A container's log and a process's terminal, read by `read` alone: what nobody asks for stays in the engine (aiohttp stops
reading the socket after some 64 KiB), so that a log of any size passes in bounded memory.
"""

from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import msgspec
from aiodocker.stream import Stream

from shoal.node_agent.runtime.calls import Calls, translated
from shoal.node_agent.runtime.frames import Frames


class EngineLog:
    """A container's log; a terminal's has no frames."""

    def __init__(
        self, opened: AbstractAsyncContextManager[object], response: aiohttp.ClientResponse, *, raw: bool
    ) -> None:
        self._opened = opened
        self._response = response
        self._frames = None if raw else Frames()
        self._pieces: deque[tuple[int, bytes]] = deque()

    async def read(self) -> tuple[int, bytes] | None:
        while not self._pieces:
            with translated():
                data = await self._response.content.readany()
            if not data:
                return None
            self._pieces += self._frames.feed(data) if self._frames else [(1, data)]
        return self._pieces.popleft()

    async def close(self) -> None:
        await self._opened.__aexit__(None, None, None)


class EngineTerminal:
    """An exec's or a container's streams. `path`: what the engine calls it."""

    def __init__(self, calls: Calls, stream: Stream, path: str) -> None:
        self._calls = calls
        self._stream = stream
        self._path = path

    async def read(self) -> tuple[int, bytes] | None:
        with translated():
            message = await self._stream.read_out()
        return None if message is None else (message.stream, message.data)

    async def write(self, data: bytes) -> None:
        with translated():
            await self._stream.write_in(data)

    async def write_eof(self) -> None:
        """End its input and go on reading; aiodocker's own `close` ends both."""
        response = self._stream._resp  # noqa: SLF001
        transport = response.connection.transport if response is not None and response.connection else None
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    async def resize(self, width: int, height: int) -> None:
        await self._calls.call("POST", f"{self._path}/resize", {"w": str(width), "h": str(height)})

    async def exit_code(self) -> int | None:
        found = await self._look()
        code = found.get("ExitCode", found.get("State", {}).get("ExitCode"))
        running = found.get("Running", found.get("State", {}).get("Running", False))
        return None if running or code is None else int(code)

    async def close(self) -> None:
        with translated():
            await self._stream.close()

    async def _look(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(await self._calls.call("GET", f"{self._path}/json"))
        return found
