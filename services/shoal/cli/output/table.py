"""kubectl's tables: cells padded to the widest of their column and three spaces; the last column is not padded."""

from collections.abc import Iterable, Sequence

PADDING = 3


class Table:
    """Prints rows, and remembers how wide its columns were: rows that a watch adds later stand under the first ones."""

    def __init__(self, headers: Sequence[str], *, show_headers: bool = True) -> None:
        self._headers = headers if show_headers else None
        self._widths = [0] * len(headers)

    def render(self, rows: Iterable[Sequence[str]]) -> str:
        """The rows as text, under the headers the first time."""
        lines = [[cell.replace("\n", " ") for cell in row] for row in rows]
        if self._headers is not None:
            lines.insert(0, list(self._headers))
            self._headers = None
        for line in lines:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, line, strict=True)]
        return "".join(self._line(line) for line in lines)

    def _line(self, cells: Sequence[str]) -> str:
        padded = (cell.ljust(width + PADDING) for cell, width in zip(cells[:-1], self._widths, strict=False))
        return "".join(padded) + cells[-1] + "\n"
