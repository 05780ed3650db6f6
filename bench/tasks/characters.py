"""Text that a tokenizer can read: JSON may hold half of a surrogate pair, which is no character."""

from collections.abc import Iterable

from bench.tasks.task import Split, Task


def check_text(text: str, where: str) -> None:
    """Refuse a text that holds a lone surrogate, which neither a tokenizer nor a UTF-8 file can take.

    Args:
        text: What to check.
        where: The place to name, such as "questions.jsonl: row 3".

    Raises:
        ValueError: The text holds one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(
            f"{where} holds {half}, half of a surrogate pair and no character; write the whole character in UTF-8, or "
            "remove it"
        ) from error


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
