"""Several nats-servers that are one cluster, for tests of replicas."""

import asyncio
import socket
from pathlib import Path
from typing import Self

from shoal.local.nats_server import NatsServer, ServerConfig


class NatsCluster:
    """On one host, routed to each other. `urls`: of all members."""

    def __init__(self, directory: str | Path, size: int = 3, host: str = "127.0.0.1") -> None:
        self.directory = Path(directory)
        self.servers: list[NatsServer] = []
        self._size = size
        self._host = host

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.servers)

    async def __aenter__(self) -> Self:
        ports = _free_ports(self._host, 2 * self._size)
        routes = [f"nats://{self._host}:{port}" for port in ports[: self._size]]
        for i in range(self._size):
            config = ServerConfig(name=f"n{i + 1}", cluster="shoal", cluster_port=ports[i], routes=routes)
            self.servers.append(NatsServer(self.directory / f"n{i + 1}", self._host, ports[self._size + i], config))
        try:
            async with asyncio.TaskGroup() as starting:
                for server in self.servers:
                    starting.create_task(server.start(), name=f"start {server.config.name}")
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop()


def _free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on now (routes must be known before the servers start)."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
