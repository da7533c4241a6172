"""Which sandboxes this node's pods get: the fast one, which the agent plumbs itself, or one that the engine connects.

Both have their addresses from the node's one range, so that a node has one kind at a time. What runs decides first: its
pods keep the kind that they have, and new ones get it too; another setting is heeded once none of them runs and the
agent starts again. A setting alone ends no pod.
"""

import os
from contextlib import suppress

import msgspec

from shoal.errors import ShoalError
from shoal.net import nft
from shoal.net.netlink import NetlinkError
from shoal.node_agent.addresses import Addresses
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.network import Marks, PodNetwork, allow_forwarding, open_network, remove_all
from shoal.node_agent.runtime import pause
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.port import RUNNING, SANDBOX, EngineInfo, Runtime
from shoal.telemetry.logs import log

FAST, ENGINE = "fast", "engine"


class Sandboxes(msgspec.Struct, frozen=True, kw_only=True):
    """`network` None: the engine's own network, named `engine_network`. `kept`: why it is not as it was set; "" if it is."""

    network: PodNetwork | None = None
    engine_network: str = ""
    kept: str = ""


async def open_sandboxes(
    config: AgentConfig, runtime: Engine, engine: EngineInfo, node_marks: Marks, addresses: Addresses, cluster_cidr: str
) -> Sandboxes:
    """Raises: ShoalError if the kind that is demanded, or that pods run in, cannot be used."""
    held = await kind_that_runs(runtime, node_marks.bridge)
    cannot = _why_not_fast(config, engine)
    unwanted = "SHOAL_SANDBOX says engine" if config.sandbox == ENGINE else ""
    why = unwanted or cannot
    if held == FAST and cannot:
        raise ShoalError(f"pods of this node run in the fast sandbox, which cannot be used: {cannot}")
    kept = ""
    if held and (held == ENGINE) is not bool(why):
        why = "pods run in sandboxes of the engine" if held == ENGINE else ""
        wanted = FAST if held == ENGINE else ENGINE
        kept = f"pods run in the {held} sandbox: {wanted} is used when none of them runs and the agent starts again"
        log.warning("sandbox.kept", why=kept)
    if not why:
        try:
            if not held:
                await runtime.remove_network(node_marks.bridge)  # what the other way left, of the same range
            return Sandboxes(network=await open_network(node_marks, addresses.gateway, cluster_cidr), kept=kept)
        except (ShoalError, NetlinkError, OSError) as error:
            why = f"this host's network cannot be changed: {error}"
            if held == FAST:
                raise ShoalError(f"pods of this node run in the fast sandbox, which cannot be used: {why}") from error
    if config.sandbox == FAST and not kept:
        raise ShoalError(f"the fast sandbox cannot be used: {why}")
    log.warning("sandbox.engine", why=why)
    if not await runtime.has_network(node_marks.bridge):
        with suppress(OSError, ShoalError):  # what the fast way left, of the same range and name
            await remove_all(node_marks)
    await runtime.ensure_network(node_marks.bridge, _engine_network(node_marks, addresses))
    if not why_apart(config, engine):
        await allow_forwarding(node_marks)
    return Sandboxes(engine_network=node_marks.bridge, kept=kept)


async def ensure_image(runtime: Runtime, engine: EngineInfo, architecture: str) -> str:
    """The sandbox's image is there; its name. `architecture`: of the host, as images have it."""
    reference, archive = pause.image(engine.architecture)
    if await runtime.image(reference) is None:
        await runtime.import_image(reference, archive, platform=f"linux/{architecture}")
    return reference


async def kind_that_runs(runtime: Engine, bridge: str) -> str:
    """None ("") if no pod runs. The engine's network is there as long as that kind is in use, and no longer."""
    if not any(f.labels.container == SANDBOX and f.state == RUNNING for f in await runtime.owned()):
        return ""
    return ENGINE if await runtime.has_network(bridge) else FAST


def _engine_network(node_marks: Marks, addresses: Addresses) -> dict[str, object]:
    """The engine's own network with this node's range, for the sandbox that the engine makes. Its bridge has our name, so
    that the host's firewall can be told to let other nodes' pods through.
    """
    subnet = {"Subnet": str(addresses.network), "Gateway": str(addresses.gateway.ip)}
    return {
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Config": [subnet]},
        "Options": {"com.docker.network.bridge.name": node_marks.bridge},
    }


def why_apart(config: AgentConfig, engine: EngineInfo) -> str:
    """Why the engine cannot use the files that the agent makes, as it makes them; "" if it may."""
    if os.geteuid() != 0:
        return "the agent is not root"
    if engine.rootless or engine.remapped:
        return "the engine runs in a user namespace of its own"
    if not config.docker_host.startswith("unix://") and config.docker_host:
        return "the engine is on another host"
    return ""


def _why_not_fast(config: AgentConfig, engine: EngineInfo) -> str:
    if why := why_apart(config, engine):
        return why
    if not pause.supported(engine.architecture):
        return f"there is no sandbox program for {engine.architecture}"
    if not nft.available():
        return "nft is not installed"
    return ""
