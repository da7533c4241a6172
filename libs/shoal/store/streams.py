"""The five streams, made or brought up to date by whichever process starts first.

The settings are NATS.md's (the first page of `docs/` says why each is there): rollup, purge and delete marker limits
are off where a header could reach them, the state alone takes atomic batches, and everything that may lose its newest
seconds in a power cut is spared the fsync.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import Unavailable
from shoal.names import Names
from shoal.store import moving
from shoal.store.records import OBJECT_BYTES_MAX
from shoal.telemetry.lazy import log

_MIB = 1 << 20
_NS = 1_000_000_000
HEADER_BYTES_MAX = 8192  # the server counts a message's headers into its size
STATE_BYTES_MAX = 2048 * _MIB  # 1,000,000 entries of 2 KB; full, it refuses new keys and takes updates and deletions
MANIFESTS_PER_SENDER_MAX = 1000
MARKER_TTL_NS = 60 * _NS  # of leases only
HOUR_NS = 3600 * _NS
DUPLICATES_NS = (
    100_000_000  # the least the server takes (0 means two minutes): Nats-Msg-Id is one space for all senders
)
READY_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 2.0  # a cluster that elects does not answer at all: ask again soon
RACED = frozenset({js.STREAM_NAME_IN_USE, js.STREAM_NOT_FOUND})  # another process was at it: look again

Config = dict[str, Any]


def stream_configs(names: Names, *, replicas: int = 1, state_bytes: int = STATE_BYTES_MAX) -> list[Config]:
    """What JetStream is asked for. `replicas` 1: one server; 3: a cluster, where `persist_mode: async` does not exist,
    so that leases live in memory instead (three copies of it).
    """
    soft = {"persist_mode": "async" if replicas == 1 else "default"}
    leases = {"storage": "file" if replicas == 1 else "memory", **soft}
    common = {
        "num_replicas": replicas,
        "duplicate_window": DUPLICATES_NS,
        "allow_direct": True,
        "max_msgs_per_subject": 1,
    }
    return [
        common
        | {
            "name": names.state_stream,
            "subjects": [names.state_subject(">")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msg_size": OBJECT_BYTES_MAX + HEADER_BYTES_MAX,
            "max_bytes": state_bytes,
            "allow_rollup_hdrs": False,
            "deny_delete": True,
            "deny_purge": True,
            "allow_atomic": True,
            "allow_msg_ttl": True,
        },
        common
        | leases
        | {
            "name": names.leases_stream,
            "subjects": [f"{names.leases_prefix}>"],
            "retention": "limits",
            "discard": "new",
            "max_bytes": 16 * _MIB,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": MARKER_TTL_NS,
        },
        common
        | {
            "name": names.manifests_stream,
            "subjects": [names.manifests_all],
            "storage": "file",
            "retention": "workqueue",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs_per_subject": MANIFESTS_PER_SENDER_MAX,
            "max_bytes": 256 * _MIB,
            "allow_rollup_hdrs": False,
        },
        common
        | soft
        | {
            "name": names.events_stream,
            "subjects": [f"{names.prefix}.events.>"],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_age": HOUR_NS,
            "max_bytes": 64 * _MIB,
            "max_msg_size": 65536,
            "allow_rollup_hdrs": False,
        },
        common
        | soft
        | {
            "name": names.outcomes_stream,
            "subjects": [names.outcomes_all],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_age": HOUR_NS,
            "max_bytes": 64 * _MIB,
            "allow_rollup_hdrs": False,
        },
    ]


async def ensure_streams(bus: Bus, *, replicas: int | None = None, state_bytes: int = STATE_BYTES_MAX) -> None:
    """Idempotent, and right when many processes do it at once. Waits for a cluster that is still electing.

    `replicas`: as the connection's configuration says, unless given. A stream that has more keeps them: a process that
    was not told of the cluster would lower what another raised.

    Raises: Unavailable if JetStream does not answer within 30 s.
    """
    precious = {bus.names.state_stream, bus.names.manifests_stream}
    least = replicas or bus.config.replicas

    def settings(number: int, replicas: int = least) -> Config:
        return stream_configs(bus.names, replicas=max(replicas, least), state_bytes=state_bytes)[number]

    for number, config in enumerate(stream_configs(bus.names)):
        await _patiently(bus, config["name"], partial(settings, number), precious=config["name"] in precious)


async def _patiently(bus: Bus, name: str, settings: Callable[..., Config], *, precious: bool) -> None:
    """`settings(replicas)`: with so many at least."""
    pause = 0.1
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                try:
                    return await _ensure(bus, name, settings, precious=precious)
                except (js.ApiError, Unavailable) as error:
                    if isinstance(error, js.ApiError) and error.http_code != 503 and error.err_code not in RACED:
                        raise
                    log.debug("streams.retry", stream=name, error=str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, 1.0)
    except TimeoutError:
        raise Unavailable(f"JetStream does not answer: stream {name} cannot be made") from None


class _Info(msgspec.Struct):
    config: Config


async def _ensure(bus: Bus, name: str, settings: Callable[..., Config], *, precious: bool) -> None:
    ask = partial(js.api, bus, timeout=ASK_TIMEOUT_S)
    try:
        answer = await ask(f"STREAM.INFO.{name}")
    except js.ApiError as error:
        if error.err_code != js.STREAM_NOT_FOUND:
            raise
        if not precious and (replicas := await moving.under_way(bus, name)):
            await moving.move(bus, name, settings(replicas))
            return
        await ask(f"STREAM.CREATE.{name}", settings())  # two at once with the same settings: both succeed
        return
    there = msgspec.json.decode(answer, type=_Info).config
    config = settings(there["num_replicas"])
    if not (differs := _differing(config, there)):
        return
    if not precious and ("mirror" in there or differs & {"storage", "persist_mode"}):
        await moving.move(bus, name, config)
        return
    log.info("streams.updated", stream=name, differs=sorted(differs))
    await ask(f"STREAM.UPDATE.{name}", there | config)


def _differing(wanted: Config, there: Config) -> set[str]:
    """Settings that are not as wanted. JetStream leaves out what is false or a default."""
    return {k for k, v in wanted.items() if there.get(k, _DEFAULTS.get(k, False)) != v}


_DEFAULTS = {"persist_mode": "default"}
