"""Faults that were put in on purpose: each is a mistake that somebody could make, and a simulation that finds none of its
consequences proves nothing. What a fault is called says what was left out.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from shoal.api.manifests import Cursor, Manifests
from shoal.bus import jetstream as js
from shoal.controller import queue
from shoal.controller.actions import Decision, Remove
from shoal.controller.term import Term
from shoal.node_agent import kept_addresses
from shoal.node_agent.addresses import Addresses
from shoal.node_agent.service import Agent
from shoal.replica_controller import delivery, removal, replicasets
from shoal.store import batch, commit, watch
from shoal.store.records import Synced

FAULTS: dict[str, Callable[[], Any]] = {}


def fault(plant: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    made = FAULTS[plant.__name__] = contextmanager(plant)
    return made


@fault
def a_fence_left_out() -> Iterator[None]:
    """Leaders write whatever their token says, and go on though their lease is over."""
    real = commit.Committer.commit

    async def unfenced(self: Any, changes: Any, fence: Any = None) -> Any:
        return await real(self, changes, None)

    with (
        patch.object(commit.Committer, "commit", unfenced),
        patch.object(Term, "_commit", lambda self, unit: self.shell.store.commit(unit)),
    ):
        yield


@fault
def a_compare_and_set_left_out() -> Iterator[None]:
    real = batch._headers

    def blind(change: Any, expected: Any) -> dict[str, str]:
        return {k: v for k, v in real(change, expected).items() if k != js.EXPECTED_REVISION}

    with patch.object(batch, "_headers", blind):
        yield


@fault
def a_marker_forgotten() -> Iterator[None]:
    """What is deleted stays in every view."""
    real = watch.Watch.__aiter__

    async def without_markers(self: Any) -> Any:
        async for item in real(self):
            if isinstance(item, Synced) or item.value is not None:
                yield item

    with patch.object(watch.Watch, "__aiter__", without_markers):
        yield


@fault
def the_vanished_not_told() -> Iterator[None]:
    """A list that is begun anew does not say what went meanwhile."""
    real = watch._Drain._sync

    def silent(self: Any) -> Synced:
        return msgspec.structs.replace(real(self), gone=())

    with patch.object(watch._Drain, "_sync", silent):
        yield


@fault
def a_name_by_chance() -> Iterator[None]:
    """Names that no repeat would choose again, and no counter beside them: a lost acknowledgement doubles."""

    def any_name(owner: str, _uid: str, _counter: int) -> str:
        return f"{owner}-" + "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))

    def uncounted(real: Callable[..., Any]) -> Callable[..., Any]:
        def scale_up(*arguments: Any) -> Any:
            decision = real(*arguments)
            kept = tuple(a for a in decision.actions if type(a).__name__ != "SetStatus")
            return msgspec.structs.replace(decision, actions=kept)

        return scale_up

    with (
        patch.object(replicasets, "pod_name", any_name),
        patch.object(replicasets, "_scale_up", uncounted(replicasets._scale_up)),
    ):
        yield


@fault
def a_cursor_left_out() -> Iterator[None]:
    """A message that comes again is applied again."""

    with patch.object(Manifests, "_cursor", lambda _self: Cursor(sequence=0, document=0)):
        yield


@fault
def addresses_not_adopted() -> Iterator[None]:
    """An agent that begins again gives out what runs already has."""
    with (
        patch.object(Addresses, "adopt", lambda *_: True),
        patch.object(kept_addresses, "_read", lambda _path: b""),
    ):
        yield


@fault
def an_absence_believed() -> Iterator[None]:
    """An agent ends what its watch does not show, and asks nobody."""

    async def at_once(self: Agent, key: Any, uid: str) -> None:
        if self._uids.get(key) != uid and (worker := self.workers.get(uid)) is not None:
            worker.unwanted()

    with (
        patch.object(Agent, "_confirm", at_once),
        patch.object(watch._Drain, "_whole", lambda _self: True),
        patch.object(watch._Drain, "_take", _hurried(watch._Drain._take)),
    ):
        yield


def _hurried(real: Callable[..., Any]) -> Callable[..., Any]:
    """A list is taken for complete at its first entry."""

    def take(self: Any, message: Any, headers: Any) -> Any:
        entry, _ = real(self, message, headers)
        return entry, 0

    return take


@fault
def a_look_forgotten() -> Iterator[None]:
    """What is told of a key while it is being worked on is not looked at afterwards."""
    real = queue.Queue.add

    def add(self: Any, key: Any, after_s: float = 0.0) -> None:
        if key not in self._working:
            real(self, key, after_s)

    with patch.object(queue.Queue, "add", add):
        yield


@fault
def a_deletion_not_delivered() -> Iterator[None]:
    """The copy on the node never says that the pod is to go."""
    with patch.object(delivery, "_pod_copies", lambda _pod, _view: ()):
        yield


@fault
def a_record_removed_too_soon() -> Iterator[None]:
    """A pod's record goes when its deletion is asked for, not when its node says that it is gone."""
    with patch.object(removal, "_remove_from_node", lambda stored, _node, _view: Decision((Remove(stored.key),))):
        yield
