"""One pod's worker: hears of it (`knowledge`), decides (`pods`), has it carried out (`performer`), reports. A thin shell.

It sleeps until something happens: a new copy of the pod, an event of the engine, the end of an action, or the time
that the last decision named. Actions run beside each other; each ends in new knowledge, never in a decision.
"""

import asyncio
from contextlib import suppress

from shoal.errors import ShoalError
from shoal.model.pod import Pod, PodStatus
from shoal.names import ObjectKey
from shoal.node_agent import lifecycle, pods
from shoal.node_agent.actions import Action, key_of
from shoal.node_agent.knowledge import Knowledge
from shoal.node_agent.node import Node
from shoal.node_agent.performer import Performer
from shoal.node_agent.runtime.port import EXITED, RUNNING, SANDBOX, Changed, Fact
from shoal.node_agent.status import Seen, carried, pod_status, seconds_of

LAST_LINES, LAST_BYTES = 80, 2048  # of a log that stands for a termination message (kubelet's bounds)


class Worker:
    """See the module. Made for a pod's uid; `run` ends when nothing of the pod is left and that is reported."""

    def __init__(self, node: Node, key: ObjectKey, uid: str) -> None:
        self.key = key
        self.uid = uid
        self.known = Knowledge(node.name, key, uid, node.now, node.monotonic)
        self._node = node
        self._performer = Performer(node, self.known, self._tell)
        self._backing_off: set[str] = set()  # ids whose back-off was told
        self._before = node.kept.before(uid)  # what was reported last
        self._presumed: str | None = None  # the sandbox that an agent before this one had connected
        if self._before is not None:
            self.known.seen_at = seconds_of(self._before.start_time)
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # --- what is heard ---------------------------------------------------------------------------------------------------

    def wanted(self, pod: Pod, *, drained: bool, traceparent: str, revision: int = 0) -> None:
        self.known.wanted(pod, drained=drained, traceparent=traceparent, revision=revision)
        self._wake.set()

    def unwanted(self) -> None:
        """A read has confirmed that there is no record of it."""
        self.known.unwanted()
        self._wake.set()

    def listed(self, facts: tuple[Fact, ...], asked_at: float = 0.0) -> None:
        self.known.listed(facts, asked_at)
        if self._presumed is None:
            running = (f.id for f in facts if f.labels.container == SANDBOX and f.state == RUNNING)
            self._presumed = next(running, "") if self._before and _was_connected(self._before) else ""
        self._wake.set()

    def changed(self, event: Changed) -> None:
        if not self.known.changed(event):
            return
        if event.what == "die":
            self._performer.log_end(self.known.facts[event.id])
            self._read_last_words(self.known.facts[event.id])
        self._wake.set()

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(self.known.facts.values())

    def waits(self, container: str) -> str:
        """The reason why it does not run yet, as reported last; "" if it does, or nothing was reported."""
        if self._before is None:
            return ""
        for status in (*self._before.init_container_statuses, *self._before.container_statuses):
            if status.name == container and status.state.waiting is not None:
                return status.state.waiting.reason
        return ""

    # --- the loop --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        known = self.known
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            under_way: set[asyncio.Task[None]] = set()
            while True:
                self._wake.clear()
                timeout: float | None = None
                if known.confirmed and self._node.engine_up.is_set():
                    decision = pods.decide(known.view())
                    if decision.ended:
                        for task in under_way:  # a pull, at most: it goes on for others who want the image
                            task.cancel()
                        break
                    self._report()
                    for action in decision.actions:
                        known.working.add(key_of(action))
                        task = tasks.create_task(self._perform(action), name=f"{self.key} {key_of(action)}")
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                    if decision.wake_at is not None:
                        self._tell_backoff()
                        timeout = max(0.0, decision.wake_at - self._node.monotonic())
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
        self._report(gone=True)

    async def _perform(self, action: Action) -> None:
        try:
            await self._performer.perform(action)
        finally:
            self.known.working.discard(key_of(action))
            self._wake.set()

    # --- what is told ----------------------------------------------------------------------------------------------------

    def _report(self, *, gone: bool = False) -> None:
        known = self.known
        if known.pod is None:
            return
        shown = known.connected or known.released or known.pod.spec.host_network
        status = pod_status(
            Seen(
                pod=known.pod,
                facts=self.facts,
                failures=known.failures_told(),
                connected=self._is_connected(),
                pod_ip=known.pod_ip if shown else "",
                host_ip=self._node.address,
                seen_at=known.seen_at,
                now=self._node.now(),
                message=self._message,
                images={c.image: i for c in known.all_containers() if (i := known.images.get(c.name)) is not None},
            )
        )
        status = carried(self._before, status)
        if status != self._before:
            self._before = status
            self._node.kept.keep(self.uid, status)
        self._node.reporter.pod(self.key, self.uid, status, gone=gone, traceparent=known.traceparent)

    def _is_connected(self) -> bool:
        """What ran when this agent started counts as connected until it has looked: it must not seem to fail meanwhile."""
        known = self.known
        if known.connected or SANDBOX in known.failures_told():
            self._presumed = ""
        return bool(known.connected) or any(f.id == self._presumed and f.state == RUNNING for f in self.facts)

    def _message(self, fact: Fact) -> str:
        messages, labels = self.known.messages, fact.labels
        if fact.id not in messages:
            messages[fact.id] = self._node.volumes.message(self.uid, labels.container, labels.attempt)
        return messages[fact.id]

    def _read_last_words(self, fact: Fact) -> None:
        """`FallbackToLogsOnError`: of a failed container that left no message, the end of its log is the message."""
        container = next((c for c in self.known.all_containers() if c.name == fact.labels.container), None)
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
            self.known.messages[i] = words.decode(errors="replace")
            self._wake.set()

    def _tell_backoff(self) -> None:
        """Once for each container that waits for its restart."""
        pod = self.known.pod
        for fact in self.facts:
            if pod is None or fact.state != EXITED or not fact.labels.container or fact.id in self._backing_off:
                continue
            if not lifecycle.restarts(pod, fact) or not self.known.backs_off(fact):
                continue
            self._backing_off.add(fact.id)
            where = f"{self.key.name}_{self.key.namespace}({self.uid})"
            name = fact.labels.container
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}", name)

    def _tell(self, type_: str, reason: str, message: str, container: str) -> None:
        """`container` "": of the pod."""
        pod = self.known.last_pod
        inits = {c.name for c in pod.spec.init_containers} if pod else set()
        path = f"spec.{'initContainers' if container in inits else 'containers'}{{{container}}}" if container else ""
        self._node.reporter.event(self.key, self.uid, type_, reason, message, field_path=path)


def _was_connected(status: PodStatus) -> bool:
    return any(c.type == "PodReadyToStartContainers" and c.status == "True" for c in status.conditions)
