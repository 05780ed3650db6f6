"""JSON lines: one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.files.characters import check_text
from bench.files.utf8 import read_utf8


def read_lines(
    path: Path, remedy: str = "point task.path at the whole file", what: str = "questions"
) -> list[dict[str, Any]]:
    """Read all objects of a file. Empty lines are skipped.

    Args:
        path: The file, plain or gzipped.
        remedy: What to do about an empty file, for the message.
        what: What the file should contain, for the message.

    Raises:
        ValueError: The file cannot be read, has no objects, or has a line that is not a JSON object.
    """
    rows = list(_objects(path))
    if not rows:
        raise ValueError(f"{path}: no {what}; {remedy}")
    return rows


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not JSON ({error}); write one object per line") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is not a JSON object; write one per line")  # noqa: TRY004
        if b"\\ud" in line.lower():  # pandas cannot handle a lone surrogate
            check_text(json.dumps(row, ensure_ascii=False), f"{path}: line {number}")
        yield row
