"""The engine's frames, however they are cut."""

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from shoal.node_agent.runtime.frames import Frames


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=30)


@given(FRAMES, st.lists(st.integers(1, 40), max_size=40))
def test_what_comes_out_does_not_depend_on_the_cuts(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(frame(stream, data) for stream, data in frames)
    reader, got = Frames(), list[tuple[int, bytes]]()
    for cut in [*cuts, max(1, len(wire))]:
        pieces = reader.feed(wire[:cut])
        assert all(data for _, data in pieces)
        assert all(a[0] != b[0] for a, b in itertools.pairwise(pieces))
        got += pieces
        wire = wire[cut:]
    bytewise = [(stream, byte) for stream, data in got for byte in data]
    assert bytewise == [(stream, byte) for stream, data in frames for byte in data]


def test_a_million_lines_are_a_few_pieces() -> None:
    wire = frame(1, b"line\n") * 10_000 + frame(2, b"oops\n") + frame(1, b"line\n")
    assert [(stream, len(data)) for stream, data in Frames().feed(wire)] == [(1, 50_000), (2, 5), (1, 5)]
