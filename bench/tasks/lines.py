"""JSON lines: one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(
    path: Path, remedy: str = "point task.path at the whole file", what: str = "questions"
) -> list[dict[str, Any]]:
    """All objects of a file; empty lines are passed over. ValueError: a line that is none, or nothing at all."""
    rows = list(_objects(path))
    if not rows:
        raise ValueError(f"{path}: no {what}; {remedy}")
    return rows


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: line {number} is not UTF-8; convert it: iconv -f latin1 -t utf-8") from error
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is no JSON ({error}); write one object per line") from error
        if not isinstance(found, dict):
            raise ValueError(f"{path}: line {number} is no JSON object; write one per line")  # noqa: TRY004
        if b"\\ud" in line.lower():
            check_text(json.dumps(found, ensure_ascii=False), f"{path}: line {number}")
        yield found


def check_text(text: str, where: str) -> None:
    r"""Refuse a text that no tokenizer can read: JSON can spell half of a character, such as "\ud83d".

    Args:
        text: A text of the user's.
        where: Where it comes from, for the message.

    Raises:
        ValueError: The text holds half of a surrogate pair.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = ascii(text[max(0, error.start - 20) : error.start + 20])
        raise ValueError(
            f"{where}: {around} holds half of a character ({text[error.start]!a}, a lone surrogate); "
            "correct it in the data"
        ) from error
