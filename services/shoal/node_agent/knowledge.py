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
from shoal.node_agent import pods
from shoal.node_agent.containers import Files
from shoal.node_agent.pods import Failure, Memory, View
from shoal.node_agent.runtime.port import EXITED, RUNNING, Changed, Fact, Image, Labels


class Knowledge:
    """`node`: the node's name. `now`: Unix seconds."""

    def __init__(self, node: str, key: ObjectKey, uid: str, now: Callable[[], float]) -> None:
        self.node = node
        self.key = key
        self.uid = uid
        self.now = now
        self.pod: Pod | None = None
        self.last_pod: Pod | None = None
        self.confirmed = False  # `pod` None is known, not only not yet heard
        self.drained = False
        self.traceparent = ""
        self.revision = 0  # of the copy that was heard last
        self.facts: dict[str, Fact] = {}
        self.working: set[str] = set()
        self.images: dict[str, Image] = {}  # by container
        self.failures: dict[str, Failure] = {}
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
        now = self.now()
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
        """All that the engine had of this pod at `asked_at`: at the beginning, and after events may have been missed."""
        made_since = {f.id: f for f in self.facts.values() if asked_at and f.created_at >= asked_at}
        self.facts = made_since | {f.id: f for f in facts}
        self.connected &= {f.id for f in facts if f.state == RUNNING}
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
                self.facts[fact.id] = replace(fact, state=RUNNING, started_at=event.at, finished_at=0.0, exit_code=0)
            case "die":
                oom = fact.oom_killed and event.exit_code != 0
                ended = replace(
                    fact, state=EXITED, exit_code=event.exit_code, finished_at=event.at, pid=0, oom_killed=oom
                )
                self.facts[fact.id] = ended if fact.started_at else replace(ended, started_at=event.at)
                self.connected.discard(fact.id)
            case "oom":
                self.facts[fact.id] = replace(fact, oom_killed=fact.state == RUNNING or fact.exit_code != 0)
            case "destroy":
                del self.facts[fact.id]
                self.connected.discard(fact.id)
            case _:
                return False
        return True

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
                deleted_seen=self.deleted_seen,
                kill_at=self.kill_at,
            ),
            now=self.now(),
            drained=self.drained,
        )

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
