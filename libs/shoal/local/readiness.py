"""How a supervisor learns that one life of a process has become ready: the forms of `Program.ready`."""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

from shoal.local.notify import READY

POLL_S = 0.01
TRY_SECONDS = 5.0
PING = b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n"


class Readiness:
    """Open it before the process starts. `env` is what the process needs to tell."""

    def __init__(self, form: str, notify_path: Path) -> None:
        self._kind, _, self._where = form.partition(":")
        self._path = notify_path
        self._told = asyncio.Event()
        self._socket: socket.socket | None = None

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self._path)} if self._kind == "notify" else {}

    def __enter__(self) -> Self:
        if self._kind == "file":
            Path(self._where).unlink(missing_ok=True)
        if self._kind == "notify":
            self._path.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.bind(str(self._path))
            asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._socket is not None
        with suppress(OSError):
            if READY in self._socket.recv(4096).decode(errors="replace").split("\n"):
                self._told.set()

    async def wait(self) -> None:
        if self._kind == "notify":
            await self._told.wait()
        while not await self._holds():  # noqa: ASYNC110  (others tell nothing: they are asked)
            await asyncio.sleep(POLL_S)

    async def _holds(self) -> bool:
        match self._kind:
            case "file":
                return os.path.exists(self._where)  # noqa: ASYNC240, PTH110  (a local file)
            case "tcp":
                host, _, port = self._where.rpartition(":")
                return await _answers(host, int(port), greets=True)
            case "port":
                host, _, port = self._where.rpartition(":")
                return await _answers(host, int(port), greets=False)
            case "http":
                return await _pings(self._where)
            case _:
                return True


async def _answers(host: str, port: int, *, greets: bool) -> bool:
    """Something accepts there, and (`greets`) speaks first, as nats-server does."""
    try:
        async with asyncio.timeout(TRY_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return not greets or bool(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _pings(path: str) -> bool:
    try:
        async with asyncio.timeout(TRY_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(PING)
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
