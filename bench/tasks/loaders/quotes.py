"""Detect unclosed quotes in a CSV file. A quoted text may span lines, but an unclosed quote swallows later rows."""

import csv
import io
import sys
from collections.abc import Collection, Iterator

Row = tuple[int, int, list[str] | None]  # first and last line, from 1; the cells, or None if a quote is misplaced


def spanning_lines(content: bytes, labels: Collection[str] = (), place: int | None = None) -> str | None:
    """Return a note on the numbers of lines and rows of a CSV file; None if every row is a single line.

    Args:
        content: the file.
        labels: the labels that the file is known to have. If the lines within a text have such a label in the column
            `place`, they are taken for rows.
        place: number of the label column, counted from 0.

    Raises:
        ValueError: an unclosed quote swallowed rows. The message names the lines.
    """
    rows = list(_rows(content.decode()))
    lines = len(content.splitlines())
    for first, last, cells in rows:
        if last > first and (cells is None or _holds_rows(cells, labels, place)):
            raise ValueError(
                f"the quote that opens in line {first} is not closed before line {last}, so the rows between were "
                f"read as one text (the file has {lines:,} lines, and {len(rows) - 1:,} rows would be read); close "
                "the quote, and double every quote within a quoted text"
            )
    if not any(last > first for first, last, _ in rows):
        return None
    return f"{lines:,} lines hold {len(rows) - 1:,} rows, because some texts span lines"


def _rows(content: str) -> Iterator[Row]:
    """Yield all rows, including the header. Blank lines are skipped."""
    old_limit = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # the reader continues with the next line
                yield first, reader.line_num, None
            else:
                if any(cells):
                    yield first, reader.line_num, cells
    finally:
        csv.field_size_limit(old_limit)


def _holds_rows(cells: list[str], labels: Collection[str], place: int | None) -> bool:
    """Return whether the lines of a text are rows.

    They are if every line but the last has as many cells as a row and a known label in the label column.
    """
    for cell in cells:
        lines = cell.splitlines()[:-1]
        rows = [next(csv.reader([line]), []) for line in lines]
        if lines and place is not None and all(len(row) == len(cells) and row[place] in labels for row in rows):
            return True
    return False
