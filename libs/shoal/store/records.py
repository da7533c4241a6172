"""What the store reads and writes: entries, changes, and the two events of a watch. No I/O."""

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One key as the bucket has it. `value` None: it was deleted (a marker). `revision`: its stream sequence."""

    key: str
    value: bytes | None
    revision: int
    traceparent: str = ""


class Synced(msgspec.Struct, frozen=True):
    """Everything that existed at `revision` has been delivered. `gone`: keys known before that were not in this list
    (they vanished while the watch was away); a reader confirms by a read before anything is stopped.
    """

    revision: int
    gone: tuple[str, ...] = ()


class Put(msgspec.Struct, frozen=True):
    """`expected`: the revision this write was decided on; 0 = the key must not exist. `ttl_s`: then the server removes
    the entry, without a marker (a freed pod range rests so; 0 = it stays).
    """

    key: str
    value: bytes
    expected: int
    traceparent: str = ""
    ttl_s: int = 0


class Delete(msgspec.Struct, frozen=True):
    """Leaves a marker that expires (`MARKER_TTL_S`): the store hides it, and create passes its revision."""

    key: str
    expected: int
    traceparent: str = ""


Change = Put | Delete


class Fence(msgspec.Struct, frozen=True):
    """A leader's token: the batch stands only while `system.leaders.<group>` has this revision."""

    group: str
    revision: int


MARKER_TTL_S = 3600
BATCH_MAX = 999  # messages, the fence's among them: the server takes 1,000, a fence and 1,000 more it refused
OBJECT_BYTES_MAX = 1_572_864  # as Kubernetes: about 1.5 MiB
