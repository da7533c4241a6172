"""A cluster of one node on this machine, as `shoal up` brings it up: what it consists of, where it is, how it goes.

Everything it knows lies in one directory: `local.json`, the supervisor's files, nats-server's store, the node's state.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from shoal.errors import NotFound, Unavailable
from shoal.local import cluster, engine, images, packages, processes, ranges, sweep
from shoal.local.cluster import ClusterSpec
from shoal.local.control import Control, launch, leftovers
from shoal.local.engine import EngineSpec
from shoal.local.engine_client import EngineClient
from shoal.local.jaeger import Jaeger, Ports, find_binary, find_image, free_ports
from shoal.local.program import Program, Report, State
from shoal.mounts import unmount_below
from shoal.names import CONTAINER_LOCAL
from shoal.wire import RegisterReply

HOST = "127.0.0.1"
NATS_PORT = 4222  # if it is free
JAEGER_CONTAINER = "shoal-jaeger"
KEEPER, ENGINE = "keeper", "engine"
READY_SECONDS = 90.0
ROOT_HOME = Path("/var/lib/shoal/local")
Say = Callable[[str], None]


class LocalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`socket`: of the engine in use. `own_engine`: we started it. `forwarding_was_off`: the kernel forwarded no packets
    before this cluster came, so that it is this cluster that has to turn that off again.
    """

    node: str
    port: int
    store: str
    cluster_cidr: str
    socket: str
    own_engine: bool
    jaeger: Jaeger | None = None
    forwarding_was_off: bool = False


def home() -> Path:
    """Where all of it lies: SHOAL_HOME, else under /var/lib for root, under the user's own state otherwise."""
    if given := os.environ.get("SHOAL_HOME"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return ROOT_HOME
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "shoal"


def read_record(directory: Path | None = None) -> LocalRecord | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(((directory or home()) / "local.json").read_bytes(), type=LocalRecord)
    return None


class Machine:
    def __init__(self, record: LocalRecord, directory: Path | None = None) -> None:
        self.record = record
        self.directory = directory or home()
        self.control = Control(self.directory)

    @classmethod
    def open(cls) -> Self:
        """Raises: NotFound if no cluster runs here."""
        record = read_record()
        if record is None or Control(home()).process() is None:
            raise NotFound("no cluster runs on this machine; `shoal up` starts one")
        return cls(record)

    @property
    def running(self) -> bool:
        return self.control.process() is not None

    # --- coming -------------------------------------------------------------------------------------------------------

    @classmethod
    async def plan(cls, *, node: str, store: str, cluster_cidr: str, say: Say) -> Self:
        """Decide what to use on this machine: engine, ranges, ports. Installs what is missing.

        What an earlier cluster here used it uses again, if it still can.
        Raises: Unavailable with one sentence.
        """
        old = read_record()
        found = await asyncio.to_thread(engine.find, str(_own_engine(home()).socket))
        if found is None:
            await asyncio.to_thread(engine.require, why="to run containers", say=say)
        elif os.geteuid() == 0:
            lacking = packages.missing(("nft", "ip", "nsenter"))
            await asyncio.to_thread(packages.install, lacking, why="to plumb pods", say=say)
        where = Path(os.path.abspath(store) if store else old.store if old else home() / "store")  # noqa: ASYNC240, PTH100
        network = await asyncio.to_thread(_pick_range, old, where, cluster_cidr, say)
        traced = await asyncio.to_thread(_find_jaeger, found)
        port = ranges.free_port(wanted := old.port if old else NATS_PORT)
        if port != wanted:
            say(f"{wanted} is taken; NATS listens on {port}")
        record = LocalRecord(
            node=node or (old.node if old else "") or node_name(socket.gethostname()),
            port=port,
            store=str(where),
            cluster_cidr=network,
            socket=found or str(_own_engine(home()).socket),
            own_engine=found is None,
            jaeger=traced,
            forwarding_was_off=bool(old and old.forwarding_was_off) or not sweep.forwarding(),
        )
        return cls(record)

    @staticmethod
    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        """One `up` or `down` at a time."""
        home().mkdir(parents=True, exist_ok=True)
        with (home() / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    async def start(self, say: Say) -> None:
        """Start what was planned; returns when every process is ready and the engine has the images."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._sweep_processes)
        self._write()
        await launch(self.directory, env=cluster.base_env())
        spec, keeper = self._engine, 0
        if self.record.own_engine:
            say("starting an engine of our own")
            spec.directory.mkdir(parents=True, exist_ok=True)
            await self.control.add([engine.keeper(spec, program=KEEPER)])
            keeper = (await self.control.wait([KEEPER], seconds=20))[KEEPER].process.pid
            await self.control.add([engine.engine(spec, keeper, program=ENGINE, needs=[KEEPER])])
        else:
            say(f"using the engine on {self.record.socket}")
        await self.control.add(self._programs(keeper))
        if self.record.own_engine:
            await self.control.wait([ENGINE], seconds=READY_SECONDS)
        if self.record.jaeger and self.record.jaeger.image:
            client = EngineClient(self.record.socket)
            await asyncio.to_thread(self.record.jaeger.start_container, client, JAEGER_CONTAINER, CONTAINER_LOCAL)
        made = await asyncio.to_thread(images.build, EngineClient(self.record.socket), say)
        if made:
            say(f"built {', '.join(made)}")

    async def wait(self, changed: Callable[[dict[str, Report]], None]) -> None:
        """Until every process is ready; `changed` hears of each change.

        Raises: Unavailable naming what is not, with the end of its log.
        """
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        before: dict[str, State] = {}
        while True:
            reports = await self.control.status()
            now = {name: report.state for name, report in reports.items()}
            if now != before:
                changed(reports)
                before = now
            if all(state is State.READY for state in now.values()):
                return
            if asyncio.get_running_loop().time() > deadline:
                await self.control.wait(seconds=0)
            await asyncio.sleep(0.05)

    async def resume(self) -> None:
        """Start again what is down (`up` on a cluster that runs)."""
        await self.control.start([])

    def _programs(self, keeper_pid: int) -> list[Program]:
        spec = self._cluster
        needs = [cluster.NATS, *([ENGINE] if self.record.own_engine else [])]

        def inside(argv: list[str]) -> list[str]:
            return engine.enter(keeper_pid, argv, own_network=False) if keeper_pid else argv

        node = [
            cluster.node(
                spec,
                process,
                program=process,
                node=self.record.node,
                state=self.directory / "node",
                socket=self.record.socket,
                needs=needs,
                wrap=inside,
            )
            for process in cluster.NODE
        ]
        traced = [self.record.jaeger.program()] if self.record.jaeger and self.record.jaeger.binary else []
        return [cluster.nats(spec), *traced, *(cluster.control(spec, p) for p in cluster.CONTROL), *node]

    # --- where it is ----------------------------------------------------------------------------------------------------

    @property
    def nats_url(self) -> str:
        return self._cluster.nats_url

    def environment(self) -> dict[str, str]:
        """What points a client at it."""
        found = {"NATS_URL": self.nats_url}
        if self.record.own_engine:
            found["DOCKER_HOST"] = f"unix://{self.record.socket}"
        if self.record.jaeger:
            found["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.record.jaeger.otlp_endpoint
        return found

    def cluster_uid(self) -> str:
        """As the agent learned it; "" if it never registered (then it started nothing either)."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            file = self.directory / "node" / "registration.json"
            return msgspec.json.decode(file.read_bytes(), type=RegisterReply).cluster_uid
        return ""

    @property
    def _cluster(self) -> ClusterSpec:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.record.jaeger.otlp_endpoint} if self.record.jaeger else {}
        return ClusterSpec(
            host=HOST,
            port=self.record.port,
            store=Path(self.record.store),
            cluster_cidr=self.record.cluster_cidr,
            extra=traced,
        )

    @property
    def _engine(self) -> EngineSpec:
        return _own_engine(self.directory)

    # --- going ------------------------------------------------------------------------------------------------------------

    async def stop(self, *, purge: bool) -> None:
        """The agent first, so that it starts nothing again; then containers, then the rest, then what they leave.

        The store and the images stay for the next `up`; with `purge` they go too.
        """
        with contextlib.suppress(Unavailable):
            await self.control.stop(cluster.NODE)
        left = leftovers(self.directory)
        await asyncio.to_thread(processes.end, [left[name] for name in cluster.NODE if name in left], seconds=10)
        await asyncio.to_thread(self._sweep_containers)
        await self.control.shutdown()
        await asyncio.to_thread(self._sweep_processes)
        if os.geteuid() == 0:
            await asyncio.to_thread(sweep.network, self.record.cluster_cidr, self.record.node)
            await asyncio.to_thread(unmount_below, self.directory)
            await asyncio.to_thread(self._stop_forwarding)
        if purge:
            await asyncio.to_thread(self._purge)

    def _sweep_containers(self) -> None:
        client = EngineClient(self.record.socket)
        if not client.answers():
            return
        if uid := self.cluster_uid():
            sweep.containers(client, self.record.node, uid)
            sweep.engine_networks(client, self.record.cluster_cidr)
        if self.record.jaeger and self.record.jaeger.image:
            client.remove_container(JAEGER_CONTAINER)

    def _sweep_processes(self) -> None:
        """What a supervisor that was killed left running, and what is left of an engine of our own."""
        processes.end(leftovers(self.directory).values(), seconds=5)
        engine.clear(self._engine, data=False)

    def _stop_forwarding(self) -> None:
        """Unless an engine of the user's runs by now, which needs it as well; either way it is no longer ours to do."""
        if not self.record.forwarding_was_off:
            return
        if self.record.own_engine and engine.find(str(self._engine.socket), {}) is None:
            sweep.forward(on=False)
        self.record = msgspec.structs.replace(self.record, forwarding_was_off=False)
        self._write()

    def _write(self) -> None:
        (self.directory / "local.json").write_bytes(msgspec.json.encode(self.record))

    def _purge(self) -> None:
        client = EngineClient(self.record.socket)
        if not self.record.own_engine and client.answers():
            images.remove(client)
        shutil.rmtree(self.record.store, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def node_name(hostname: str) -> str:
    """A host name as a name for a node: RFC 1123 (lower case, no underscores)."""
    return re.sub(r"[^a-z0-9.-]+", "-", hostname.lower()).strip("-.")[:63] or "node"


def _pick_range(old: LocalRecord | None, store: Path, asked: str, say: Say) -> str:
    """The cluster's range. One that has a store keeps its range: its node and its pods have addresses from there.

    Raises: Unavailable if none is free, or the kept one no longer is.
    """
    own = sweep.own_bridges(old.cluster_cidr) if old else []
    taken = ranges.taken(skip_devices=own)
    kept = old.cluster_cidr if old and str(store) == old.store and (store / "jetstream").exists() else ""
    if kept and asked not in ("", kept):
        raise Unavailable(
            f"this cluster's addresses are from {kept}; `shoal down --purge` lets it start anew with {asked}"
        )
    try:
        network, reasons = ranges.pick([kept or asked] if kept or asked else ranges.CLUSTER_CANDIDATES, taken)
    except Unavailable as error:
        if not kept:
            raise
        raise Unavailable(f"{error.message}; `shoal down --purge` lets the cluster start anew with another") from error
    for reason in reasons:
        say(reason)
    return str(network)


def _find_jaeger(socket_path: str | None) -> Jaeger | None:
    """Its binary, or its image in an engine that runs already (ours begins empty)."""
    if binary := find_binary():
        return Jaeger(host=HOST, binary=binary, ports=free_ports(HOST))
    if socket_path and (image := find_image(EngineClient(socket_path))):
        return Jaeger(host=HOST, image=image, ports=Ports())
    return None


def _own_engine(directory: Path) -> EngineSpec:
    return EngineSpec(name=engine.machine_wide("shoal-local", directory, ROOT_HOME), directory=directory / "engine")
