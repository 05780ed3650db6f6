"""Check that a tokenizer can read all texts of a task."""

from collections.abc import Iterable

from bench.files.characters import check_text
from bench.tasks.base import Split, Task


def check_characters(task: Task) -> None:
    """Reject texts and options with a lone surrogate in any part of a task.

    Raises:
        ValueError: a text has a lone surrogate. The message names the part and the row, counted from 1 after the data
            was split into parts.
    """
    for part, split in task.parts.items():
        for row, texts in enumerate(_rows(split), 1):
            check_text("\n".join(texts), f"the {part} part: row {row} ({texts[0][:40]!a})")


def _rows(split: Split) -> Iterable[tuple[str, ...]]:
    """Return all texts of each row that the model reads."""
    second = split.second or [""] * len(split)
    options = split.options or [[]] * len(split)
    return ((text, other, *choices) for text, other, choices in zip(split.texts, second, options, strict=True))
