"""Text that a tokenizer can read: JSON may hold half of a surrogate pair, which is no character."""


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
