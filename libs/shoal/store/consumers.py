"""The consumers under watches: who makes them, and with which filters.

A process of the control plane makes its own (`DirectConsumer`). A node has no such right (a consumer's settings are a
body that no permission checks): it asks the api (`RequestedConsumer`), which makes exactly one consumer for each
process of a node, with the filters that the process may see (`make_node_consumer`). Both only pull.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from shoal import names as n
from shoal.bus import jetstream as js
from shoal.bus.connection import Bus
from shoal.errors import BadRequest
from shoal.names import Names
from shoal.store.reads import Source
from shoal.store.records import MARKER_TTL_S
from shoal.wildcards import covers
from shoal.wire import NodeWatchReply, NodeWatchRequest

_NS = 1_000_000_000
INACTIVE_NS = 60 * _NS  # nobody pulls for so long: the server removes it
PULL_BYTES_MAX = 4 << 20


def state_source(names: Names) -> Source:
    return Source(names.state_stream, names.state_subject(""), MARKER_TTL_S)


def events_source(names: Names) -> Source:
    """Keys are whole subjects (`names.event`)."""
    return Source(names.events_stream)


class ConsumerMaker(Protocol):
    async def make(self, start: int | None) -> tuple[str, int]:
        """A fresh consumer from stream sequence `start`, or (None) of the newest message of each key.

        Its name, and how many messages wait. Raises: Unavailable, js.ApiError.
        """

    async def drop(self) -> None:
        """It is not needed any more. Never raises: an unused consumer ends by itself."""


class DirectConsumer:
    """Made by the process itself. `name` is unique to one watch: two watches under one name take it from each other."""

    def __init__(self, bus: Bus, source: Source, name: str, filters: Sequence[str]) -> None:
        self._bus = bus
        self._source = source
        self._name = f"{name}_{bus.new_id()[-8:]}"
        self._filters = disjoint(filters)

    async def make(self, start: int | None) -> tuple[str, int]:
        subjects = [self._source.subject(f) for f in self._filters]
        pending = await _make(self._bus, self._source.stream, self._name, subjects, start)
        return self._name, pending

    async def drop(self) -> None:
        if self._bus.nc.is_connected:
            await self._bus.publish(f"{self._bus.names.js}.CONSUMER.DELETE.{self._source.stream}.{self._name}")


class RequestedConsumer:
    """Made by the api for one process of a node (`agent`, `proxy`)."""

    def __init__(self, bus: Bus, node: str, process: str) -> None:
        self._bus = bus
        self._subject = bus.names.watch(node, process)

    async def make(self, start: int | None) -> tuple[str, int]:
        reply = await self._bus.request(self._subject, NodeWatchRequest(start=start), NodeWatchReply)
        return reply.consumer, reply.pending

    async def drop(self) -> None:
        """The next one takes its name."""


def node_filters(node: str, process: str) -> list[str]:
    """What a process of a node may see. Raises: BadRequest for another process."""
    if process == "agent":
        return [n.bound_to(node), n.shared_of("services")]
    if process == "proxy":
        return [n.bound_to(node), n.SHARED_ALL]
    raise BadRequest(f"{process!r} is no process of a node (agent, proxy)")


async def make_node_consumer(bus: Bus, node: str, process: str, start: int | None) -> NodeWatchReply:
    """The api's side of `shoal.watch.<node>.<process>`: takes nothing from the asker but where to start.

    Raises: BadRequest, Unavailable.
    """
    source = state_source(bus.names)
    subjects = [source.subject(f) for f in node_filters(node, process)]
    name = bus.names.node_consumer(node, process)
    pending = await _make(bus, source.stream, name, subjects, start)
    return NodeWatchReply(consumer=name, pending=pending)


def disjoint(filters: Sequence[str]) -> list[str]:
    """Without those that another covers: the server refuses overlapping filters."""
    unique = list(dict.fromkeys(filters))
    return [f for f in unique if not any(f != other and covers(other, f) for other in unique)]


def consumer_config(name: str, subjects: Sequence[str], start: int | None) -> dict[str, Any]:
    where: dict[str, Any] = (
        {"deliver_policy": "last_per_subject"}
        if start is None
        else {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
    )
    return where | {
        "name": name,
        "filter_subjects": list(subjects),
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "max_deliver": 1,
        "inactive_threshold": INACTIVE_NS,
        "max_waiting": 4,
        "max_batch": 1000,
        "max_expires": 35 * _NS,
        "max_bytes": PULL_BYTES_MAX,
    }


class _Created(msgspec.Struct):
    num_pending: int = 0


async def _make(bus: Bus, stream: str, name: str, subjects: Sequence[str], start: int | None) -> int:
    try:
        await js.api(bus, f"CONSUMER.DELETE.{stream}.{name}")
    except js.ApiError as error:
        if error.err_code != js.CONSUMER_NOT_FOUND:
            raise
    body = {"stream_name": stream, "config": consumer_config(name, subjects, start), "action": "create"}
    answer = await js.api(bus, f"CONSUMER.CREATE.{stream}.{name}", body)
    return msgspec.json.decode(answer, type=_Created).num_pending
