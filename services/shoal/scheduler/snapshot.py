"""What the nodes have and what is used of it, kept current by small steps. Pure bookkeeping, no decisions.

    node record ──▶ put_node          pod record ──▶ put_pod          decided, not yet seen ──▶ assume / unassume

Nodes lie in an order that a seeded hash of their names fixes: of equally good nodes the first wins, so that two
schedulers choose alike and no node is everybody's first choice. Each change of a node's use is noted in `log`, from
which whoever caches judgements of nodes learns which to look at anew; `hope` rises with whatever may let a pod in that
fitted nowhere.
"""

import hashlib
from bisect import bisect_left, insort

import msgspec

from shoal.model.node import Node, Taint
from shoal.names import ObjectKey
from shoal.scheduler.asks import Ask, HostPort, milli, whole

LOG_MAX = 100_000  # then the log begins anew, and so does whoever reads it


class Facts(msgspec.Struct, frozen=True):
    """What placement needs of a node's record. `storage_bytes` None: the node does not say."""

    name: str
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    network: bool = True
    unschedulable: bool = False
    cpu_milli: int = 0
    memory_bytes: int = 0
    pods: int = 0
    storage_bytes: int | None = None


def facts_of(node: Node) -> Facts:
    """A node that is being deleted takes no more pods. Of the network nothing said is nothing wrong."""
    allocatable = node.status.allocatable or node.status.capacity
    ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
    return Facts(
        name=node.metadata.name,
        labels=node.metadata.labels,
        taints=node.spec.taints,
        ready=ready,
        network=not any(c.type == "NetworkUnavailable" and c.status == "True" for c in node.status.conditions),
        unschedulable=node.spec.unschedulable or node.metadata.deletion_timestamp is not None,
        cpu_milli=milli(allocatable.get("cpu", "0")),
        memory_bytes=whole(allocatable.get("memory", "0")),
        pods=whole(allocatable.get("pods", "0")),
        storage_bytes=whole(allocatable["ephemeral-storage"]) if "ephemeral-storage" in allocatable else None,
    )


class Use:
    """What the pods of one node take, whether its record is known or not."""

    __slots__ = (
        "cpu_milli",
        "memory_bytes",
        "pods",
        "ports",
        "scored_cpu_milli",
        "scored_memory_bytes",
        "storage_bytes",
    )

    def __init__(self) -> None:
        self.cpu_milli = 0
        self.memory_bytes = 0
        self.storage_bytes = 0
        self.scored_cpu_milli = 0
        self.scored_memory_bytes = 0
        self.pods = 0
        self.ports: list[HostPort] = []

    def add(self, ask: Ask, sign: int) -> None:
        self.cpu_milli += sign * ask.cpu_milli
        self.memory_bytes += sign * ask.memory_bytes
        self.storage_bytes += sign * ask.storage_bytes
        self.scored_cpu_milli += sign * ask.scored_cpu_milli
        self.scored_memory_bytes += sign * ask.scored_memory_bytes
        self.pods += sign
        for port in ask.ports:
            self.ports.append(port) if sign > 0 else self.ports.remove(port)


class Placed(msgspec.Struct, frozen=True):
    """A pod on a node. `counts`: for the spread of its owner's pods (one that is being deleted does not)."""

    node: str
    ask: Ask
    uid: str = ""
    owner: str = ""
    counts: bool = True
    assumed: bool = False


class Slot:
    """A node with its use: what filters and scores look at."""

    __slots__ = ("facts", "rank", "use")

    def __init__(self, rank: bytes, facts: Facts, use: Use) -> None:
        self.rank = rank
        self.facts = facts
        self.use = use


class Snapshot:
    """`nodes` is in the order of ties; an index into it is good until `layout` changes."""

    def __init__(self, seed: str = "") -> None:
        self.nodes: list[Slot] = []
        self.placed: dict[ObjectKey, Placed] = {}
        self.log: list[int] = []
        self.layout = 0
        self.hope = 0
        self._seed = seed.encode()
        self._uses: dict[str, Use] = {}
        self._owners: dict[str, dict[str, int]] = {}
        self._index: dict[str, int] = {}

    # --- nodes ---

    def put_node(self, facts: Facts) -> bool:
        """True if anything that placement looks at is new."""
        index = self._index.get(facts.name)
        if index is None:
            slot = Slot(self._rank(facts.name), facts, self._use(facts.name))
            insort(self.nodes, slot, key=lambda s: s.rank)
            self._lay_out()
        elif self.nodes[index].facts == facts:
            return False
        else:
            self.nodes[index].facts = facts
            self.log.append(index)
        self.hope += 1
        return True

    def drop_node(self, name: str) -> bool:
        if name not in self._index:
            return False
        del self.nodes[bisect_left(self.nodes, self._rank(name), key=lambda s: s.rank)]
        if not self._uses[name].pods:
            del self._uses[name]
        self._lay_out()
        self.hope += 1  # the sentence counts nodes
        return True

    def _rank(self, name: str) -> bytes:
        return hashlib.blake2b(name.encode(), key=self._seed[:64], digest_size=8).digest() + name.encode()

    def _lay_out(self) -> None:
        self._index = {slot.facts.name: i for i, slot in enumerate(self.nodes)}
        self.layout += 1
        self.log.clear()

    # --- pods ---

    def put_pod(self, key: ObjectKey, placed: Placed) -> bool:
        """The pod is there. True if that frees something (it was elsewhere, or counts no longer)."""
        known = self.placed.get(key)
        if known is not None:
            if msgspec.structs.replace(known, assumed=placed.assumed) == placed:
                self.placed[key] = placed
                return False
            self._take(key, known)
        self.placed[key] = placed
        self._land(placed, 1)
        freed = known is not None and known.node != placed.node
        self.hope += freed
        return freed

    def drop_pod(self, key: ObjectKey) -> bool:
        """True if something was freed."""
        known = self.placed.get(key)
        if known is None:
            return False
        self._take(key, known)
        self.hope += 1
        return True

    def assume(self, key: ObjectKey, placed: Placed) -> None:
        """Decided, and sent: it counts until the watch shows it, or until `unassume`."""
        self.put_pod(key, msgspec.structs.replace(placed, assumed=True))

    def unassume(self, key: ObjectKey) -> bool:
        known = self.placed.get(key)
        return known is not None and known.assumed and self.drop_pod(key)

    def owner_counts(self, owner: str) -> dict[int, int]:
        """How many of this owner's pods each node has, by index; nodes without one, and unknown ones, are left out."""
        index = self._index
        return {index[n]: count for n, count in self._owners.get(owner, {}).items() if n in index}

    def _take(self, key: ObjectKey, placed: Placed) -> None:
        del self.placed[key]
        self._land(placed, -1)

    def _land(self, placed: Placed, sign: int) -> None:
        use = self._use(placed.node)
        use.add(placed.ask, sign)
        index = self._index.get(placed.node)
        if index is not None:
            self.log.append(index)
            if len(self.log) > LOG_MAX:
                self._lay_out()
        elif not use.pods:
            del self._uses[placed.node]
        if placed.owner and placed.counts:
            counts = self._owners.setdefault(placed.owner, {})
            counts[placed.node] = counts.get(placed.node, 0) + sign
            if not counts[placed.node]:
                del counts[placed.node]
                if not counts:
                    del self._owners[placed.owner]

    def _use(self, name: str) -> Use:
        use = self._uses.get(name)
        if use is None:
            use = self._uses[name] = Use()
        return use
