"""Becoming a node: the engine answers, an api registers this host, and what it said is kept."""

import asyncio
from pathlib import Path

import msgspec

from shoal.bus.connection import Bus
from shoal.errors import AlreadyExists, Refused, Retryable, ShoalError
from shoal.node_agent import host as hosts
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.files import replace
from shoal.node_agent.network import marks
from shoal.node_agent.runtime.port import EngineInfo, Runtime
from shoal.telemetry.logs import log
from shoal.wire import RegisterReply, RegisterRequest

REGISTER_AGAIN_S = 1.0


async def engine_info(runtime: Runtime) -> EngineInfo:
    said = False
    while True:
        try:
            return await runtime.info()
        except Retryable as error:
            if not said:
                log.warning("engine.waiting", error=str(error))
                said = True
            await asyncio.sleep(REGISTER_AGAIN_S)


async def register(bus: Bus, config: AgentConfig, host: hosts.Host) -> RegisterReply:
    """Ask until an api answers. Raises: Refused (another host has the name; no range fits)."""
    uid = hosts.host_uid(config.state)
    known = read_registration(config.state)
    bridge = marks(known.cluster_uid, config.node).bridge if known else ""
    request = RegisterRequest(
        host_uid=uid,
        labels=hosts.node_labels(host),
        avoid=hosts.used_networks(bridge),
        version=hosts.shoal_version(),
    )
    said = False
    while True:
        try:
            reply = await bus.request(bus.names.register(config.node), request, RegisterReply)
        except (AlreadyExists, Refused):
            raise
        except (Retryable, ShoalError) as error:
            if not said:
                log.warning("register.waiting", node=config.node, error=str(error))
                said = True
            await asyncio.sleep(REGISTER_AGAIN_S)
        else:
            replace(config.state / "registration.json", msgspec.json.encode(reply))
            return reply


def read_registration(state: Path) -> RegisterReply | None:
    try:
        return msgspec.json.decode((state / "registration.json").read_bytes(), type=RegisterReply)
    except (OSError, msgspec.MsgspecError):
        return None
