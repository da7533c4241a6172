"""What an agent knows of one pod: the manifest, the engine's facts, and what was tried. Changed by what is heard of it
and by what is done for it; decisions and the status are made of it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from shoal.errors import ShoalError
from shoal.model.container import Container
from shoal.model.pod import Pod
from shoal.names import ObjectKey
from shoal.node_agent import lifecycle, pods
from shoal.node_agent.containers import Files
from shoal.node_agent.pods import Failure, Memory, View
from shoal.node_agent.runtime.port import EXITED, RUNNING, Changed, Fact, Image, Labels


class Knowledge:
    """`node`: the node's name. `now`: Unix seconds, which may jump; `monotonic`: the clock of all that waits."""

    def __init__(
        self, node: str, key: ObjectKey, uid: str, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self.node = node
        self.key = key
        self.uid = uid
        self.now = now
        self.monotonic = monotonic
        self.pod: Pod | None = None
        self.last_pod: Pod | None = None
        self.confirmed = False  # `pod` None is known, not only not yet heard
        self.drained = False
        self.traceparent = ""
        self.revision = 0  # of the copy that was heard last
        self.facts: dict[str, Fact] = {}
        self.ended: dict[str, float] = {}  # when containers ended, by `monotonic`
        self.working: set[str] = set()
        self.images: dict[str, Image] = {}  # by container
        self.failures: dict[str, Failure] = {}  # by `actions.trial_of`; what failed last is last
        self.connected: set[str] = set()
        self.prepared = False
        self.released = False
        self.deleted_seen = 0.0
        self.grace = 0.0  # the shortest that was given with the deletion
        self.kill_at = 0.0
        self.pod_ip = ""
        self.files = Files()
        self.seen_at = 0.0
        self.messages: dict[str, str] = {}  # termination messages, by container id
        self._made: dict[str, float] = {}  # since the last list: when, by `monotonic`

    # --- what is heard ---------------------------------------------------------------------------------------------------

    def wanted(self, pod: Pod, *, drained: bool, traceparent: str, revision: int = 0) -> None:
        self.pod = self.last_pod = pod
        self.drained = drained
        self.traceparent = traceparent
        self.revision = revision
        self.confirmed = True
        self.seen_at = self.seen_at or self.now()
        if pod.metadata.deletion_timestamp is not None:
            self._deletion_seen(pods.grace(pod))

    def _deletion_seen(self, grace_s: int) -> None:
        """A shorter grace than before also bounds what is being stopped already."""
        now = self.monotonic()
        if not self.deleted_seen or grace_s < self.grace:
            self.grace = grace_s
            if any(key.startswith("stop ") for key in self.working):
                self.kill_at = now + grace_s
        self.deleted_seen = self.deleted_seen or now

    def unwanted(self) -> None:
        """A read has confirmed that there is no record of it."""
        self.pod = None
        self.confirmed = True

    def listed(self, facts: tuple[Fact, ...], asked_at: float = 0.0) -> None:
        """All that the engine had of this pod at `asked_at`: at the beginning, and after events may have been missed.

        What was made while it answered may be missing in it; all else that it does not name is gone.
        """
        asked = self._when(asked_at)
        kept = {i for i, at in self._made.items() if asked_at and at >= asked}
        self._made.clear()  # the next list is asked for later
        for i in self.facts.keys() - kept - {f.id for f in facts}:
            self.forget(i)
        for fact in facts:
            self.put(fact)
        self.connected &= {f.id for f in facts if f.state == RUNNING}
        # The engine answers: what failed because it did not is tried anew.
        self.failures = {trial: failed for trial, failed in self.failures.items() if failed.reason}
        if facts and (first := min(f.created_at for f in facts)):
            self.seen_at = min(self.seen_at or first, first)

    def changed(self, event: Changed) -> bool:
        """False if it says nothing new."""
        fact = self.facts.get(event.id)
        if fact is None:
            return False
        replace = msgspec.structs.replace
        match event.what:
            case "start" if fact.state != RUNNING:
                self.put(replace(fact, state=RUNNING, started_at=event.at, finished_at=0.0, exit_code=0))
            case "die":
                oom = fact.oom_killed and event.exit_code != 0
                ended = replace(
                    fact, state=EXITED, exit_code=event.exit_code, finished_at=event.at, pid=0, oom_killed=oom
                )
                self.ended.setdefault(fact.id, self.monotonic())  # heard as it happens, whatever the engine's clock
                self.put(ended if fact.started_at else replace(ended, started_at=event.at))
            case "oom":
                self.facts[fact.id] = replace(fact, oom_killed=fact.state == RUNNING or fact.exit_code != 0)
            case "destroy":
                self.forget(fact.id)
            case _:
                return False
        return True

    # --- what is seen and done -------------------------------------------------------------------------------------------

    def made(self, fact: Fact) -> None:
        self._made[fact.id] = self.monotonic()
        self.put(fact)

    def put(self, fact: Fact) -> None:
        """What a container is now. When it ended is told by the engine's clock, and translated when it is first seen."""
        self.facts[fact.id] = fact
        if fact.state != RUNNING:
            self.connected.discard(fact.id)
        if fact.state != EXITED:
            self.ended.pop(fact.id, None)
        elif fact.id not in self.ended:
            self.ended[fact.id] = self._when(fact.finished_at)

    def forget(self, i: str) -> None:
        """It is gone."""
        for known in (self.facts, self.ended, self._made, self.messages):
            known.pop(i, None)
        self.connected.discard(i)
        for verb in ("start", "stop", "remove"):
            self.failures.pop(f"{verb} {i}", None)

    def _when(self, at: float) -> float:
        """A Unix time by `monotonic`, and never in the future: clocks are set back. 0: not known, so now."""
        return self.monotonic() - (max(0.0, self.now() - at) if at else 0.0)

    # --- what it comes to -------------------------------------------------------------------------------------------------

    def view(self) -> View:
        return View(
            pod=self.pod,
            facts=tuple(self.facts.values()),
            memory=Memory(
                working=frozenset(self.working),
                prepared=self.prepared,
                released=self.released,
                connected=frozenset(self.connected),
                images={name: image.id for name, image in self.images.items()},
                failures=self.failures,
                ended=self.ended,
                deleted_seen=self.deleted_seen,
                kill_at=self.kill_at,
            ),
            now=self.monotonic(),
            drained=self.drained,
        )

    def failures_told(self) -> dict[str, Failure]:
        """For the status: the last of each container, under SANDBOX the pod's."""
        return {f.container: f for f in self.failures.values() if f.container is not None}

    def backs_off(self, fact: Fact) -> bool:
        """It ended, and is not started again yet."""
        return fact.id in self.ended and self.ended[fact.id] + lifecycle.pause_s(fact) > self.monotonic()

    def must(self) -> Pod:
        if self.last_pod is None:
            raise ShoalError(f"there is no manifest of {self.key}")
        return self.last_pod

    def all_containers(self) -> tuple[Container, ...]:
        return (*self.last_pod.spec.init_containers, *self.last_pod.spec.containers) if self.last_pod else ()

    def container(self, name: str) -> Container:
        return next(c for c in self.all_containers() if c.name == name)

    def labels(self, container: str, *, attempt: int = 0, failures: int = 0, generation: int = 0) -> Labels:
        return Labels(
            uid=self.uid,
            namespace=self.key.namespace,
            pod=self.key.name,
            container=container,
            attempt=attempt,
            failures=failures,
            generation=generation,
        )

    def attributes(self, container: str = "") -> dict[str, Any]:
        return {
            "namespace": self.key.namespace,
            "pod": self.key.name,
            "uid": self.uid,
            "node": self.node,
            "container": container,
        }
