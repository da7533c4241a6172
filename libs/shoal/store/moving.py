"""A stream under new settings that JetStream does not change in place (storage, persist mode), with what is in it.

    name (old) ──mirrored──▶ name_copy ──mirrored──▶ name (new)

JetStream refuses to update an async stream to replicas (tried on 2.15), so that going from one server to three copies
it, by mirrors, which keep sequences, times and headers. Meanwhile nothing can be published to it: whoever tries is not
answered, and tries again. Each step leaves a state from which any process goes on, and may be done twice; but for the
removal of the old stream, which only the process does that made the copy (its name is taken then), or one that finds a
copy whose maker must be dead.
"""

import asyncio
import datetime as dt
from typing import Any

import msgspec

from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import Unavailable
from shoal.telemetry.lazy import log

ABANDONED_AFTER_S = 20.0
LOOK_EVERY_S = 0.05
NOT_OF_A_MIRROR = ("subjects", "duplicate_window", "subject_delete_marker_ttl")

Config = dict[str, Any]


class _Mirror(msgspec.Struct):
    lag: int = 0
    active: int = -1  # nanoseconds since it heard of its source; -1: never


class _State(msgspec.Struct):
    messages: int = 0


class _Info(msgspec.Struct):
    config: Config
    created: str
    ts: str
    state: _State
    mirror: _Mirror | None = None

    @property
    def age_s(self) -> float:
        now, created = (dt.datetime.fromisoformat(t[:19]) for t in (self.ts, self.created))
        return (now - created).total_seconds()


async def under_way(bus: Bus, name: str) -> int:
    """Asked when there is no such stream: to how many replicas is it being moved? 0: it is not."""
    there = await _look(bus, _copy(name))
    return int(there.config["num_replicas"]) if there is not None else 0


async def move(bus: Bus, name: str, config: Config) -> None:
    """From wherever it stands. Raises: Unavailable, js.ApiError: look again, and call it again."""
    copy = _copy(name)
    there = await _look(bus, name)
    if there is not None and "mirror" not in there.config:
        await _into_copy(bus, name, copy, config)
        there = None
    if there is None:
        await js.api(bus, f"STREAM.UPDATE.{copy}", _without(config, "subject_delete_marker_ttl") | _own(copy))
        await js.api(bus, f"STREAM.CREATE.{name}", _mirror(config, name, of=copy))
    await _caught_up(bus, name, copy)
    await _delete(bus, copy)
    await js.api(bus, f"STREAM.UPDATE.{name}", config)
    log.info("streams.moved", stream=name)


async def _into_copy(bus: Bus, name: str, copy: str, config: Config) -> None:
    """The old stream is closed to publishers, copied, and removed."""
    there = await _look(bus, copy)
    if there is None:
        mark = {"metadata": {"maker": bus.new_id()}}
        await js.api(bus, f"STREAM.CREATE.{copy}", _mirror(config, copy, of=name) | mark)  # fails for a second maker
        log.warning("streams.moving", stream=name)
    elif there.age_s < ABANDONED_AFTER_S:
        raise Unavailable(f"stream {name} is being moved by another process")
    if (old := await _look(bus, name)) is not None:
        await js.api(bus, f"STREAM.UPDATE.{name}", old.config | {"subjects": [f"closed.{name}"]})
    await _caught_up(bus, copy, name)
    await _delete(bus, name)


def _copy(name: str) -> str:
    return f"{name}_copy"


def _own(name: str) -> Config:
    return {"name": name, "subjects": [f"closed.{name}"]}


def _mirror(config: Config, name: str, *, of: str) -> Config:
    return _without(config, *NOT_OF_A_MIRROR) | {"name": name, "mirror": {"name": of}}


def _without(config: Config, *settings: str) -> Config:
    return {k: v for k, v in config.items() if k not in settings}


async def _caught_up(bus: Bus, name: str, source: str) -> None:
    """Until the mirror has what its source has; at once if that is gone: it goes after its mirror had all of it."""
    while (of := await _look(bus, source)) is not None:
        mirror = await _look(bus, name)
        if mirror is None:
            raise Unavailable(f"stream {name} is being moved by another process, too")
        if "mirror" not in mirror.config:
            return  # another process has ended it
        heard = mirror.mirror  # None: it has no leader yet
        if heard and heard.active >= 0 and not heard.lag and mirror.state.messages >= of.state.messages:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(bus: Bus, name: str) -> _Info | None:
    try:
        return msgspec.json.decode(await js.api(bus, f"STREAM.INFO.{name}"), type=_Info)
    except js.ApiError as error:
        if error.err_code != js.STREAM_NOT_FOUND:
            raise
        return None


async def _delete(bus: Bus, name: str) -> None:
    try:
        await js.api(bus, f"STREAM.DELETE.{name}")
    except js.ApiError as error:
        if error.err_code != js.STREAM_NOT_FOUND:
            raise
