"""How a copy under `bound` is made of a stored record: spliced, never read and written anew. Pure.

Two controllers make copies of pods: the scheduler the first, delivery every later one; both must make the same bytes.
"""


def bound_copy(record: bytes, *, drained: bool = False) -> bytes:
    """`BoundPod` around a desired record as it is stored."""
    return b'{"pod":' + record + (b',"drained":true}' if drained else b"}")
