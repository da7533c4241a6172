"""What must hold, by name: at every moment, and when everything has come to rest."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from tests.simulation.engine import Engine
from tests.simulation.nats.stream import Stored, Stream
from tests.simulation.wishes import NAMESPACE, Wanted

from shoal import names
from shoal.bus import jetstream as js
from shoal.node_agent.runtime.port import RUNNING, SANDBOX, Fact
from shoal.store.view import View

Json = dict[str, Any]
LEADERS = ("scheduler-", "controller-")


class Violation(AssertionError):
    """`invariant`: its name."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class State:
    """The bucket as the server has it, read as objects."""

    def __init__(self, stream: Stream, prefix: str) -> None:
        self._stream = stream
        self._prefix = prefix

    def entries(self, *filters: str) -> dict[str, bytes]:
        found = self._stream.newest_of([self._prefix + f for f in filters])
        return {m.subject[len(self._prefix) :]: m.data for m in found if not _is_marker(m)}

    def objects(self, resource: str) -> dict[str, Json]:
        """Desired records by name, of the one namespace that the runs use."""
        found = self.entries(f"desired.{resource}.{NAMESPACE}.*")
        return {key.rpartition(".")[2]: msgspec.json.decode(value) for key, value in found.items()}

    def before(self, key: str) -> Json | None:
        message = self._stream.last(self._prefix + key)
        return msgspec.json.decode(message.data) if message is not None and not _is_marker(message) else None


def _is_marker(message: Stored) -> bool:
    return message.headers.get(js.OPERATION) == "DEL" or js.MARKER_REASON in message.headers


def owner_of(pod: Json) -> str:
    """The set's name; "" for a bare pod."""
    return next((o["name"] for o in pod["metadata"].get("ownerReferences", []) if o.get("controller")), "")


def is_deleted(record: Json) -> bool:
    return "deletionTimestamp" in record["metadata"]


class Always:
    """Watches every write and every container that is ended. Raises: Violation, kept in `found` too."""

    def __init__(self, state: State, wanted: Wanted, engines: list[Engine]) -> None:
        self.found: list[Violation] = []
        self._state = state
        self._wanted = wanted
        self._engines = engines
        self._records: dict[str, Json] = {}
        self._behind_fence: set[str] = set()
        for engine in engines:
            engine.stopped_by_us.append(self.ended)

    def _violated(self, invariant: str, what: str) -> None:
        self.found.append(Violation(invariant, what))

    def stored(self, key: str, message: Stored) -> None:
        """After a write to the bucket."""
        self._fenced(key, message)
        if not key.startswith("desired."):
            return
        before = self._records.pop(key, None)
        if _is_marker(message):
            if before is not None:
                self._erased(key, before)
            return
        record = self._records[key] = msgspec.json.decode(message.data)
        if before is not None and record["metadata"]["uid"] == before["metadata"]["uid"]:
            if is_deleted(record) and not is_deleted(before):
                self._condemned(key, record)
            if before["spec"].get("nodeName") and record["spec"].get("nodeName") != before["spec"]["nodeName"]:
                self._violated("a pod stays where it is bound", key)
            if is_deleted(before) and not is_deleted(record):
                self._violated("no deletion is taken back", key)
        elif before is not None:
            self._violated("no record is replaced by another object's", key)

    def _fenced(self, key: str, message: Stored) -> None:
        """Who wrote is in the id of the write: it begins with the process' name."""
        batch = message.headers.get(js.BATCH_ID, "")
        if key.startswith("system.fence."):
            self._behind_fence.add(batch)
        writer = batch or message.headers.get(names.WRITE_ID, "")
        if writer.startswith(LEADERS) and not key.startswith("system.") and batch not in self._behind_fence:
            self._violated("every write of a leader is behind its fence", f"{key} by {writer}")

    def _erased(self, key: str, before: Json) -> None:
        uid = before["metadata"]["uid"]
        if any(f.labels.uid == uid for e in self._engines for f in e.running):
            self._violated("a record outlives its containers", key)
        bound = before.get("spec", {}).get("nodeName")
        if ".pods." in key and bound and not is_deleted(before):
            self._violated("nothing deleted that was not asked for", f"{key} was erased while it was wanted")
        elif not is_deleted(before):
            self._condemned(key, before)

    def _condemned(self, key: str, record: Json) -> None:
        """A record is marked for deletion, or goes at once."""
        _, resource, _, name = key.split(".")
        if resource == "replicasets":
            if self._wanted.lowest_ever(name) > 0:
                self._violated("nothing deleted that was not asked for", key)
        elif resource == "pods":
            owner = owner_of(record)
            if not owner and name not in self._wanted.removed_bare:
                self._violated("nothing deleted that was not asked for", key)
            left = sum(owner_of(p) == owner and not is_deleted(p) for k, p in self._records.items() if ".pods." in k)
            if owner and left < self._wanted.lowest_ever(owner):
                self._violated("no set falls below what anybody asked for", f"{key}: {left} left")

    def ended(self, fact: Fact) -> None:
        """An agent ends a container that runs."""
        labels = fact.labels
        record = self._records.get(f"desired.pods.{labels.namespace}.{labels.pod}")
        if record is not None and record["metadata"]["uid"] == labels.uid and not is_deleted(record):
            sandboxes = [
                f
                for e in self._engines
                for f in e.facts.values()
                if f.labels.uid == labels.uid and f.labels.container == SANDBOX
            ]
            if fact.labels.container != SANDBOX and any(f.state == RUNNING for f in sandboxes):
                self._violated("no wanted container is stopped", f"{labels.pod}/{labels.container}")

    def addresses(self) -> None:
        running = [f for e in self._engines for f in e.running if f.labels.container == SANDBOX and f.labels.address]
        for address, count in Counter(f.labels.address for f in running).items():
            if count > 1:
                self._violated("no address twice", address)


def at_rest(state: State, wanted: Wanted, engines: dict[str, Engine]) -> Iterator[str]:
    """What is not yet, or never will be, as it was asked for. Nothing: all is at rest."""
    pods, sets = state.objects("pods"), state.objects("replicasets")
    if set(sets) != set(wanted.sets):
        yield f"every wish reached: sets are {sorted(sets)}, wanted {sorted(wanted.sets)}"
    for name, replicas in wanted.sets.items():
        own = [p for p in pods.values() if owner_of(p) == name]
        if len(own) != replicas:
            yield f"never two pods for one slot: {name} has {len(own)} pods, wanted {replicas}"
    bare = {n for n, p in pods.items() if not owner_of(p)}
    if bare != wanted.bare:
        yield f"every wish reached: bare pods are {sorted(bare)}, wanted {sorted(wanted.bare)}"
    yield from _containers(pods, engines)
    yield from _statuses(state, pods, wanted)
    yield from _left_behind(state, pods, sets)


def ghosts(state: State, views: Iterable[tuple[str, View]]) -> Iterator[str]:
    """What a process still sees and is no more."""
    there = state.entries(">")
    for process, view in views:
        for entry in view.entries():
            if entry.key not in there:
                yield f"no view shows what is gone: {process} sees {entry.key}"


def _containers(pods: dict[str, Json], engines: dict[str, Engine]) -> Iterator[str]:
    wanted = Counter(
        (p["spec"].get("nodeName", ""), p["metadata"]["uid"], container)
        for p in pods.values()
        for container in (SANDBOX, "main")
    )
    there = Counter((n, f.labels.uid, f.labels.container) for n, e in engines.items() for f in e.running)
    for place in (wanted - there) + (there - wanted):
        node, uid, container = place
        name = next((n for n, p in pods.items() if p["metadata"]["uid"] == uid), uid)
        yield (
            f"each pod runs once, where it is bound: {name}/{container or 'sandbox'} on {node or 'no node'}: "
            f"wanted {wanted[place]}, there {there[place]}"
        )
    for node, engine in engines.items():
        uids = {p["metadata"]["uid"] for p in pods.values()}
        for fact in engine.facts.values():
            if fact.labels.uid not in uids:
                yield f"nothing left behind: a container of {fact.labels.pod} on {node}"


def _statuses(state: State, pods: dict[str, Json], wanted: Wanted) -> Iterator[str]:
    for name, pod in pods.items():
        node = pod["spec"].get("nodeName", "")
        observed = state.before(f"observed.{node}.pods.{NAMESPACE}.{name}") if node else None
        status = (observed or {}).get("status", {})
        if observed is None or observed["uid"] != pod["metadata"]["uid"] or status.get("phase") != "Running":
            yield f"what runs is told: {name} is {status.get('phase', 'not reported')}"
    for name, replicas in wanted.sets.items():
        status = (state.before(f"observed._.replicasets.{NAMESPACE}.{name}") or {}).get("status", {})
        if (status.get("replicas", 0), status.get("readyReplicas", 0)) != (replicas, replicas):
            yield f"what runs is told: the status of set {name} says {status}"


def _left_behind(state: State, pods: dict[str, Json], sets: dict[str, Json]) -> Iterator[str]:
    uids = {r["metadata"]["uid"] for r in (*pods.values(), *sets.values())}
    for key, value in state.entries(f"observed.*.*.{NAMESPACE}.*", f"bound.*.*.{NAMESPACE}.*").items():
        body = msgspec.json.decode(value)
        uid = body["uid"] if key.startswith("observed.") else body["pod"]["metadata"]["uid"]
        if uid not in uids:
            yield f"no key left behind: {key}"
