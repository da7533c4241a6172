"""The node's addresses in one small file, so that an agent that starts again knows them.

The file is written beside the loop, in one thread, so that a write that nobody waits for any more cannot overtake the
next one. All that changed while one was under way goes into the next.
"""

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from shoal.node_agent.addresses import Addresses
from shoal.node_agent.files import replace


class KeptAddresses:
    """`Addresses`, each change on disk before it is told. Raises where one waits: OSError; the change waits for the next."""

    def __init__(self, path: Path, cidr: str) -> None:
        self.pool = Addresses(cidr, _read(path))
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="addresses")
        self._turn = asyncio.Lock()
        self._on_disk = self.pool.version

    def of(self, uid: str) -> IPv4Address | None:
        return self.pool.of(uid)

    def interface(self, uid: str) -> IPv4Interface:
        """Raises: KeyError for a pod without an address."""
        return self.pool.interface(uid)

    async def give(self, uid: str) -> IPv4Address:
        """The pod's address; a new one if it has none. Raises: Exhausted."""
        given = self.pool.give(uid)
        await self.saved()
        return given

    async def free(self, uid: str) -> None:
        self.pool.free(uid)
        await self.saved()

    async def keep_only(self, uids: Collection[str]) -> tuple[str, ...]:
        """Free what belongs to none of these pods; the uids that lost theirs."""
        lost = self.pool.keep_only(uids)
        await self.saved()
        return lost

    async def saved(self) -> None:
        """What is so now is on disk when this returns."""
        wanted = self.pool.version
        async with self._turn:
            if self._on_disk >= wanted:
                return
            version, content = self.pool.version, self.pool.content()
            await asyncio.get_running_loop().run_in_executor(self._thread, replace, self._path, content)
            self._on_disk = version


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
