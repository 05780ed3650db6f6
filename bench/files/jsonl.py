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
    """All objects of a file; empty lines are passed over. ValueError: a line that is none, or nothing at all."""
    rows = list(_objects(path))
    if not rows:
        raise ValueError(f"{path}: no {what}; {remedy}")
    return rows


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line.decode())
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is no JSON ({error}); write one object per line") from error
        if not isinstance(found, dict):
            raise ValueError(f"{path}: line {number} is no JSON object; write one per line")  # noqa: TRY004
        if b"\\ud" in line.lower():  # before pandas meets it
            check_text(json.dumps(found, ensure_ascii=False), f"{path}: line {number}")
        yield found
