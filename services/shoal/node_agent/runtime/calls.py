"""Calls to the engine's HTTP API, by aiodocker. Its exceptions become ours here, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import aiodocker
import aiohttp
import msgspec

from shoal.errors import Unavailable
from shoal.node_agent.runtime.port import EngineError, EngineNotFound

ANSWER_S = 120.0  # an engine that takes longer for a call that does no waiting of its own hangs
API_VERSION = "v1.41"  # Docker Engine 20.10


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == 900:  # aiodocker's own: it could not connect
            raise Unavailable(error.message) from error
        kind = EngineNotFound if error.status == 404 else EngineError
        raise kind(str(error.message).strip(), status=error.status) from error
    except TimeoutError as error:
        raise Unavailable("the engine does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"the connection to the engine broke: {error}") from error


class Calls:
    """`host`: as DOCKER_HOST; "" finds the engine as every Docker client does."""

    def __init__(self, host: str) -> None:
        connector = None
        if host.startswith("unix://"):
            # More than aiohttp's 100 connections: each container that is being stopped holds one.
            connector = aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0)
            host = "unix://localhost"
        self.docker = aiodocker.Docker(url=host or None, connector=connector, api_version=API_VERSION)
        self._connector = connector

    async def close(self) -> None:
        await self.docker.close()
        if self._connector is not None:
            await self._connector.close()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        data: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One call, its answer open. aiodocker's `_query` is the one door that every call of it passes."""
        payload = data if data is None or isinstance(data, bytes) else msgspec.json.encode(data)
        kind = "application/x-tar" if isinstance(data, bytes) else "application/json"
        with translated():
            async with self.docker._query(  # noqa: SLF001
                path,
                method,
                params=dict(params) if params else None,
                data=payload,
                headers={"Content-Type": kind, **(headers or {})},
            ) as response:
                try:
                    yield response
                finally:
                    response.close() if not response.content.is_eof() else response.release()

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        data: object = None,
        *,
        limit_s: float = ANSWER_S,
    ) -> bytes:
        with translated():
            async with asyncio.timeout(limit_s), self.open(method, path, params, data) as response:
                return await response.read()


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """One JSON document a line; a last one without an end is of an engine that broke off, and is dropped. Not `readline`: a
    line may be longer than the reader's limit.
    """
    rest = b""
    while piece := await content.readany():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
