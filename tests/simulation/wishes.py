"""What people asked for, and the person who asks: each wish until it is acknowledged, one after the other."""

import asyncio
from collections import deque

import msgspec
from tests.simulation.steps import Delete, Run, Scale

from shoal import wire
from shoal.bus import jetstream
from shoal.bus.connection import Bus
from shoal.client.client import Client
from shoal.errors import NotFound, ShoalError
from shoal.names import MESSAGE_ID
from shoal.store.reads import Source, read_one

NAMESPACE = "default"
USER = "admin"
AGAIN_S = 0.2

Wish = Scale | Run | Delete


class Wanted:
    """What must be there in the end. A wish under way may be there already, or not yet: `allowed_replicas`."""

    def __init__(self) -> None:
        self.sets: dict[str, int] = {}
        self.bare: set[str] = set()
        self.under_way: Wish | None = None
        self._lowest: dict[str, int] = {}
        self.removed_bare: set[str] = set()

    def begins(self, wish: Wish) -> None:
        self.under_way = wish
        match wish:
            case Scale(name=name, replicas=replicas):
                self._lowest[name] = min(self._lowest.get(name, replicas), replicas)
            case Delete(resource="replicasets", name=name):
                self._lowest[name] = 0
            case Delete(resource="pods", name=name):
                self.removed_bare.add(name)

    def acknowledged(self, wish: Wish) -> None:
        self.under_way = None
        match wish:
            case Scale(name=name, replicas=replicas):
                self.sets[name] = replicas
            case Run(name=name):
                self.bare.add(name)
            case Delete(resource="replicasets", name=name):
                self.sets.pop(name, None)
            case Delete(name=name):
                self.bare.discard(name)

    def lowest_ever(self, name: str) -> int:
        """Fewer replicas of a set than this nobody ever asked for, and nothing may take it there."""
        return self._lowest.get(name, 0)


class Person:
    """Publishes and deletes, as a process of its own. Every wish is repeated until it is acknowledged."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._queue: deque[Wish] = deque()
        self._more = asyncio.Event()
        self._count = 0
        self._published: tuple[Wish, int] | None = None

    @property
    def idle(self) -> bool:
        return not self._queue and self.wanted.under_way is None

    def ask(self, wish: Wish) -> None:
        self._queue.append(wish)
        self._more.set()

    async def live(self, bus: Bus) -> None:
        while True:
            while not self._queue:
                self._more.clear()
                await self._more.wait()
            wish = self._queue[0]
            self.wanted.begins(wish)
            self._count += 1
            while not await self._try(bus, wish):
                await asyncio.sleep(AGAIN_S)
            self._queue.popleft()
            self.wanted.acknowledged(wish)

    async def _try(self, bus: Bus, wish: Wish) -> bool:
        """True when it is done: a deletion when nothing is there any more, a manifest when its outcome is told."""
        try:
            if isinstance(wish, Delete):
                await Client(bus).delete(wish.resource, NAMESPACE, wire.DeleteRequest(name=wish.name))
                return False
            if self._published != (wish, self._count):
                headers = {MESSAGE_ID: f"w{self._count}"}
                subject = bus.names.manifests(USER, "")
                await jetstream.publish(bus, subject, msgspec.json.encode(manifest(wish)), headers=headers)
                self._published = (wish, self._count)
            outcome = bus.names.outcome(USER, f"w{self._count}")
            return await read_one(bus, Source(bus.names.outcomes_stream), outcome) is not None
        except NotFound:
            return isinstance(wish, Delete)
        except ShoalError:
            return False


def manifest(wish: Scale | Run) -> dict[str, object]:
    spec = {"containers": [{"name": "main", "image": "shoal/web"}], "terminationGracePeriodSeconds": 1}
    if isinstance(wish, Run):
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": wish.name, "namespace": NAMESPACE},
            "spec": spec,
        }
    labels = {"set": wish.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": wish.name, "namespace": NAMESPACE},
        "spec": {
            "replicas": wish.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
