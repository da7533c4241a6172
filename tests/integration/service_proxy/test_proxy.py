"""A proxy as a process in a network of its own, with a real nats-server and api, and the kernel's own routes."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from shoal import wire
from shoal.api.service import Settings
from shoal.api.service import serve as serve_api
from shoal.bus import jetstream as js
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus, Message
from shoal.client import Client
from shoal.config import BusConfig
from shoal.local.nats_server import NatsServer
from shoal.model.meta import Condition
from shoal.model.node import Node, PodRange
from shoal.names import Names, ObjectKey, bound, desired, shared
from shoal.net import namespace
from shoal.store.records import Delete, Put
from shoal.store.store import Store
from shoal.store.streams import ensure_streams, stream_configs

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
WITHIN_S = 20


def why_not() -> str:
    if os.geteuid() != 0:
        return "needs root, for a network namespace of its own"
    missing = [c for c in ("ip", "nsenter", "unshare") if shutil.which(c, path=PATH) is None]
    return f"needs {', '.join(missing)}" if missing else ""


class Host:
    """A network with two links: `eth0` to the machine, where NATS is; `eth1` to the other nodes, who need not exist."""

    def __init__(self) -> None:
        self.name = f"shpx{secrets.token_hex(3)}"
        net = f"198.51.100.{secrets.randbelow(64) * 4}".rpartition(".")
        self.outside, self.address = f"{net[0]}.{int(net[2]) + 1}", f"{net[0]}.{int(net[2]) + 2}"
        keep = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 9d"]
        self._keeper = subprocess.Popen(keep, stdout=subprocess.PIPE, env={"PATH": PATH})
        assert self._keeper.stdout is not None
        with self._keeper.stdout as said:
            assert said.readline() == b"ready\n"
        pid = str(self._keeper.pid)
        self._outside("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self._outside("ip", "addr", "add", f"{self.outside}/30", "dev", self.name)
        self._outside("ip", "link", "set", self.name, "up")
        self.ip("addr", "add", f"{self.address}/30", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")

    def fresh(self) -> None:
        """`eth1` as new, and with it no route of a test before."""
        for kind in ("static", "83", "boot"):
            self.run("ip", "route", "flush", "proto", kind, check=False)
        self.run("ip", "link", "del", "eth1", check=False)
        self.ip("link", "add", "eth1", "type", "veth", "peer", "name", "others")
        self.ip("link", "set", "others", "up")
        self.ip("addr", "add", "192.0.2.1/24", "dev", "eth1")
        self.ip("link", "set", "eth1", "up")

    def enter(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self._keeper.pid), "-n", "--", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(self.enter(argv), capture_output=True, text=True, check=False, env={"PATH": PATH})
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def ip(self, *arguments: str) -> str:
        return self.run("ip", *arguments)

    def listen(self, link: str) -> socket.socket:
        """Hears every ARP frame that comes in by this link."""

        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0806))
            made.bind((link, 0x0806))
            return made

        descriptor = namespace.open_of(self._keeper.pid)
        try:
            return namespace.call_in(descriptor, opened)
        finally:
            os.close(descriptor)

    def ours(self) -> dict[str, str]:
        """Destination → gateway and link, of Shoal's routes."""
        lines = [line.split() for line in self.ip("-o", "route", "show", "proto", "83").splitlines()]
        return {words[0]: " ".join(words[1:5]) for words in lines}

    def _outside(self, *argv: str) -> None:
        subprocess.run(argv, check=True, env={"PATH": PATH}, capture_output=True)

    def stop(self) -> None:
        subprocess.run(["ip", "link", "del", self.name], check=False, env={"PATH": PATH}, capture_output=True)
        self._keeper.kill()
        self._keeper.wait()


@pytest.fixture(scope="module")
def network() -> Iterator[Host]:
    if reason := why_not():
        pytest.skip(reason)
    made = Host()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def reachable_nats(network: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), host=network.outside)
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


_prefixes = iter(range(1, 1000))


@pytest_asyncio.fixture
async def control(reachable_nats: NatsServer) -> AsyncIterator[Bus]:
    config = BusConfig(servers=(reachable_nats.url,), names=Names(prefix=f"p{next(_prefixes)}"))
    async with connect(config, name="test") as bus:
        await ensure_streams(bus, state_bytes=64 << 20)
        answering = asyncio.Event()
        api = asyncio.create_task(serve_api(config, Settings(), on_ready=answering.set), name="api")
        await answering.wait()
        yield bus
        api.cancel()
        with suppress(asyncio.CancelledError):
            await api
        for stream in stream_configs(bus.names):
            await js.api(bus, f"STREAM.DELETE.{stream['name']}")


class Proxy:
    """The proxy of node n1, whose agent has registered, and what the control plane tells it."""

    def __init__(self, network: Host, bus: Bus, state: Path) -> None:
        self.network = network
        self.bus = bus
        self.store = Store(bus)
        self.state = state
        self.log = state / "proxy.log"
        self.watermark = 0
        self._heard = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None

    async def register(self) -> None:
        """As the agent and delivery do."""
        reply = await self.bus.request(
            self.bus.names.register("n1"), wire.RegisterRequest(host_uid="host"), wire.RegisterReply
        )
        (self.state / "registration.json").write_bytes(msgspec.json.encode(reply))
        node = ObjectKey("nodes", "", "n1")
        entry = await self.store.get(desired(node))
        assert entry is not None
        assert entry.value is not None
        await self.store.commit([Put(bound("n1", node), entry.value, 0)])
        await self.bus.subscribe(self.bus.names.watermark("n1"), self._hear)

    async def _hear(self, message: Message) -> None:
        self.watermark = msgspec.json.decode(message.data, type=wire.Watermark).revision
        self._heard.set()

    async def heard(self, revision: int) -> None:
        """A watermark of at least that revision."""
        async with asyncio.timeout(WITHIN_S):
            while self.watermark < revision:
                self._heard.clear()
                await self._heard.wait()

    def start(self) -> None:
        environment = {
            "PATH": PATH,
            "NATS_URL": ",".join(self.bus.config.servers),
            "SHOAL_PREFIX": self.bus.names.prefix,
            "SHOAL_NODE": "n1",
            "SHOAL_STATE_DIR": str(self.state),
            "SHOAL_LOG": "json",
        }
        argv = self.network.enter([sys.executable, "-m", "shoal.service_proxy"])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stderr=log, env=environment)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(30)

    def programmed(self) -> list[tuple[int, int]]:
        """(added, removed) each time that it changed the kernel's routes, by its log."""
        lines = [msgspec.json.decode(line) for line in self.log.read_text().splitlines()]
        return [(line["added"], line["removed"]) for line in lines if line["event"] == "routes.programmed"]

    async def says(self, node: str, third: int, address: str) -> int:
        """A node's range, as delivery shares it; the revision."""
        key = shared(ObjectKey("podranges", "", node))
        value = msgspec.json.encode(PodRange(node=node, cidr=f"10.208.{third}.0/23", address=address))
        before = await self.store.get(key)
        (revision,) = await self.store.commit([Put(key, value, before.revision if before else 0)])
        return revision

    async def leaves(self, node: str) -> int:
        key = shared(ObjectKey("podranges", "", node))
        before = await self.store.get(key)
        assert before is not None
        (revision,) = await self.store.commit([Delete(key, before.revision)])
        return revision

    async def until(self, look: Callable[[], Awaitable[object] | object], wanted: object) -> None:
        """The kernel and the api are looked at: neither tells the test."""
        seen: object = None
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN_S):
                while True:
                    found = look()
                    seen = await found if isinstance(found, Awaitable) else found
                    if seen == wanted:
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"not {wanted!r} but {seen!r}\n{self.log.read_text()[-2000:]}")

    async def condition(self) -> tuple[str, str, str] | None:
        """NetworkUnavailable of the node, as any client is shown it."""
        node = msgspec.json.decode(await Client(self.bus).get("nodes", "", "n1"), type=Node)
        found: list[Condition] = [c for c in node.status.conditions if c.type == "NetworkUnavailable"]
        return (found[0].status, found[0].reason, found[0].message) if found else None


@pytest_asyncio.fixture
async def proxy(network: Host, control: Bus, tmp_path: Path) -> AsyncIterator[Proxy]:
    network.fresh()
    made = Proxy(network, control, tmp_path)
    await made.register()
    made.start()
    yield made
    assert made.end() == 0, made.log.read_text()[-2000:]


B, C = "10.208.64.0/23", "10.208.66.0/23"
GOOD = ("False", "RoutesProgrammed", "this host has a route to every node's pods")


def via(last: int) -> str:
    return f"via 192.0.2.{last} dev eth1"


async def test_each_node_has_its_route_and_one_that_leaves_loses_it(proxy: Proxy, network: Host) -> None:
    await proxy.says("b", 64, "192.0.2.2")
    await proxy.heard(await proxy.says("c", 66, "192.0.2.3"))
    assert network.ours() == {B: via(2), C: via(3)}
    await proxy.until(proxy.condition, GOOD)

    await proxy.heard(await proxy.says("b", 64, "192.0.2.9"))
    assert network.ours() == {B: via(9), C: via(3)}
    await proxy.heard(await proxy.leaves("c"))
    assert network.ours() == {B: via(9)}


async def test_what_somebody_deletes_comes_back_and_what_is_not_ours_is_left_alone(proxy: Proxy, network: Host) -> None:
    network.ip("route", "add", "10.64.0.0/23", "via", "192.0.2.7", "proto", "83")  # another cluster's
    network.ip("route", "add", "10.208.70.0/23", "via", "192.0.2.8", "proto", "static")
    await proxy.heard(await proxy.says("b", 64, "192.0.2.2"))
    network.ip("route", "del", B)
    await proxy.until(network.ours, {B: via(2), "10.64.0.0/23": via(7)})
    assert "10.208.70.0/23 via 192.0.2.8" in network.ip("route", "show", "proto", "static")


@pytest.mark.parametrize("foreign", [("via", "192.0.2.250", "proto", "static"), ("via", "192.0.2.250", "metric", "5")])
async def test_anothers_route_in_the_way_stays_and_is_told(
    proxy: Proxy, network: Host, foreign: tuple[str, ...]
) -> None:
    network.ip("route", "add", B, *foreign)
    await proxy.heard(await proxy.says("b", 64, "192.0.2.2"))
    await proxy.until(
        proxy.condition,
        ("True", "NoRoute", f"node b: this host has another's route to {B} (protocol {protocol_of(foreign)})"),
    )
    await proxy.heard(await proxy.says("c", 66, "192.0.2.3"))
    await proxy.until(lambda: said(proxy.condition()), ("False", "NoRouteToSome"))
    assert network.ours() == {C: via(3)}
    assert f"{B} via 192.0.2.250" in network.ip("route", "show")

    network.ip("route", "del", B)
    await proxy.until(network.ours, {B: via(2), C: via(3)})
    await proxy.until(proxy.condition, GOOD)


def protocol_of(foreign: Sequence[str]) -> int:
    return 4 if "static" in foreign else 3


async def said(looking: Awaitable[tuple[str, str, str] | None]) -> tuple[str, str] | None:
    found = await looking
    return found[:2] if found is not None else None


async def test_a_way_that_leads_nowhere_is_not_replaced_either(proxy: Proxy, network: Host) -> None:
    network.ip("route", "add", "blackhole", B)
    await proxy.heard(await proxy.says("b", 64, "192.0.2.2"))
    await proxy.until(lambda: said(proxy.condition()), ("True", "NoRoute"))
    assert f"blackhole {B}" in network.ip("route", "show")
    assert network.ours() == {}


async def test_a_killed_proxy_leaves_its_routes_and_takes_them_up_again(proxy: Proxy, network: Host) -> None:
    await proxy.says("b", 64, "192.0.2.2")
    await proxy.heard(await proxy.says("c", 66, "192.0.2.3"))
    proxy.end(signal.SIGKILL)
    assert network.ours() == {B: via(2), C: via(3)}
    left = await proxy.leaves("c")
    proxy.start()
    await proxy.heard(left)
    assert network.ours() == {B: via(2)}
    assert proxy.programmed()[-1] == (0, 1), "b's was taken as it is"


async def test_a_link_that_goes_and_comes_takes_its_routes_along(proxy: Proxy, network: Host) -> None:
    await proxy.heard(await proxy.says("b", 64, "192.0.2.2"))
    network.ip("link", "set", "eth1", "down")
    await proxy.until(proxy.condition, ("True", "NoRoute", "node b: the link to 192.0.2.2 is down"))
    network.ip("link", "set", "eth1", "up")
    await proxy.until(network.ours, {B: via(2)})
    await proxy.until(proxy.condition, GOOD)


async def test_what_the_kernel_refuses_is_told_by_node_and_holds_the_watermark(proxy: Proxy, network: Host) -> None:
    await proxy.says("b", 64, "192.0.2.2")
    before = await proxy.says("c", 66, "192.0.2.3")
    await proxy.heard(before)
    refused = await proxy.says("c", 66, "192.0.2.255")  # the link's broadcast address
    await proxy.until(
        proxy.condition,
        ("False", "NoRouteToSome", f"node c: route {C} via 192.0.2.255: Invalid argument"),
    )
    assert before <= proxy.watermark < refused
    assert network.ours() == {B: via(2)}
    await proxy.heard(await proxy.says("c", 66, "192.0.2.4"))
    assert network.ours() == {B: via(2), C: via(4)}


async def test_an_address_is_announced_on_the_link_to_other_nodes_and_again_when_that_was_down(
    proxy: Proxy, network: Host
) -> None:
    heard = network.listen("others")
    loop = asyncio.get_running_loop()

    async def announced() -> None:
        async with asyncio.timeout(WITHIN_S):
            while not is_announcement(await loop.sock_recv(heard, 2048)):
                pass

    with heard:
        await proxy.says("b", 64, "192.0.2.2")
        await announced()
        network.ip("link", "set", "eth1", "down")
        await proxy.until(lambda: said(proxy.condition()), ("True", "NoRoute"))  # it has seen that
        network.ip("link", "set", "eth1", "up")
        await announced()


def is_announcement(frame: bytes) -> bool:
    """Of 192.0.2.1: an ARP request of and for it."""
    own = IPv4Address("192.0.2.1").packed
    return frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == own
