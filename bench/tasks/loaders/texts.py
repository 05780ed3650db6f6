"""Read a file of texts, one per line, and hash its content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bench.files.jsonl import read_lines
from bench.files.utf8 import read_utf8


def read_texts(path: Path) -> list[str]:
    """Read the texts of a file: one per line, or the field `text` of JSON lines (.jsonl).

    Raises:
        ValueError: the file does not exist, has no texts, or has a row without a text.
    """
    if not path.is_file():
        raise ValueError(f"retain={path} is not a file; give one with a text per line, or JSON lines with a field text")
    if path.suffix == ".jsonl":
        rows = read_lines(path, "add some, or omit retain", "texts")
        if invalid := [number for number, row in enumerate(rows, 1) if not isinstance(row.get("text"), str)]:
            raise ValueError(f"retain={path}: row {invalid[0]} has no text; every line needs a field text")
        return [row["text"] for row in rows]
    texts = [line for line in read_utf8(path).decode().splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"retain={path} has no text; give it a text per line")
    return texts


def hash_of(texts: Sequence[str]) -> str:
    """Return the hash of the texts, in order, as it appears in the records of trials."""
    return f"sha256:{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}"
