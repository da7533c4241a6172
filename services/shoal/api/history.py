"""The last changes of all objects, for watches: from R on, whoever asks sees what happened, in order. Pure.

The stream keeps one message a key, so its past is not to be had from it: this ring is the history. What is older than
the ring, or than this process, is `Expired`, and the watcher lists anew. Every api instance has its own ring over the
same order.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile

import msgspec

from shoal.errors import Expired
from shoal.names import ObjectKey

CHANGES_MAX = 4096
BYTES_MAX = 24 * 2**20

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


class Facts(msgspec.Struct, frozen=True):
    """What selectors look at."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]


class Change(msgspec.Struct, frozen=True):
    """One object, changed at `revision`. `before` None: it is new; `after` None: it is gone, `body` is its last state."""

    revision: int
    key: ObjectKey
    before: Facts | None
    after: Facts | None
    body: bytes


Selects = Callable[[ObjectKey, Facts], bool]


def type_for(change: Change, selects: Selects) -> str:
    """ADDED, MODIFIED or DELETED as a watcher with this selector sees it; "" if it does not. What leaves the
    selector is DELETED, what enters is ADDED.
    """
    was = change.before is not None and selects(change.key, change.before)
    now = change.after is not None and selects(change.key, change.after)
    if was:
        return MODIFIED if now else DELETED
    return ADDED if now else ""


class History:
    """`floor`: a watch from there or later can be answered. `last`: everything up to there is in it."""

    def __init__(self, *, changes: int = CHANGES_MAX, size: int = BYTES_MAX) -> None:
        self.floor = 0
        self.last = 0
        self._changes: deque[Change] = deque()
        self._changes_max = changes
        self._size_max = size
        self._size = 0

    def begin(self, revision: int) -> None:
        """Nothing before `revision` is known: the first list, or a stream that began anew."""
        self._changes.clear()
        self._size = 0
        self.floor = self.last = revision

    def reach(self, revision: int) -> None:
        """All changes up to here have been recorded."""
        self.last = max(self.last, revision)

    def record(self, change: Change) -> None:
        """In the order of revisions; several may share one."""
        self._changes.append(change)
        self._size += len(change.body)
        self.last = max(self.last, change.revision)
        while len(self._changes) > self._changes_max or self._size > self._size_max:
            dropped = self._changes.popleft()
            self._size -= len(dropped.body)
            self.floor = dropped.revision

    def check(self, revision: int) -> None:
        """Raises: Expired if what happened since is no longer known."""
        if revision < self.floor:
            raise Expired(f"what happened since revision {revision} is no longer known: list again")

    def since(self, revision: int) -> Iterator[Change]:
        """What changed after `revision`, oldest first. Raises: Expired."""
        self.check(revision)
        newer = list(takewhile(lambda change: change.revision > revision, reversed(self._changes)))
        return reversed(newer)
