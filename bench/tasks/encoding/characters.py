"""A task whose texts a tokenizer can read."""

from collections.abc import Iterable

from bench.files.characters import check_text
from bench.tasks.base import Split, Task


def check_characters(task: Task) -> None:
    """Refuse texts and options with a lone surrogate in any part of a task.

    Raises:
        ValueError: Which part and which of its rows, counted from 1 after the parts were cut out of the data.
    """
    for part, split in task.parts.items():
        for row, texts in enumerate(_rows(split), 1):
            check_text("\n".join(texts), f"the {part} part: row {row} ({texts[0][:40]!a})")


def _rows(split: Split) -> Iterable[tuple[str, ...]]:
    """Everything of each row that the model reads."""
    second = split.second or [""] * len(split)
    options = split.options or [[]] * len(split)
    return ((text, other, *more) for text, other, more in zip(split.texts, second, options, strict=True))
