"""The proxy's shell: watches `shared`, keeps this host's routes to every node's pods, says how far it has come.

Its data plane is the kernel's and outlives it: an end of this process leaves every route in place; `shoal down` and
the agent's `clean` take them away.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import aclosing, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from shoal import names
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.config import BusConfig
from shoal.errors import NotFound, Retryable
from shoal.local.notify import ready
from shoal.model.node import Node, PodRange
from shoal.names import ObjectKey
from shoal.net.arp import announce
from shoal.net.links import Link
from shoal.net.netlink import Monitor, Netlink
from shoal.net.records import PROTOCOL_SHOAL
from shoal.net.routes import delete_route, new_route
from shoal.service_proxy.routes import HostAddress, Plan, View, plan
from shoal.service_proxy.status import NetworkReporter, condition
from shoal.store.consumers import RequestedConsumer
from shoal.store.records import Entry, Synced
from shoal.store.watch import Watch
from shoal.telemetry.logs import log
from shoal.wire import RegisterReply, Watermark

POD_RANGES = "podranges"
NODES = "nodes"
WATERMARK_LEAST_S = 0.1
WATERMARK_EVERY_S = 1.0
REGISTERED_AGAIN_S = 1.0
SETTLE_S = 0.2  # what the kernel tells comes in bursts
RETRY_S = 5.0  # after the kernel refused something


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True):
    bus: BusConfig
    node: str
    state: Path


def proxy_config(bus: BusConfig, env: Mapping[str, str] = os.environ) -> ProxyConfig:
    """From SHOAL_NODE and SHOAL_STATE_DIR, as the agent's."""
    node = env.get("SHOAL_NODE") or os.uname().nodename.partition(".")[0].lower()
    return ProxyConfig(bus=bus, node=node, state=Path(env.get("SHOAL_STATE_DIR") or f"/var/lib/shoal/{node}"))


async def serve(config: ProxyConfig) -> None:
    """Until it is cancelled."""
    async with connect(config.bus, name=f"shoal-service-proxy {config.node}") as bus:
        proxy = Proxy(config, bus)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(proxy.follow(), name="watch shared")
                tasks.create_task(proxy.program(), name="program")
                tasks.create_task(proxy.watermarks(), name="watermarks")
                tasks.create_task(proxy.reporter.run(), name="report")
        finally:
            proxy.close()


class Proxy:
    def __init__(self, config: ProxyConfig, bus: Bus) -> None:
        self.config = config
        self.bus = bus
        self.reporter = NetworkReporter(
            bus, config.node, lambda: reply.revision if (reply := _registration(config.state)) else 0
        )
        self._kernel = Netlink()
        self._monitor = Monitor()
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._kernel_changed)
        self._ranges: dict[ObjectKey, PodRange] = {}
        self._seen = 0  # the newest revision that was delivered
        self._programmed = 0  # and up to which the host is programmed
        self._synced = False
        self._dirty = asyncio.Event()
        self._advanced = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._announced: set[tuple[Link, IPv4Address]] = set()
        self._said = ""

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        self._monitor.close()
        self._kernel.close()

    # --- watching --------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Waits for the agent of this host to register: until then the api knows no such node."""
        said = False
        while True:
            try:
                await self._watch()
            except NotFound as error:
                if not said:
                    log.warning("watch.waiting", node=self.config.node, error=str(error))
                    said = True
                await asyncio.sleep(REGISTERED_AGAIN_S)

    async def _watch(self) -> None:
        watch = Watch(
            self.bus,
            name=f"proxy {self.config.node}",
            filters=[names.SHARED_ALL, names.bound_to(self.config.node)],
            consumer=RequestedConsumer(self.bus, self.config.node, "proxy"),
        )
        async with aclosing(aiter(watch)) as changes:  # type: ignore[type-var]
            async for change in changes:
                if isinstance(change, Synced):
                    for key in change.gone:
                        self._entry(Entry(key, None, change.revision))
                    self._synced = True
                else:
                    self._entry(change)
                self._seen = max(self._seen, change.revision)
                if self._synced:
                    self._dirty.set()

    def _entry(self, entry: Entry) -> None:
        parsed = names.parse_key(entry.key)
        key = parsed.object
        if key is None:
            return
        try:
            if parsed.part == "shared" and key.resource == POD_RANGES:
                if entry.value is None:
                    self._ranges.pop(key, None)
                else:
                    self._ranges[key] = msgspec.json.decode(entry.value, type=PodRange)
            elif parsed.part == "bound" and key.resource == NODES and entry.value is not None:
                self.reporter.known_as(msgspec.json.decode(entry.value, type=Node).metadata.uid)
        except msgspec.MsgspecError as error:
            log.warning("shared.unreadable", key=entry.key, revision=entry.revision, error=str(error))

    # --- programming -----------------------------------------------------------------------------------------------------

    def _kernel_changed(self) -> None:
        self._monitor.drain()
        if self._synced and self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self._dirty.set()

    async def program(self) -> None:
        was_ready = False
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            seen = self._seen
            refused = self._apply()
            if refused:
                asyncio.get_running_loop().call_later(RETRY_S, self._dirty.set)
            elif seen != self._programmed:
                self._programmed = seen
                self._advanced.set()
            if not was_ready:
                was_ready = True
                ready()
                log.info("ready", node=self.config.node, ranges=len(self._ranges), revision=seen)

    def _apply(self) -> str:
        """Plan and carry out; what the kernel refused, "" for nothing."""
        try:
            found = self._plan()
            refused = self._carry_out(found)
            self._announce(found.links)
        except OSError as error:
            return self._tell((), (str(error),), 0)
        return self._tell(found.problems, refused, found.others)

    def _carry_out(self, found: Plan) -> tuple[str, ...]:
        """A sentence for each that the kernel refused."""
        messages = [delete_route(route) for route in found.remove]
        messages += [
            new_route(w.destination, gateway=w.gateway, link=w.link, protocol=PROTOCOL_SHOAL) for w in found.add
        ]
        if not messages:
            return ()
        nodes = ["" for _ in found.remove] + [f"node {w.node}: " for w in found.add]
        said = self._kernel.attempt(messages)
        refused = tuple(f"{node}{error.strerror}" for node, error in zip(nodes, said, strict=True) if error)
        log.info("routes.programmed", added=len(found.add), removed=len(found.remove), refused=len(refused))
        return refused

    def _announce(self, links: frozenset[int]) -> None:
        """Each address of this host's to those who share its link, once while it is there: it may be on new hardware."""
        known = {link.index: link for link in self._kernel.links() if link.up and link.mac and link.index in links}
        there = {(known[index], address.ip) for index, address in self._kernel.addresses() if index in known}
        self._announced &= there
        for link, address in there - self._announced:
            try:
                announce(link, address)
            except OSError as error:
                log.debug("address.unannounced", link=link.name, address=str(address), error=str(error))
            else:
                self._announced.add((link, address))

    def _tell(self, problems: tuple[str, ...], refused: tuple[str, ...], others: int) -> str:
        """Log and report what changed; `refused` in one string."""
        said = "; ".join((*problems, *refused))
        if said != self._said:
            self._said = said
            if said:
                log.warning("routes.missing", problems=said)
        self.reporter.say(condition((*problems, *refused), others))
        return "; ".join(refused)

    def _plan(self) -> Plan:
        up = {link.index for link in self._kernel.links() if link.up}
        return plan(
            View(
                node=self.config.node,
                ranges=tuple(self._ranges.values()),
                routes=tuple(self._kernel.routes(unreachable=True)),
                addresses=tuple(HostAddress(a, link, link in up) for link, a in self._kernel.addresses()),
                cluster=_cluster(self.config.state),
            )
        )

    # --- telling ---------------------------------------------------------------------------------------------------------

    async def watermarks(self) -> None:
        """When it advances, at most ten times a second; and each second, for whoever came later."""
        subject = self.bus.names.watermark(self.config.node)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATERMARK_EVERY_S):
                    await self._advanced.wait()
            self._advanced.clear()
            if self._programmed:
                with suppress(Retryable):
                    await self.bus.publish(subject, Watermark(revision=self._programmed))
            await asyncio.sleep(WATERMARK_LEAST_S)


def _registration(state: Path) -> RegisterReply | None:
    """What the agent was told when it registered."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state / "registration.json").read_bytes(), type=RegisterReply)
    return None


def _registered(state: Path) -> int:
    """The cluster's revision by then."""
    reply = _registration(state)
    return reply.revision if reply is not None else 0


def _cluster(state: Path) -> IPv4Network | None:
    """The cluster's range."""
    reply = _registration(state)
    with suppress(ValueError):
        return IPv4Network(reply.cluster_cidr) if reply is not None else None
    return None
