"""Elastic tab stops: what Go's text/tabwriter does with padding of spaces, so that tables line up as kubectl's do.

A cell is text that ends in a tab; the rest of a line belongs to no column. A column is made of the cells that
stand under each other in lines without a gap: it is as wide as the widest of them, and ends where a line has no such
cell. (Source: the package's documentation; kubectl uses it with padding 3 for tables, 2 for describe.)
"""

from collections.abc import Iterable


def align(lines: Iterable[str], padding: int = 2) -> str:
    """The text with every tab replaced by spaces; each line ends in a newline."""
    cells = [line.split("\t") for line in lines]
    out: list[str] = []
    _format(cells, 0, len(cells), [], padding, out)
    return "".join(out)


def _format(cells: list[list[str]], start: int, end: int, widths: list[int], padding: int, out: list[str]) -> None:
    column = len(widths)
    line = start
    while line < end:
        if column >= len(cells[line]) - 1:
            out.append(_pad(cells[line], widths))
            line += 1
            continue
        block_end = line
        while block_end < end and column < len(cells[block_end]) - 1:
            block_end += 1
        width = max(len(row[column]) for row in cells[line:block_end]) + padding
        _format(cells, line, block_end, [*widths, width], padding, out)
        line = block_end


def _pad(row: list[str], widths: list[int]) -> str:
    head = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    return "".join(head) + row[-1] + "\n"
