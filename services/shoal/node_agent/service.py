"""The agent's shell: registers, watches what is bound to its node, and gives each pod a worker.

Nothing is stopped because it is missing from a list: a container without a record waits for the first complete list,
and for a read that confirms it. What runs when the agent starts is adopted; an agent that ends stops nothing.
"""

import asyncio
import uuid
from contextlib import aclosing, suppress

import msgspec

from shoal import names
from shoal.bus.connecting import connect
from shoal.bus.connection import Bus
from shoal.bus.rpc import serve as serve_requests
from shoal.errors import NotFound, Retryable, ShoalError, only_error
from shoal.local.notify import ready
from shoal.model.pod import BoundPod
from shoal.names import ObjectKey
from shoal.node_agent import host as hosts
from shoal.node_agent import hostports
from shoal.node_agent.collecting import Collector
from shoal.node_agent.config import AgentConfig
from shoal.node_agent.images import Images
from shoal.node_agent.joining import engine_info, register
from shoal.node_agent.kept import Kept
from shoal.node_agent.kept_addresses import KeptAddresses
from shoal.node_agent.lifecycle import group
from shoal.node_agent.network import PodNetwork, marks
from shoal.node_agent.node import Node, at_once
from shoal.node_agent.reporter import Reporter
from shoal.node_agent.runtime.engine import Engine
from shoal.node_agent.runtime.ownership import Owner
from shoal.node_agent.runtime.port import (
    EXITED,
    RUNNING,
    SANDBOX,
    Changed,
    EngineInfo,
    Fact,
    ImagesChanged,
    Listed,
    Lost,
)
from shoal.node_agent.sandboxes import ENGINE, FAST, ensure_image, open_sandboxes, why_apart
from shoal.node_agent.self_report import SelfReport
from shoal.node_agent.sessions import Sessions
from shoal.node_agent.turns import Turns
from shoal.node_agent.volumes import Volumes
from shoal.node_agent.worker import Worker
from shoal.store.consumers import RequestedConsumer
from shoal.store.records import Entry, Synced
from shoal.store.store import Store
from shoal.store.watch import Watch
from shoal.telemetry.logs import log
from shoal.wire import Heartbeat, RegisterReply

SESSION_REQUESTS_MAX = 512
WORKER_AGAIN_S = 10.0
NODE_TOLD_S = 10.0
COLLECT_AGAIN_S = 3600.0  # if the engine was not lost meanwhile
PODS = "pods"


async def serve(config: AgentConfig) -> None:
    """Until it is cancelled. Raises: ShoalError with one sentence if this host cannot be a node."""
    try:
        await _serve(config)
    except BaseExceptionGroup as group:
        if (error := only_error(group)) is not None:
            raise error from group
        raise


async def _serve(config: AgentConfig) -> None:
    (config.state / "pods").mkdir(parents=True, exist_ok=True)
    async with connect(config.bus, name=f"shoal-node-agent {config.node}") as bus:
        runtime = Engine(config.docker_host, Owner("", config.node))
        try:
            engine = await engine_info(runtime)
            loop = asyncio.get_running_loop()  # a name server may take its time
            address = config.address or await loop.run_in_executor(None, hosts.own_address, config.bus.servers)
            host = hosts.read_host(config.node, address, engine, config.state)
            registered = await register(bus, config, host)
            runtime.owner = Owner(registered.cluster_uid, config.node)
            node_marks = marks(registered.cluster_uid, config.node)
            addresses = KeptAddresses(config.state / "addresses.json", registered.pod_cidr)
            sandboxes = await open_sandboxes(
                config, runtime, engine, node_marks, addresses.pool, registered.cluster_cidr
            )
            agent = Agent(
                config,
                bus,
                runtime,
                engine,
                host,
                registered,
                addresses,
                sandboxes.network,
                sandboxes.engine_network,
                sandboxes.kept,
            )
            try:
                await agent.run()
            finally:
                if sandboxes.network is not None:
                    sandboxes.network.close()
        finally:
            await runtime.close()


class Agent:
    """All of a running agent. `run` ends with its first task that fails, or when it is cancelled."""

    def __init__(
        self,
        config: AgentConfig,
        bus: Bus,
        runtime: Engine,
        engine: EngineInfo,
        host: hosts.Host,
        registered: RegisterReply,
        addresses: KeptAddresses,
        network: PodNetwork | None,
        engine_network: str,
        sandbox_kept: str = "",
    ) -> None:
        self.config = config
        self.bus = bus
        self.runtime = runtime
        self.host = host
        self.registered = registered
        self.session = uuid.uuid4().hex
        self.reporter = Reporter(bus, config.node, self.session, registered.revision)
        self.images = Images(runtime)
        self.network = network
        self.sandbox = FAST if network is not None else ENGINE
        self.sandbox_kept = sandbox_kept
        self.store = Store(bus)
        self.workers: dict[str, Worker] = {}
        self._uids: dict[ObjectKey, str] = {}  # the uid that is bound under a key
        self._synced = asyncio.Event()
        self._listed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self.node = Node(
            name=config.node,
            address=host.address,
            owner=runtime.owner,
            runtime=runtime,
            images=self.images,
            addresses=addresses,
            volumes=Volumes(config.state / "pods", shared=network is not None, host_root=config.host_root),
            network=network,
            engine_network=engine_network,
            sandbox_image="",
            engine=engine,
            reporter=self.reporter,
            kept=Kept(config.state / "status"),
            turns=Turns(at_once(engine.cpus)),
            oom_floor=hosts.oom_floor(),
        )
        self.report = SelfReport(
            self.node, host, registered.node_uid, sandbox=self.sandbox, file=config.state / "ready.json"
        )
        self.collector = Collector(self.node, network, self._known)

    async def run(self) -> None:
        await self._sandbox_image()
        if self.sandbox_kept:
            key = ObjectKey("nodes", "", self.config.node)
            self.reporter.event(key, self.registered.node_uid, "Warning", "SandboxKept", self.sandbox_kept)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.reporter.run(), name="report")
            tasks.create_task(self.node.kept.run(), name="keep")
            tasks.create_task(self._heartbeats(), name="heartbeats")
            tasks.create_task(self._engine_events(), name="engine events")
            tasks.create_task(self._bound(), name="watch bound")
            tasks.create_task(self._collect(), name="collect")
            tasks.create_task(self._sessions(), name="sessions")

    async def _sandbox_image(self) -> None:
        reference = self.node.sandbox_image = await ensure_image(self.runtime, self.node.engine, self.host.architecture)
        if self.network is None and not why_apart(self.config, self.node.engine):
            self.node.volumes.shared = await self.runtime.sees(self.config.state, reference)

    async def _sessions(self) -> None:
        sessions = Sessions(self.config.node, self.runtime, self._facts_of, self._waits)
        served = await serve_requests(
            self.bus, self.bus.names.node_all(self.config.node), sessions.handle, limit=SESSION_REQUESTS_MAX
        )
        try:
            await sessions.sweep()
        finally:
            await served.stop()
            await sessions.close()

    def _waits(self, uid: str, container: str) -> str:
        worker = self.workers.get(uid)
        return worker.waits(container) if worker is not None else ""

    def _facts_of(self, uid: str, container: str) -> tuple[Fact, ...]:
        worker = self.workers.get(uid)
        if worker is None:
            raise NotFound(f"node {self.config.node} has no such pod")
        return group(worker.facts).containers.get(container, ())

    # --- heartbeats ----------------------------------------------------------------------------------------------------

    async def _heartbeats(self) -> None:
        subject, sequence = self.bus.names.heartbeat(self.config.node), 0
        while True:
            sequence += 1
            with suppress(Retryable):
                await self.bus.publish(subject, Heartbeat(session=self.session, sequence=sequence))
            await asyncio.sleep(self.registered.heartbeat_seconds)

    # --- the engine ------------------------------------------------------------------------------------------------------

    async def _engine_events(self) -> None:
        async with aclosing(self.runtime.events()) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case Listed(facts=facts, asked_at=asked_at):
                        self._engine_listed(facts, asked_at)
                    case Lost(why=why):
                        if self.node.engine_up.is_set():
                            log.warning("engine.lost", why=why)
                            self.node.engine_up.clear()
                            self.report.tell(why)
                    case ImagesChanged():
                        self.images.changed()
                    case Changed(uid=uid):
                        if (worker := self.workers.get(uid)) is not None:
                            worker.changed(event)

    def _engine_listed(self, facts: tuple[Fact, ...], asked_at: float) -> None:
        by_uid: dict[str, list[Fact]] = {}
        for fact in facts:
            by_uid.setdefault(fact.labels.uid, []).append(fact)
        self._adopt_addresses(facts)
        self.node.engine_up.set()
        for uid, found in by_uid.items():
            labels = found[0].labels
            self._worker(ObjectKey(PODS, labels.namespace, labels.pod), uid).listed(tuple(found), asked_at)
        for uid, worker in self.workers.items():
            if uid not in by_uid:
                worker.listed((), asked_at)
        if self._synced.is_set():
            self._confirm_unbound()
        self._listed.set()
        log.info("engine.listed", containers=len(facts))
        self.report.tell()
        self._spawn(self.report.look(), "look at the engine")

    def _adopt_addresses(self, facts: tuple[Fact, ...]) -> None:
        """Before any is given out: after a loss of the file, what runs keeps its own. What runs comes first."""
        sandboxes = [f for f in facts if f.labels.container == SANDBOX and f.labels.address and f.state != EXITED]
        for fact in sorted(sandboxes, key=lambda f: f.state != RUNNING):
            if not self.node.addresses.pool.adopt(fact.labels.uid, fact.labels.address):
                log.warning("address.taken", uid=fact.labels.uid, address=fact.labels.address)

    # --- what is bound ---------------------------------------------------------------------------------------------------

    async def _bound(self) -> None:
        watch = Watch(
            self.bus,
            name=f"agent {self.config.node}",
            filters=[names.bound_to(self.config.node)],
            consumer=RequestedConsumer(self.bus, self.config.node, "agent"),
        )
        async with aclosing(aiter(watch)) as changes:  # type: ignore[type-var]
            async for change in changes:
                if isinstance(change, Synced):
                    for key in change.gone:
                        self._entry(Entry(key, None, change.revision))
                    if not self._synced.is_set():
                        log.info("bound.synced", pods=len(self._uids), revision=change.revision)
                    self._synced.set()
                else:
                    self._entry(change)

    def _entry(self, entry: Entry) -> None:
        """One bound entry. A deletion is confirmed by a read before anything is stopped."""
        parsed = names.parse_key(entry.key)
        if parsed.part != "bound" or parsed.object is None or parsed.object.resource != PODS:
            return
        key = parsed.object
        if entry.value is None:
            if (uid := self._uids.pop(key, None)) is not None:
                self._forget(key, uid)
                self._spawn(self._confirm(key, uid), f"confirm {key}")
            return
        try:
            bound = msgspec.json.decode(entry.value, type=BoundPod)
        except msgspec.MsgspecError as error:
            log.warning("bound.unreadable", key=str(key), revision=entry.revision, error=str(error))
            return
        uid = bound.pod.metadata.uid
        before = self._uids.get(key)
        self._uids[key] = uid
        if before is not None and before != uid:
            self._forget(key, before)
            if (old := self.workers.get(before)) is not None:
                old.unwanted()  # another pod of that name has taken its place: the entry says so
        if self.network is not None and not self._synced.is_set():
            address = self.node.addresses.of(uid)
            self.network.remember_ports(uid, hostports.of_pod(bound.pod, str(address or "")))
        self._worker(key, uid).wanted(
            bound.pod, drained=bound.drained, traceparent=entry.traceparent, revision=entry.revision
        )

    async def _confirm(self, key: ObjectKey, uid: str) -> None:
        """Is there really no record of this pod? Asked until there is an answer."""
        while self._uids.get(key) != uid and uid in self.workers:
            try:
                entry = await self.store.get(names.bound(self.config.node, key))
            except ShoalError as error:
                log.debug("bound.confirm", key=str(key), error=str(error))
                await asyncio.sleep(1)
                continue
            if entry is not None and entry.value is not None:
                with suppress(msgspec.MsgspecError):
                    if msgspec.json.decode(entry.value, type=BoundPod).pod.metadata.uid == uid:
                        return  # it is there: the watch will tell
            worker = self.workers.get(uid)
            if worker is not None and self._uids.get(key) != uid:
                worker.unwanted()
            return

    def _worker(self, key: ObjectKey, uid: str) -> Worker:
        worker = self.workers.get(uid)
        if worker is None:
            worker = self.workers[uid] = Worker(self.node, key, uid)
            self._spawn(self._work(worker), f"pod {key}")
        return worker

    async def _work(self, worker: Worker) -> None:
        try:
            while True:
                try:
                    await worker.run()
                    break
                except Exception:
                    # One pod's trouble is not the node's: what is known of it stays, and it is looked at again.
                    log.exception("pod.worker", key=str(worker.key))
                    await asyncio.sleep(WORKER_AGAIN_S)
        finally:
            self.workers.pop(worker.uid, None)
        self._forget(worker.key, worker.uid)

    def _forget(self, key: ObjectKey, uid: str) -> None:
        """What was told of a pod that is neither bound nor at work: whichever ends last comes here."""
        if self._uids.get(key) != uid and uid not in self.workers:
            self.reporter.forget(key, uid)
            self.node.kept.forget(uid)

    def _spawn(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work, name=name)

    # --- what nobody wants -----------------------------------------------------------------------------------------------

    def _confirm_unbound(self) -> None:
        """Containers without a record, whenever the engine lists them: one may have come back with its engine."""
        bound = set(self._uids.values())
        for uid, worker in self.workers.items():
            if uid not in bound:
                self._spawn(self._confirm(worker.key, uid), f"confirm {worker.key}")

    def _known(self) -> set[str]:
        return set(self._uids.values()) | set(self.workers)

    async def _collect(self) -> None:
        """When both lists are complete, and whenever the engine has listed again."""
        await self._listed.wait()
        await self._synced.wait()
        self._listed.clear()
        self._confirm_unbound()
        if self.network is not None:
            await self.network.program()
        await self.collector.collect()
        with suppress(TimeoutError):
            async with asyncio.timeout(NODE_TOLD_S):  # who waits for this node finds it described
                await self.reporter.told(ObjectKey("nodes", "", self.config.node), self.registered.node_uid)
        ready()
        log.info("ready", node=self.config.node, address=self.host.address, pods=len(self._uids), sandbox=self.sandbox)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_AGAIN_S):
                    await self._listed.wait()
            self._listed.clear()
            await self.collector.collect()
