"""Connecting to NATS: the credential is checked before, and while no server answers that is said once, not each time.

nats-py itself would try for ever with a file that is no credential, and could not tell a refusal from an absence.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from shoal.bus.client import NatsClient, pick_server
from shoal.bus.connection import Bus, translated
from shoal.config import BusConfig, without_password
from shoal.errors import Invalid
from shoal.telemetry.lazy import log

PING_EVERY_S = 2  # a connection that is cut off is noticed after three of these
CONNECT_TIMEOUT_S = 2
CONNECT_ONCE_S = 5.0


@asynccontextmanager
async def connect(config: BusConfig, *, name: str, wait: bool = True) -> AsyncIterator[Bus]:
    """Connect as `name` (seen in NATS' monitoring), and stay connected until the block ends.

    `wait`: for as long as no server answers, wait and say so once; else raise Unavailable after a try or two.

    Raises: Invalid for a credentials file or a CA that cannot be used.
    """
    _check_creds(config)
    tls = _tls(config)
    nc = NatsClient()
    bus = Bus(config, nc)
    waiting = _SayOnce(config)

    async def on_error(error: Exception) -> None:
        if not bus.epoch:
            waiting.failed(error)
        elif not bus.refused(error):
            log.debug("bus.error", error=str(error))

    async def on_disconnect() -> None:
        if not nc.is_closed:
            log.warning("bus.disconnected", servers=config.shown_servers)
        bus.turned(connected=False)

    async def on_reconnect() -> None:
        log.info("bus.reconnected", server=without_password(nc.connected_url.netloc) if nc.connected_url else "")
        bus.turned(connected=True)

    with translated(f"NATS at {config.shown_servers}", refused=lambda: waiting.refused):
        async with asyncio.timeout(None if wait else CONNECT_ONCE_S):
            await nc.connect(
                list(config.servers),
                name=name,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
                max_reconnect_attempts=-1 if wait else 1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]
                reconnect_to_server_handler=pick_server,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_EVERY_S,
                inbox_prefix=config.inbox_prefix,
                user_credentials=config.creds,
                tls=tls,
            )
        nc.options["max_reconnect_attempts"] = -1
        await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


class _SayOnce:
    """`refused`: a server answered last, and would not have the credential."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._said = False
        self.refused = False

    def failed(self, error: Exception) -> None:
        self.refused = "authorization" in str(error).lower() or "authentication" in str(error).lower()
        if not self._said:
            self._said = True
            log.warning("bus.waiting_for_nats", servers=self._config.shown_servers, error=str(error))


def _check_creds(config: BusConfig) -> None:
    """nats-py reads the file at each connect, for ever if it has no end that it knows. Raises: Invalid."""
    if config.creds is None:
        return
    import nkeys

    try:
        with open(config.creds, "rb") as file:  # noqa: PTH123  (as config.py)
            lines = [line.strip() for line in file]
        jwt, seed = (_line_after(mark, lines) for mark in (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED"))
        nkeys.from_seed(bytearray(seed)).wipe()
    except OSError as error:
        raise Invalid(f"{config.creds} cannot be read: {error.strerror}", path="NATS_CREDS") from None
    except (ValueError, nkeys.NkeysError):
        jwt = b""
    if not jwt:
        raise Invalid(f"{config.creds} is no credentials file (a user's JWT and nkey seed)", path="NATS_CREDS")


def _line_after(mark: bytes, lines: Sequence[bytes]) -> bytes:
    """b"" if there is none."""
    return next((after for line, after in pairwise(lines) if mark in line), b"")


def _tls(config: BusConfig) -> Any:
    """The CA signs servers only: a client checks the chain, not the name. Raises: Invalid."""
    if config.ca is None:
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=config.ca)
    except OSError as error:  # also ssl.SSLError
        raise Invalid(f"{config.ca} is no certificate of a CA: {error.strerror or error}", path="NATS_CA") from None
    context.check_hostname = False
    return context
