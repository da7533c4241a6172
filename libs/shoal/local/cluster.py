"""The processes of a cluster as programs of a supervisor: the same for `shoal up` and for a lab."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from shoal.local.engine import path_env
from shoal.local.nats_server import ServerConfig, nats_server_path, render
from shoal.local.program import Program

NATS = "nats"
CONTROL = ("api", "scheduler", "replica-controller")  # program → module with `_` for `-`
NODE = ("agent", "proxy")
NODE_MODULES = {"agent": "shoal.node_agent", "proxy": "shoal.service_proxy"}
READY_SECONDS = 60.0
SETTINGS = ("SHOAL_NODE_MASK", "SHOAL_LOG_LEVEL", "SHOAL_SANDBOX", "DOCKER_CONFIG")  # the user's to choose

Wrap = Callable[[list[str]], list[str]]


def plain(argv: list[str]) -> list[str]:
    return argv


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`host`, `port`: where nats-server listens. `store`: where it keeps its data. `extra`: environment for every process."""

    host: str
    port: int
    store: Path
    name: str = "shoal"
    cluster_cidr: str = "10.208.0.0/12"
    extra: dict[str, str] = {}

    @property
    def nats_url(self) -> str:
        return f"nats://{self.host}:{self.port}"


def base_env() -> dict[str, str]:
    """What a process of ours gets of this environment: all but what would point it elsewhere."""
    strange = ("NATS_", "SHOAL_", "DOCKER_", "OTEL_", "NOTIFY_SOCKET", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if k in SETTINGS or not k.startswith(strange)}
    return kept | {"PATH": path_env(), "SHOAL_LOG": "json", "MALLOC_ARENA_MAX": "2"}


def nats(spec: ClusterSpec, *, wrap: Wrap = plain) -> Program:
    spec.store.mkdir(parents=True, exist_ok=True)
    config = spec.store / "nats-server.conf"
    config.touch(mode=0o600)
    config.write_text(render(ServerConfig(host=spec.host, port=spec.port, name=spec.name), spec.store))
    return Program(
        name=NATS,
        argv=wrap([nats_server_path(), "-c", str(config)]),
        env={"PATH": path_env(), "GOMEMLIMIT": "64MiB"},
        ready=f"tcp:{spec.host}:{spec.port}",
    )


def control(spec: ClusterSpec, process: str, *, wrap: Wrap = plain) -> Program:
    """One of `CONTROL`."""
    env = {"NATS_URL": spec.nats_url, "SHOAL_CLUSTER_CIDR": spec.cluster_cidr}
    return _python(process, f"shoal.{process.replace('-', '_')}", base_env() | env | spec.extra, [NATS], wrap)


def node(
    spec: ClusterSpec,
    process: str,
    *,
    program: str,
    node: str,
    state: Path,
    socket: str,
    needs: list[str],
    extra: Mapping[str, str] | None = None,
    wrap: Wrap = plain,
) -> Program:
    """One of `NODE`, for the node of that name. `state`: its directory; `socket`: of its engine."""
    state.mkdir(parents=True, exist_ok=True)
    env = {
        "NATS_URL": spec.nats_url,
        "SHOAL_NODE": node,
        "SHOAL_STATE_DIR": str(state),
        "DOCKER_HOST": f"unix://{socket}",
        "SHOAL_CLUSTER_CIDR": spec.cluster_cidr,
    }
    return _python(program, NODE_MODULES[process], base_env() | env | spec.extra | dict(extra or {}), needs, wrap)


def _python(name: str, module: str, env: dict[str, str], needs: list[str], wrap: Wrap) -> Program:
    return Program(
        name=name,
        argv=wrap([sys.executable, "-m", module]),
        env=env,
        needs=needs,
        ready_seconds=READY_SECONDS,
    )
