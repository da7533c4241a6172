"""Take a node off its host: its containers, links, bridge, firewall rules, mounts and files. Needs no NATS.

Touches only what carries the cluster and the node that this state directory was registered for. Doing it twice is harmless.
"""

import asyncio
import shutil
from contextlib import suppress
from ipaddress import IPv4Network

from shoal.errors import ShoalError
from shoal.mounts import unmount_below
from shoal.net.netlink import Netlink, NetlinkError
from shoal.net.plumbing import apply_routes
from shoal.net.records import PROTOCOL_SHOAL
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.joining import read_registration
from shoal.node_agent.network import marks, remove_all
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.volumes import Volumes
from shoal.telemetry.logs import log

AT_ONCE = 6


async def clean(config: AgentConfig) -> None:
    """Raises: Unavailable if containers may be left because the engine does not answer."""
    registered = read_registration(config.state)
    if registered is None:
        log.info("clean.nothing", state=str(config.state))
        return
    runtime = Engine(config.docker_host, Owner(registered.cluster_uid, config.node))
    try:
        removed = await _containers(runtime)
        await runtime.remove_network(marks(registered.cluster_uid, config.node).bridge)
    finally:
        await runtime.close()
    with suppress(NetlinkError, PermissionError):
        await remove_all(marks(registered.cluster_uid, config.node))
        _routes(IPv4Network(registered.cluster_cidr))
    volumes = Volumes(config.state / "pods", shared=True)
    for uid in sorted(volumes.uids()):
        with suppress(ShoalError):
            volumes.release(uid)
    unmount_below(config.state)  # or what pods have of the host's by a subPath would be removed with it
    shutil.rmtree(config.state, ignore_errors=True)
    log.info("clean.done", containers=removed, state=str(config.state))


def _routes(cluster: IPv4Network) -> None:
    """Those that the proxy made to other nodes of this cluster; it leaves them when it ends."""
    with Netlink() as host:
        ours = host.routes(protocol=PROTOCOL_SHOAL)
        apply_routes(host, (), [r for r in ours if IPv4Network(r.destination).subnet_of(cluster)])


async def _containers(runtime: Engine) -> int:
    limit = asyncio.Semaphore(AT_ONCE)

    async def remove(container: str) -> None:
        async with limit:
            await runtime.remove(container)

    facts = await runtime.owned()
    async with asyncio.TaskGroup() as tasks:
        for fact in facts:
            tasks.create_task(remove(fact.id))
    for uid in {fact.labels.uid for fact in facts}:
        await runtime.remove_volumes(uid)
    return len(facts)
