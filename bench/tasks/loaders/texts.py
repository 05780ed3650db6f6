"""A file of texts, one to a line, and the name by which its content is known."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bench.files.jsonl import read_lines
from bench.files.utf8 import read_utf8


def read_texts(path: Path) -> list[str]:
    """The texts of a file: a line each, or the field `text` of JSON lines (.jsonl). ValueError: it has none."""
    if not path.is_file():
        raise ValueError(f"retain={path} is not a file; give one with a text per line, or JSON lines with a field text")
    if path.suffix == ".jsonl":
        rows = read_lines(path, "give it some, or leave retain away", "texts")
        if wrong := [number for number, row in enumerate(rows, 1) if not isinstance(row.get("text"), str)]:
            raise ValueError(f"retain={path}: row {wrong[0]} has no text; every line needs a field text")
        return [row["text"] for row in rows]
    texts = [line for line in read_utf8(path).decode().splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"retain={path} has no text; give it a text per line")
    return texts


def hash_of(texts: Sequence[str]) -> str:
    """The hash of the texts, in their order, as the records of trials name it."""
    return f"sha256:{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}"
