"""One pod's worker: keeps what is known of it, decides (`pods.decide`), carries out, reports. A thin shell.

It sleeps until something happens: a new copy of the pod, an event of the engine, the end of an action, or the time
that the last decision named. Actions run beside each other; each ends in new knowledge, never in a decision.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, assert_never

import msgspec

from shoal.errors import ShoalError, Unavailable
from shoal.model.container import Container
from shoal.model.pod import Pod
from shoal.names import ObjectKey
from shoal.node_agent import containers, hostports, pods
from shoal.node_agent.images import ImageError
from shoal.node_agent.node import Node
from shoal.node_agent.pods import Failure, Memory, View, key_of
from shoal.node_agent.runtime.port import (
    CREATED,
    EXITED,
    RUNNING,
    SANDBOX,
    Changed,
    EngineError,
    EngineNotFound,
    Fact,
    Image,
    Labels,
)
from shoal.node_agent.status import Seen, pod_status
from shoal.node_agent.volumes import VolumeError
from shoal.telemetry.logs import log
from shoal.telemetry.trace import Span, span

RETRY_S = 10.0
ENGINE_RETRY_S = 1.0
LAST_LINES, LAST_BYTES = 80, 2048  # of a log that stands for a termination message (kubelet's bounds)
START_ERROR = 128  # the exit code of what could not be started, as containerd's


class Worker:
    """See the module. Made for a pod's uid; `run` ends when nothing of the pod is left and that is reported."""

    def __init__(self, node: Node, key: ObjectKey, uid: str) -> None:
        self.key = key
        self.uid = uid
        self._node = node
        self._ticket = node.turns.ticket()
        self._pod: Pod | None = None
        self._last_pod: Pod | None = None
        self._confirmed = False  # `_pod` None is known, not only not yet heard
        self._drained = False
        self._traceparent = ""
        self._facts: dict[str, Fact] = {}
        self._removed: set[str] = set()
        self._working: set[str] = set()
        self._images: dict[str, Image] = {}  # by container
        self._failures: dict[str, Failure] = {}
        self._connected: set[str] = set()
        self._prepared = False
        self._released = False
        self._deleted_seen = 0.0
        self._grace = 0.0  # the shortest that was given with the deletion
        self._kill_at = 0.0
        self._pod_ip = ""
        self._files = containers.Files()
        self._seen_at = 0.0
        self._messages: dict[str, str] = {}
        self._spans: dict[str, Span] = {}  # of the sandbox (""), and of a restart by container
        self._backing_off: set[str] = set()  # ids whose back-off was told
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # --- what is heard ---------------------------------------------------------------------------------------------------

    def wanted(self, pod: Pod, *, drained: bool, traceparent: str) -> None:
        self._pod = self._last_pod = pod
        self._drained = drained
        self._traceparent = traceparent
        self._confirmed = True
        self._seen_at = self._seen_at or self._node.now()
        if pod.metadata.deletion_timestamp is not None:
            self._deletion_seen(pods.grace(pod))
        self._wake.set()

    def _deletion_seen(self, grace_s: int) -> None:
        """A shorter grace than before also bounds what is being stopped already."""
        now = self._node.now()
        if not self._deleted_seen or grace_s < self._grace:
            self._grace = grace_s
            if any(key.startswith("stop ") for key in self._working):
                self._kill_at = now + grace_s
        self._deleted_seen = self._deleted_seen or now

    def unwanted(self) -> None:
        """A read has confirmed that there is no record of it."""
        self._pod = None
        self._confirmed = True
        self._wake.set()

    def listed(self, facts: tuple[Fact, ...], asked_at: float = 0.0) -> None:
        """All that the engine had of this pod at `asked_at`: at the beginning, and after events may have been missed."""
        made_since = {f.id: f for f in self._facts.values() if asked_at and f.created_at >= asked_at}
        self._facts = made_since | {f.id: f for f in facts}
        self._connected &= {f.id for f in facts if f.state == RUNNING}
        if facts and (first := min(f.created_at for f in facts)):
            self._seen_at = min(self._seen_at or first, first)
        self._wake.set()

    def changed(self, event: Changed) -> None:
        fact = self._facts.get(event.id)
        if fact is None:
            return
        replace = msgspec.structs.replace
        match event.what:
            case "start" if fact.state != RUNNING:
                self._facts[fact.id] = replace(fact, state=RUNNING, started_at=event.at, finished_at=0.0, exit_code=0)
            case "die":
                oom = fact.oom_killed and event.exit_code != 0
                ended = replace(
                    fact, state=EXITED, exit_code=event.exit_code, finished_at=event.at, pid=0, oom_killed=oom
                )
                self._facts[fact.id] = ended if fact.started_at else replace(ended, started_at=event.at)
                self._connected.discard(fact.id)
                self._read_last_words(self._facts[fact.id])
            case "oom":
                self._facts[fact.id] = replace(fact, oom_killed=fact.state == RUNNING or fact.exit_code != 0)
            case "destroy":
                del self._facts[fact.id]
                self._connected.discard(fact.id)
            case _:
                return
        self._wake.set()

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(self._facts.values())

    @property
    def pod(self) -> Pod | None:
        return self._pod

    # --- the loop --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            under_way: set[asyncio.Task[None]] = set()
            while True:
                self._wake.clear()
                timeout: float | None = None
                if self._confirmed and self._node.engine_up.is_set():
                    decision = pods.decide(self._view())
                    if decision.ended:
                        for task in under_way:  # a pull, at most: it goes on for others who want the image
                            task.cancel()
                        break
                    self._report()
                    for action in decision.actions:
                        self._working.add(key_of(action))
                        task = tasks.create_task(self._perform(action), name=f"{self.key} {key_of(action)}")
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                    if decision.wake_at is not None:
                        self._tell_backoff()
                        timeout = max(0.0, decision.wake_at - self._node.now())
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
        if self._last_pod is not None and self._pod is not None:
            self._report(gone=True)

    def _view(self) -> View:
        return View(
            pod=self._pod,
            facts=self.facts,
            memory=Memory(
                working=frozenset(self._working),
                prepared=self._prepared,
                released=self._released,
                connected=frozenset(self._connected),
                images={name: image.id for name, image in self._images.items()},
                failures=self._failures,
                deleted_seen=self._deleted_seen,
                kill_at=self._kill_at,
            ),
            now=self._node.now(),
            drained=self._drained,
        )

    def _report(self, *, gone: bool = False) -> None:
        if self._pod is None:
            return
        status = pod_status(
            Seen(
                pod=self._pod,
                facts=self.facts,
                failures=self._failures,
                connected=bool(self._connected),
                pod_ip=self._pod_ip if self._connected or self._released or self._pod.spec.host_network else "",
                host_ip=self._node.address,
                seen_at=self._seen_at,
                now=self._node.now(),
                message=self._message,
                images={c.image: i for c in self._all_containers() if (i := self._images.get(c.name)) is not None},
            )
        )
        self._node.reporter.pod(self.key, self.uid, status, gone=gone, traceparent=self._traceparent)

    def _message(self, fact: Fact) -> str:
        if fact.id not in self._messages:
            labels = fact.labels
            self._messages[fact.id] = self._node.volumes.message(self.uid, labels.container, labels.attempt)
        return self._messages[fact.id]

    def _read_last_words(self, fact: Fact) -> None:
        """`FallbackToLogsOnError`: of a failed container that left no message, the end of its log is the message."""
        container = next((c for c in self._all_containers() if c.name == fact.labels.container), None)
        if container is None or container.termination_message_policy != "FallbackToLogsOnError" or not fact.exit_code:
            return
        if self._tasks is not None and not self._message(fact):
            self._tasks.create_task(self._end_of_log(fact.id), name=f"{self.key} last words")

    async def _end_of_log(self, i: str) -> None:
        with suppress(ShoalError):
            output = await self._node.runtime.logs(i, {"tail": str(LAST_LINES), "follow": "0"})
            words = b""
            try:
                while (piece := await output.read()) is not None:
                    words = (words + piece[1])[-LAST_BYTES:]
            finally:
                await output.close()
            self._messages[i] = words.decode(errors="replace")
            self._wake.set()

    def _tell_backoff(self) -> None:
        """Once for each container that waits for its restart."""
        for fact in self._facts.values():
            if self._pod is None or fact.state != EXITED or not fact.labels.container or fact.id in self._backing_off:
                continue
            if not pods.restarts(self._pod, fact) or pods.restarts_at(fact) <= self._node.now():
                continue
            self._backing_off.add(fact.id)
            where = f"{self.key.name}_{self.key.namespace}({self.uid})"
            name = fact.labels.container
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")

    def _tell(self, type_: str, reason: str, message: str) -> None:
        self._node.reporter.event(self.key, self.uid, type_, reason, message)

    # --- carrying out ----------------------------------------------------------------------------------------------------

    async def _perform(self, action: pods.Action) -> None:
        try:
            await self._do(action)
        except Unavailable as error:
            self._fail(action, "", str(error), ENGINE_RETRY_S)
        except (ShoalError, OSError) as error:
            self._failed(action, error)
        except Exception as error:
            log.exception("pod.action", key=str(self.key), action=key_of(action))
            self._fail(action, "", f"{type(error).__name__}: {error}", RETRY_S)
        finally:
            self._working.discard(key_of(action))
            self._wake.set()

    async def _do(self, action: pods.Action) -> None:
        match action:
            case pods.Prepare():
                await self._prepare()
            case pods.GetImage(container=name):
                await self._get_image(self._container(name))
            case pods.CreateSandbox(generation=generation):
                await self._create_sandbox(generation)
            case pods.StartSandbox(id=i):
                await self._start_sandbox(i)
            case pods.CreateContainer():
                await self._create_container(action)
            case pods.StartContainer(id=i, container=name):
                await self._start_container(i, name)
            case pods.Stop():
                await self._stop(action)
            case pods.Remove(id=i):
                await self._remove(i)
            case pods.Release():
                await self._release()
            case _:
                assert_never(action)

    async def _prepare(self) -> None:
        pod, node = self._must(), self._node
        if pod.spec.host_network:
            self._pod_ip = node.address
        else:
            self._pod_ip = str(node.addresses.give(self.uid))
        self._released = False
        loop = asyncio.get_running_loop()
        self._files = await loop.run_in_executor(None, node.volumes.prepare, pod, node.etc(pod, self._pod_ip))
        self._prepared = True
        self._failures.pop(SANDBOX, None)

    async def _get_image(self, container: Container) -> None:
        async def pulling(pull: Awaitable[Image]) -> Image:
            with span("pull", parent=self._traceparent, image=container.image, **self._attributes(container.name)):
                return await pull

        present = container.image_pull_policy != "Always"
        pulled = False

        def told(type_: str, reason: str, message: str) -> None:
            nonlocal pulled
            pulled = True
            self._tell(type_, reason, message)

        self._images[container.name] = await self._node.images.get(
            container.image, container.image_pull_policy, told, pulling
        )
        self._failures.pop(container.name, None)
        if present and not pulled:
            self._tell("Normal", "Pulled", f'Container image "{container.image}" already present on machine')

    async def _create_sandbox(self, generation: int) -> None:
        pod, node = self._must(), self._node
        labels = self._labels(SANDBOX, generation=generation)
        if not pod.spec.host_network:
            labels = msgspec.structs.replace(labels, address=self._pod_ip)
        self._spans[SANDBOX] = span("sandbox", parent=self._traceparent, **self._attributes())
        body = containers.sandbox_body(pod, node.labels(labels), node.ground(self._pod_ip, pod))
        made = await self._create(containers.sandbox_name(labels), body)
        self._facts[made] = Fact(id=made, labels=labels, created_at=node.now(), image=node.sandbox_image)

    async def _start_sandbox(self, i: str) -> None:
        """Run it and connect it; what joins it before that would be without a network, or in the host's."""
        pod, node = self._must(), self._node
        fact = self._facts[i]
        if fact.state != RUNNING:
            async with node.turns.turn(self._ticket):
                await node.runtime.start(i)
            fact = self._facts[i] = msgspec.structs.replace(self._facts[i], state=RUNNING, started_at=node.now())
        if not pod.spec.host_network and node.network is not None:
            pid = await node.runtime.pid(i)
            if not pid:
                raise ShoalError("the sandbox ended at once")
            address = node.addresses.interface(self.uid)
            await node.network.connect(self.uid, pid, address, containers.net_sysctls(pod))
            await node.network.set_ports(self.uid, hostports.of_pod(pod, self._pod_ip))
        if self._facts.get(i, fact).state == RUNNING:
            self._connected.add(i)
        self._failures.pop(SANDBOX, None)
        self._end_span(SANDBOX)

    async def _create_container(self, action: pods.CreateContainer) -> None:
        pod, node = self._must(), self._node
        name = action.container
        container = self._container(name)
        image = self._images[name]
        labels = self._labels(name, attempt=action.attempt, failures=action.failures, generation=action.generation)
        with span("create", parent=self._parent(name, action.attempt), image=container.image, **self._attributes(name)):
            loop = asyncio.get_running_loop()
            mounts = await loop.run_in_executor(None, node.volumes.mounts, pod, container, action.attempt)
            ground = node.ground(self._pod_ip, pod)
            body = containers.container_body(
                pod,
                container,
                node.labels(labels),
                msgspec.structs.replace(ground, files=self._files),
                sandbox=containers.sandbox_name(self._labels(SANDBOX, generation=action.generation)),
                mounts=mounts,
                image=image,
            )
            try:
                made = await self._create(containers.container_name(labels), body)
            except EngineNotFound as error:
                # The image went meanwhile, or the sandbox: look at both again.
                node.images.forget(container.image)
                self._images.pop(name, None)
                self._fail(action, "", error.message, ENGINE_RETRY_S)
                return
        if container.image_pull_policy == "Always":
            self._images.pop(name, None)
        self._facts[made] = Fact(
            id=made,
            labels=labels,
            created_at=node.now(),
            image=container.image,
            image_id=image.id,
        )
        self._failures.pop(name, None)
        self._tell("Normal", "Created", f"Created container {name}")

    async def _create(self, name: str, body: dict[str, object]) -> str:
        """A name that is taken is of a create whose answer was lost: that container goes, and a new one is made."""
        async with self._node.turns.turn(self._ticket):
            try:
                return await self._node.runtime.create(name, body)
            except EngineError as error:
                if error.status != 409:
                    raise
            await self._node.runtime.remove(name)
            return await self._node.runtime.create(name, body)

    async def _start_container(self, i: str, name: str) -> None:
        node, attempt = self._node, self._facts[i].labels.attempt
        with span("start", parent=self._parent(name, attempt), container_id=i, **self._attributes(name)) as starting:
            try:
                async with node.turns.turn(self._ticket):
                    await node.runtime.start(i)
            except EngineNotFound:
                raise
            except EngineError as error:
                starting.error(error)
                now = node.now()
                self._facts[i] = msgspec.structs.replace(
                    self._facts[i], state=EXITED, error=error.message, exit_code=START_ERROR, finished_at=now
                )
                self._tell("Warning", "Failed", f"Error: {error.message}")
                return
            finally:
                self._end_span(name)
            if (fact := self._facts.get(i)) is not None and fact.state == CREATED:
                self._facts[i] = msgspec.structs.replace(fact, state=RUNNING, started_at=node.now())
            with span("started", parent=starting.traceparent, **self._attributes(name)):
                self._tell("Normal", "Started", f"Started container {name}")

    async def _stop(self, action: pods.Stop) -> None:
        name = action.container
        if action.why == "SandboxChanged":
            self._tell("Normal", action.why, "Pod sandbox changed, it will be killed and re-created.")
        if action.why == "ContainerChanged":
            self._tell("Normal", "Killing", f"Container {name} definition changed, will be restarted")
        elif action.why:
            self._tell("Normal", "Killing", f"Stopping container {name}")
        await self._node.runtime.stop(action.id, action.grace_s)
        self._ended(action.id)

    async def _remove(self, i: str) -> None:
        async with self._node.turns.turn(self._ticket, removal=True):
            await self._node.runtime.remove(i)
        fact = self._facts.pop(i, None)
        self._connected.discard(i)
        self._messages.pop(i, None)
        if fact is not None and fact.labels.container:
            self._node.volumes.forget_message(self.uid, fact.labels.container, fact.labels.attempt)

    async def _release(self) -> None:
        node = self._node
        if node.network is not None:
            await node.network.set_ports(self.uid, ())
            await node.network.disconnect(self.uid)
        else:
            await node.runtime.remove_volumes(self.uid)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, node.volumes.release, self.uid)
        node.addresses.free(self.uid)
        self._prepared, self._released = False, True

    # --- helpers ---------------------------------------------------------------------------------------------------------

    def _ended(self, i: str) -> None:
        """It was stopped; its exit code comes with the engine's event, which may be on its way still."""
        fact = self._facts.get(i)
        if fact is not None and fact.state == RUNNING:
            self._facts[i] = msgspec.structs.replace(fact, state=EXITED, exit_code=137, finished_at=self._node.now())

    def _failed(self, action: pods.Action, error: ShoalError | OSError) -> None:
        message = error.message if isinstance(error, ShoalError) else str(error)
        match action:
            case pods.GetImage(container=name) if isinstance(error, ImageError):
                before = self._failures.get(name)
                self._failures[name] = Failure(reason=error.why, message=message, until=error.until)
                if before is None or before.reason != error.why:
                    kind = "Normal" if error.why == "ImagePullBackOff" else "Warning"
                    word = "BackOff" if error.why == "ImagePullBackOff" else "Failed"
                    self._tell(kind, word, message)
                    self._tell("Warning", "Failed", f"Error: {error.why}")
            case pods.CreateContainer():
                reason = "CreateContainerError" if isinstance(error, EngineError) else "CreateContainerConfigError"
                self._fail(action, reason, message, RETRY_S)
                self._tell("Warning", "Failed", f"Error: {message}")
            case pods.Prepare() if isinstance(error, VolumeError):
                self._fail(action, "ContainerCreating", message, RETRY_S)
                self._tell("Warning", "FailedMount", message)
            case pods.Prepare() | pods.CreateSandbox() | pods.StartSandbox():
                self._fail(action, "ContainerCreating", message, RETRY_S)
                self._tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
            case _:
                log.warning("pod.action_failed", key=str(self.key), action=key_of(action), error=message)
                self._fail(action, "", message, ENGINE_RETRY_S)
        if isinstance(action, pods.StartSandbox | pods.CreateSandbox) and (begun := self._spans.pop(SANDBOX, None)):
            begun.error(message)
            begun.end()

    def _fail(self, action: pods.Action, reason: str, message: str, retry_s: float) -> None:
        name = getattr(action, "container", SANDBOX)
        count = self._failures[name].count + 1 if name in self._failures else 1
        until = self._node.now() + retry_s
        self._failures[name] = Failure(reason=reason, message=message, count=count, until=until)

    def _must(self) -> Pod:
        if self._last_pod is None:
            raise ShoalError(f"there is no manifest of {self.key}")
        return self._last_pod

    def _all_containers(self) -> tuple[Container, ...]:
        return (*self._last_pod.spec.init_containers, *self._last_pod.spec.containers) if self._last_pod else ()

    def _container(self, name: str) -> Container:
        return next(c for c in self._all_containers() if c.name == name)

    def _labels(self, container: str, *, attempt: int = 0, failures: int = 0, generation: int = 0) -> Labels:
        return Labels(
            uid=self.uid,
            namespace=self.key.namespace,
            pod=self.key.name,
            container=container,
            attempt=attempt,
            failures=failures,
            generation=generation,
        )

    def _attributes(self, container: str = "") -> dict[str, Any]:
        return {
            "namespace": self.key.namespace,
            "pod": self.key.name,
            "uid": self.uid,
            "node": self._node.name,
            "container": container,
        }

    def _parent(self, name: str, attempt: int) -> str:
        """The wish; what heals is a trace of its own, linked to it."""
        if not attempt:
            return self._traceparent
        if name not in self._spans:
            self._spans[name] = span("restart", links=[self._traceparent], **self._attributes(name))
        return self._spans[name].traceparent

    def _end_span(self, name: str) -> None:
        if (begun := self._spans.pop(name, None)) is not None:
            begun.end()
