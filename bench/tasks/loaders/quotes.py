"""Quotes in a CSV file: a text may span lines, but a quote that is never closed swallows the rows below it."""

import csv
import io
import sys
from collections.abc import Collection, Iterator

Row = tuple[int, int, list[str] | None]  # first and last line, from 1; the cells, None where a quote is misplaced


def spanning_lines(content: bytes, labels: Collection[str] = (), place: int | None = None) -> str | None:
    """Say how many lines and rows a CSV file has where its texts span lines; None where every row is a line.

    labels: those that the file is known to have, in the column number `place`: a line within a text that ends in one
    of them is a row. ValueError: a quote that is not closed swallowed rows; where.
    """
    rows = list(_rows(content.decode()))
    lines = len(content.splitlines())
    for first, last, cells in rows:
        if last > first and (cells is None or _holds_rows(cells, labels, place)):
            raise ValueError(
                f"the quote that opens in line {first} is not closed before line {last}, so the rows between were "
                f"read as one text (the file has {lines:,} lines, and {len(rows) - 1:,} rows would be read); close "
                "the quote, and write a quote within a quoted text twice"
            )
    if not any(last > first for first, last, _ in rows):
        return None
    return f"{lines:,} lines hold {len(rows) - 1:,} rows, because some texts span lines"


def _rows(content: str) -> Iterator[Row]:
    """All rows, the header among them; blank lines are passed over."""
    before = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # the reader goes on in the next line
                yield first, reader.line_num, None
            else:
                if any(cells):
                    yield first, reader.line_num, cells
    finally:
        csv.field_size_limit(before)


def _holds_rows(cells: list[str], labels: Collection[str], place: int | None) -> bool:
    """Whether the lines of a text are rows: each but the last has all cells, and a known label among them."""
    for cell in cells:
        lines = cell.splitlines()[:-1]
        found = [next(csv.reader([line]), []) for line in lines]
        if lines and place is not None and all(len(row) == len(cells) and row[place] in labels for row in found):
            return True
    return False
