"""What a process is told by its environment, read once at start."""

import os
from collections.abc import Mapping

import msgspec

from shoal.errors import Invalid
from shoal.names import JS_API, Names


class BusConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach NATS. `names` holds the prefix and the name of the JetStream API as this process sees it."""

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    creds: str | None = None
    ca: str | None = None
    inbox_prefix: str = "_INBOX"
    names: Names = Names()
    replicas: int = 1  # of every stream: 1 on one server, 3 on a cluster

    @property
    def shown_servers(self) -> str:
        """For people and logs: without user and password."""
        return ", ".join(without_password(server) for server in self.servers)


def without_password(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def bus_config(env: Mapping[str, str] = os.environ) -> BusConfig:
    """From `NATS_URL` (comma-separated), `NATS_CREDS`, `NATS_CA`, `NATS_INBOX_PREFIX`, `SHOAL_PREFIX`, `SHOAL_JS_API`,
    `SHOAL_REPLICAS`.

    Raises: Invalid if a file that is named does not exist, or the replicas are no number.
    """
    for name in ("NATS_CREDS", "NATS_CA"):
        if (path := env.get(name)) and not os.path.exists(path):  # noqa: PTH110  (pathlib costs start-up time of the CLI)
            raise Invalid(f"there is no file {path}", path=name)
    replicas = env.get("SHOAL_REPLICAS") or "1"
    if replicas not in {"1", "3", "5"}:
        raise Invalid(f"found {replicas[:20]!r}, expected 1, 3 or 5", path="SHOAL_REPLICAS")
    return BusConfig(
        servers=tuple(s.strip() for s in env.get("NATS_URL", "nats://127.0.0.1:4222").split(",") if s.strip()),
        creds=env.get("NATS_CREDS"),
        ca=env.get("NATS_CA"),
        inbox_prefix=env.get("NATS_INBOX_PREFIX", "_INBOX"),
        names=Names(prefix=env.get("SHOAL_PREFIX", "shoal"), js=env.get("SHOAL_JS_API", JS_API)),
        replicas=int(replicas),
    )
