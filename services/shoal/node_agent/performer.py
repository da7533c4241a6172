"""Carries out what was decided for one pod. Each action ends in new knowledge, a failure included; never in a decision."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

import msgspec

from shoal.errors import ShoalError, Unavailable, first_sentence
from shoal.model.container import Container
from shoal.node_agent import actions, containers, hostports
from shoal.node_agent.actions import Action, key_of, trial_of
from shoal.node_agent.images import ImageError
from shoal.node_agent.knowledge import Knowledge
from shoal.node_agent.node import Node
from shoal.node_agent.pods import Failure
from shoal.node_agent.runtime.port import (
    CREATED,
    EXITED,
    RUNNING,
    SANDBOX,
    EngineError,
    EngineNotFound,
    Fact,
    Image,
)
from shoal.node_agent.sub_paths import VolumeError
from shoal.telemetry.logs import log
from shoal.telemetry.trace import Span, span

RETRY_S = 10.0
ENGINE_RETRY_S = 1.0
RETRY_MAX_S = 60.0  # both are doubled up to here
ENDED_AT_ONCE = "the sandbox ended at once"
START_ERROR = 128  # the exit code of what could not be started, as containerd's

Tell = Callable[[str, str, str, str], None]  # type, reason, message, container ("" = of the pod): an event


class Performer:
    """Of one pod. `tell` tells its events."""

    def __init__(self, node: Node, known: Knowledge, tell: Tell) -> None:
        self._node = node
        self._known = known
        self._tell = tell
        self._ticket = node.turns.ticket()
        self._spans: dict[str, Span] = {}  # of the sandbox (""), and of a restart by container

    async def perform(self, action: Action) -> None:
        try:
            await self._do(action)
            if not isinstance(action, actions.CreateSandbox):  # it must start too
                self._known.failures.pop(trial_of(action), None)
        except Unavailable as error:
            self._fail(action, "", str(error), ENGINE_RETRY_S)
        except (ShoalError, OSError) as error:
            self._failed(action, error)
        except Exception as error:
            log.exception("pod.action", action=key_of(action), **self._about())
            self._fail(action, "", first_sentence(error), RETRY_S)

    async def _do(self, action: Action) -> None:
        match action:
            case actions.Prepare():
                await self._prepare()
            case actions.GetImage(container=name):
                await self._get_image(self._known.container(name))
            case actions.CreateSandbox(generation=generation):
                await self._create_sandbox(generation)
            case actions.StartSandbox(id=i):
                await self._start_sandbox(i)
            case actions.CreateContainer():
                await self._create_container(action)
            case actions.StartContainer(id=i, container=name):
                await self._start_container(i, name)
            case actions.Stop():
                await self._stop(action)
            case actions.Remove(id=i):
                await self._remove(i)
            case actions.Release():
                await self._release()
            case _:
                assert_never(action)

    async def _prepare(self) -> None:
        pod, node = self._known.must(), self._node
        if pod.spec.host_network:
            self._known.pod_ip = node.address
        else:
            self._known.pod_ip = str(await node.addresses.give(self._known.uid))
        self._known.released = False
        loop = asyncio.get_running_loop()
        self._known.files = await loop.run_in_executor(
            None, node.volumes.prepare, pod, node.etc(pod, self._known.pod_ip)
        )
        self._known.prepared = True

    async def _get_image(self, container: Container) -> None:
        async def pulling(pull: Awaitable[Image]) -> Image:
            with span(
                "pull", parent=self._known.traceparent, image=container.image, **self._known.attributes(container.name)
            ):
                return await pull

        present = container.image_pull_policy != "Always"
        pulled = False

        def told(type_: str, reason: str, message: str) -> None:
            nonlocal pulled
            pulled = True
            self._tell(type_, reason, message, container.name)

        self._known.images[container.name] = await self._node.images.get(
            container.image, container.image_pull_policy, told, pulling
        )
        if present and not pulled:
            self._tell(
                "Normal", "Pulled", f'Container image "{container.image}" already present on machine', container.name
            )

    async def _create_sandbox(self, generation: int) -> None:
        pod, node = self._known.must(), self._node
        labels = self._known.labels(SANDBOX, generation=generation)
        if not pod.spec.host_network:
            labels = msgspec.structs.replace(labels, address=self._known.pod_ip)
        self._spans[SANDBOX] = span("sandbox", parent=self._known.traceparent, **self._known.attributes())
        body = containers.sandbox_body(pod, node.labels(labels), node.ground(self._known.pod_ip, pod))
        made = await self._create(containers.sandbox_name(labels), body)
        self._known.made(Fact(id=made, labels=labels, created_at=node.now(), image=node.sandbox_image))

    async def _start_sandbox(self, i: str) -> None:
        """Run it and connect it; what joins it before that would be without a network, or in the host's."""
        pod, node = self._known.must(), self._node
        if not self._runs(i):
            async with node.turns.turn(self._ticket):
                await node.runtime.start(i)
            self._started(i)
        if not pod.spec.host_network and node.network is not None:
            pid = await node.runtime.pid(i)
            if not pid:
                await self._look_again(i)
                raise ShoalError(ENDED_AT_ONCE)
            address = node.addresses.interface(self._known.uid)
            await node.network.connect(self._known.uid, pid, address, containers.net_sysctls(pod))
            await node.network.set_ports(self._known.uid, hostports.of_pod(pod, self._known.pod_ip))
        if not self._runs(i):  # its end was heard meanwhile
            raise ShoalError(ENDED_AT_ONCE)
        self._known.connected.add(i)
        self._end_span(SANDBOX)

    def _runs(self, i: str) -> bool:
        fact = self._known.facts.get(i)
        return fact is not None and fact.state == RUNNING

    def _started(self, i: str) -> None:
        """The engine has answered a start. Its event may have come before, and that of the end too."""
        if (fact := self._known.facts.get(i)) is not None and fact.state == CREATED:
            self._known.put(msgspec.structs.replace(fact, state=RUNNING, started_at=self._node.now()))

    async def _look_again(self, i: str) -> None:
        """It has no process: whatever was heard of it, the engine knows."""
        try:
            self._known.put(await self._node.runtime.inspect(i))
        except EngineNotFound:
            self._known.forget(i)

    async def _create_container(self, action: actions.CreateContainer) -> None:
        pod, node = self._known.must(), self._node
        name = action.container
        container = self._known.container(name)
        image = self._known.images[name]
        labels = self._known.labels(
            name, attempt=action.attempt, failures=action.failures, generation=action.generation
        )
        with span(
            "create", parent=self._parent(name, action.attempt), image=container.image, **self._known.attributes(name)
        ):
            loop = asyncio.get_running_loop()
            mounts = await loop.run_in_executor(None, node.volumes.mounts, pod, container, action.attempt)
            ground = node.ground(self._known.pod_ip, pod)
            body = containers.container_body(
                pod,
                container,
                node.labels(labels),
                msgspec.structs.replace(ground, files=self._known.files),
                sandbox=containers.sandbox_name(self._known.labels(SANDBOX, generation=action.generation)),
                mounts=mounts,
                image=image,
            )
            try:
                made = await self._create(containers.container_name(labels), body)
            except EngineNotFound:
                # The image went meanwhile, or the sandbox: look at both again.
                node.images.forget(container.image)
                self._known.images.pop(name, None)
                raise
        if container.image_pull_policy == "Always":
            self._known.images.pop(name, None)
        self._known.made(Fact(id=made, labels=labels, created_at=node.now(), image=container.image, image_id=image.id))
        self._tell("Normal", "Created", f"Created container {name}", name)

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
        node, attempt = self._node, self._known.facts[i].labels.attempt
        with span(
            "start", parent=self._parent(name, attempt), container_id=i, **self._known.attributes(name)
        ) as starting:
            try:
                async with node.turns.turn(self._ticket):
                    await node.runtime.start(i)
            except EngineNotFound:
                raise
            except EngineError as error:
                starting.error(error)
                if (fact := self._known.facts.get(i)) is not None:
                    self._known.put(
                        msgspec.structs.replace(
                            fact, state=EXITED, error=error.message, exit_code=START_ERROR, finished_at=node.now()
                        )
                    )
                self._tell("Warning", "Failed", f"Error: {error.message}", name)
                log.warning(
                    "container.not_started",
                    **self._about(starting.traceparent),
                    container=name,
                    attempt=attempt,
                    error=error.message,
                )
                return
            finally:
                self._end_span(name)
            self._started(i)
            with span("started", parent=starting.traceparent, **self._known.attributes(name)):
                self._tell("Normal", "Started", f"Started container {name}", name)
            log.info(
                "container.started", **self._about(starting.traceparent), container=name, attempt=attempt, id=i[:12]
            )

    async def _stop(self, action: actions.Stop) -> None:
        name = action.container
        if action.why == "SandboxChanged":
            self._tell("Normal", action.why, "Pod sandbox changed, it will be killed and re-created.", "")
        if action.why == "ContainerChanged":
            self._tell("Normal", "Killing", f"Container {name} definition changed, will be restarted", name)
        elif action.why:
            self._tell("Normal", "Killing", f"Stopping container {name}", name)
        await self._node.runtime.stop(action.id, action.grace_s)
        self._ended(action.id)

    async def _remove(self, i: str) -> None:
        async with self._node.turns.turn(self._ticket, removal=True):
            await self._node.runtime.remove(i)
        fact = self._known.facts.get(i)
        self._known.forget(i)
        if fact is not None and fact.labels.container:
            self._node.volumes.forget_message(self._known.uid, fact.labels.container, fact.labels.attempt)

    async def _release(self) -> None:
        node = self._node
        if node.network is not None:
            await node.network.set_ports(self._known.uid, ())
            await node.network.disconnect(self._known.uid)
        else:
            await node.runtime.remove_volumes(self._known.uid)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, node.volumes.release, self._known.uid)
        await node.addresses.free(self._known.uid)
        self._known.prepared, self._known.released = False, True

    # --- what failed ---------------------------------------------------------------------------------------------------

    def _ended(self, i: str) -> None:
        """It was stopped; its exit code comes with the engine's event, which may be on its way still."""
        fact = self._known.facts.get(i)
        if fact is not None and fact.state == RUNNING:
            self._known.put(msgspec.structs.replace(fact, state=EXITED, exit_code=137, finished_at=self._node.now()))

    def _failed(self, action: Action, error: ShoalError | OSError) -> None:
        message = error.message if isinstance(error, ShoalError) else str(error)
        match action:
            case actions.GetImage(container=name) if isinstance(error, ImageError):
                before = self._known.failures.get(trial_of(action))
                self._file(action, Failure(reason=error.why, message=message, until=error.until, container=name))
                if before is None or before.reason != error.why:
                    kind = "Normal" if error.why == "ImagePullBackOff" else "Warning"
                    word = "BackOff" if error.why == "ImagePullBackOff" else "Failed"
                    self._tell(kind, word, message, name)
                    self._tell("Warning", "Failed", f"Error: {error.why}", name)
            case actions.CreateContainer() if isinstance(error, EngineNotFound):
                self._fail(action, "", message, ENGINE_RETRY_S)
            case actions.CreateContainer(container=name):
                reason = "CreateContainerError" if isinstance(error, EngineError) else "CreateContainerConfigError"
                self._fail(action, reason, message, RETRY_S)
                self._tell("Warning", "Failed", f"Error: {message}", name)
            case actions.Prepare() if isinstance(error, VolumeError):
                self._fail(action, "ContainerCreating", message, RETRY_S)
                self._tell("Warning", "FailedMount", message, "")
            case actions.Prepare() | actions.CreateSandbox() | actions.StartSandbox():
                self._fail(action, "ContainerCreating", message, RETRY_S)
                self._tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}", "")
            case _:
                log.warning("pod.action_failed", action=key_of(action), error=message, **self._about())
                self._fail(action, "", message, ENGINE_RETRY_S)
        if isinstance(action, actions.StartSandbox | actions.CreateSandbox) and (
            begun := self._spans.pop(SANDBOX, None)
        ):
            begun.error(message)
            begun.end()

    def _fail(self, action: Action, reason: str, message: str, retry_s: float) -> None:
        """It is tried again after `retry_s`, doubled with each failure in a row."""
        before = self._known.failures.get(trial_of(action))
        count = before.count + 1 if before is not None else 1
        until = self._node.monotonic() + min(RETRY_MAX_S, retry_s * 2.0 ** min(count - 1, 10))
        told = _told_by(action)
        self._file(action, Failure(reason=reason, message=message, count=count, until=until, container=told))

    def _file(self, action: Action, failure: Failure) -> None:
        self._known.failures.pop(trial_of(action), None)
        self._known.failures[trial_of(action)] = failure

    # --- the log ---

    def log_end(self, fact: Fact) -> None:
        """The engine has told the end of a container: under the trace of the wish, a restarted one's too."""
        if name := fact.labels.container:
            log.info(
                "container.ended",
                **self._about(),
                container=name,
                attempt=fact.labels.attempt,
                exit_code=fact.exit_code,
                id=fact.id[:12],
            )

    def _about(self, traceparent: str = "") -> dict[str, Any]:
        """What each line carries: which pod, by which of its copies, for which wish."""
        known = self._known
        return {
            "key": str(known.key),
            "revision": known.revision,
            "traceparent": traceparent or known.traceparent,
        }

    # --- traces --------------------------------------------------------------------------------------------------------

    def _parent(self, name: str, attempt: int) -> str:
        """The wish; what heals is a trace of its own, linked to it."""
        if not attempt:
            return self._known.traceparent
        if name not in self._spans:
            self._spans[name] = span("restart", links=[self._known.traceparent], **self._known.attributes(name))
        return self._spans[name].traceparent

    def _end_span(self, name: str) -> None:
        if (begun := self._spans.pop(name, None)) is not None:
            begun.end()


def _told_by(action: Action) -> str | None:
    """See `Failure.container`."""
    match action:
        case actions.GetImage(container=name) | actions.CreateContainer(container=name):
            return name
        case actions.Prepare() | actions.CreateSandbox() | actions.StartSandbox():
            return SANDBOX
        case _:
            return None
