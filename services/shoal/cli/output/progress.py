"""One line that says what is going on, on a terminal, and nothing anywhere else (pipes, files, NO_COLOR's friends)."""

from types import TracebackType
from typing import Self

from shoal.cli.context import Context


class Progress:
    """On stderr, so that stdout stays what was asked for. The line is gone when the block ends."""

    def __init__(self, context: Context) -> None:
        self._out = context.err
        self._live = self._out.isatty() and context.env.get("TERM") != "dumb"
        self._shown = False

    def show(self, text: str) -> None:
        if self._live:
            self._out.write(f"\r\x1b[K{text}…")
            self._out.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.clear()
