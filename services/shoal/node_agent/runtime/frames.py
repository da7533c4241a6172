"""How the engine mixes stdout and stderr into one stream: frames of (stream, length, data). No I/O.

A line a frame is what a log's reader gets, so a log is frames by the million: they are taken apart by the piece that has
arrived, and neighbours of one stream are put together again.
"""

import struct

_HEADER = struct.Struct(">BxxxL")


class Frames:
    def __init__(self) -> None:
        self._rest = b""  # the beginning of a header
        self._stream = 1
        self._left = 0  # bytes of the current frame that are to come

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What of it can be told: (stream, data), data never empty, no two neighbours of one stream."""
        if self._rest:
            data = self._rest + data
        pieces: list[tuple[int, bytes]] = []
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                end = min(at + self._left, size)
                parts.append(data[at:end])
                self._left -= end - at
                at = end
                continue
            if size - at < _HEADER.size:
                break
            stream, self._left = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            if self._left and stream != self._stream:
                if parts:
                    pieces.append((self._stream, b"".join(parts)))
                    parts = []
                self._stream = stream
        self._rest = data[at:]
        if parts:
            pieces.append((self._stream, b"".join(parts)))
        return pieces
