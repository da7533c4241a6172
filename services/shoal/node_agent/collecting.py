"""Removes what no pod of this node has any more: files, addresses, links, what was kept of its status."""

import asyncio
from collections.abc import Callable

from shoal.errors import ShoalError
from shoal.node_agent.network import PodNetwork, link_name
from shoal.node_agent.node import Node
from shoal.telemetry.logs import log


class Collector:
    """`known`: the pods that are bound or at work. Asked anew after each wait: one that came meanwhile must not lose what
    it was just given.
    """

    def __init__(self, node: Node, network: PodNetwork | None, known: Callable[[], set[str]]) -> None:
        self._node = node
        self._network = network
        self._known = known

    async def collect(self) -> None:
        """What cannot be removed is said, stays, and keeps nothing else back."""
        await self._files()
        for uid in self._node.kept.uids() - self._known():
            self._node.kept.forget(uid)
        try:
            await self._node.addresses.keep_only(self._known())
        except OSError as error:
            log.warning("collect.addresses", error=str(error))
        try:
            await self._links()
        except (ShoalError, OSError) as error:
            log.warning("collect.links", error=str(error))

    async def _files(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(None, self._node.volumes.uids)
        except OSError as error:
            log.warning("collect.files", error=str(error))
            return
        for uid in sorted(found):
            if uid in self._known():
                continue
            try:
                await loop.run_in_executor(None, self._node.volumes.release, uid)
            except (ShoalError, OSError) as error:
                log.warning("collect.files", uid=uid, error=str(error))

    async def _links(self) -> None:
        if self._network is None:
            return
        there = await asyncio.get_running_loop().run_in_executor(None, self._network.links)
        await self._network.remove_links(there - {link_name(uid) for uid in self._known()})
