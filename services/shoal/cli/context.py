"""What a verb runs in: who asks, in which namespace, where the output goes, and the way to the cluster."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from shoal.errors import Unanswered, Unavailable

if TYPE_CHECKING:
    from shoal.client import Client

DEFAULT_NAMESPACE = "default"
DEFAULT_USER = "admin"
WHERE = 'eval "$(shoal env)" points at the cluster of this machine, `shoal up` starts one'


class Stream(Protocol):
    def fileno(self) -> int: ...


class Context:
    """One per run. `write` is for what was asked for, `note` for what a person should know (stderr)."""

    def __init__(
        self,
        env: Mapping[str, str] = os.environ,
        *,
        server: str | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        stdin: Stream | None = None,
        cluster: "Client | None" = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.env = {**env, "NATS_URL": server} if server else env
        self.user = env.get("SHOAL_USER") or DEFAULT_USER
        self.default_namespace = DEFAULT_NAMESPACE
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.stdin: Stream = stdin or sys.stdin
        self.now = now
        self._cluster = cluster

    def write(self, text: str) -> None:
        self.out.write(text)

    def flush(self) -> None:
        self.out.flush()

    def note(self, text: str) -> None:
        """One line on stderr, after what stdout has so far."""
        self.out.flush()
        self.err.write(text.rstrip("\n") + "\n")
        self.err.flush()

    def namespace(self, args: argparse.Namespace) -> str:
        found: str = args.namespace or self.default_namespace
        return found

    def namespaces(self, args: argparse.Namespace) -> str | None:
        """As `namespace`; None with -A."""
        return None if args.all_namespaces else self.namespace(args)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Client"]:
        """Raises: Unavailable if no NATS server answers."""
        if self._cluster is not None:
            yield self._cluster
            return
        from shoal.bus.connecting import connect
        from shoal.client import Client
        from shoal.config import bus_config
        from shoal.telemetry.lazy import silence

        silence()
        config = bus_config(self.env)
        async with AsyncExitStack() as stack:
            try:
                bus = await stack.enter_async_context(connect(config, name=f"shoal-cli {self.user}", wait=False))
            except Unavailable as e:
                raise Unavailable(e.message, hint=e.hint or WHERE) from e
            try:
                yield Client(bus, user=self.user)
            except (Unanswered, BaseExceptionGroup) as e:
                if isinstance(e, BaseExceptionGroup) and e.subgroup(Unanswered) is None:
                    raise
                sentence = f"NATS at {config.shown_servers} answers, but no api of Shoal does"
                raise Unavailable(sentence, hint=WHERE) from e
