"""What the agent is told by its environment."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shoal.config import BusConfig
from shoal.errors import Invalid

SANDBOXES = ("auto", "fast", "engine")


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`address` "": that of the route to NATS. `sandbox`: fast, engine, or auto (fast where it can be). `host_root`:
    where the host's files are, for an agent in a container.
    """

    bus: BusConfig
    node: str
    state: Path
    docker_host: str = ""
    address: str = ""
    sandbox: str = "auto"
    host_root: Path = Path("/")


def agent_config(bus: BusConfig, env: Mapping[str, str] = os.environ) -> AgentConfig:
    """From SHOAL_NODE, SHOAL_STATE_DIR, DOCKER_HOST, SHOAL_ADDRESS, SHOAL_SANDBOX and SHOAL_HOST_ROOT.

    Raises: Invalid.
    """
    node = env.get("SHOAL_NODE") or socket.gethostname().partition(".")[0].lower()
    sandbox = env.get("SHOAL_SANDBOX") or "auto"
    if sandbox not in SANDBOXES:
        raise Invalid(f"{sandbox!r} is none of {', '.join(SANDBOXES)}", path="SHOAL_SANDBOX")
    return AgentConfig(
        bus=bus,
        node=node,
        state=Path(env.get("SHOAL_STATE_DIR") or f"/var/lib/shoal/{node}"),
        docker_host=env.get("DOCKER_HOST", ""),
        address=env.get("SHOAL_ADDRESS", ""),
        sandbox=sandbox,
        host_root=Path(env.get("SHOAL_HOST_ROOT") or "/"),
    )
