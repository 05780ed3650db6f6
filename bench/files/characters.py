"""Refuse text that a tokenizer cannot read: JSON may contain half of a surrogate pair, which is not a character."""


def check_text(text: str, where: str) -> None:
    """Refuse a text with a lone surrogate, which neither a tokenizer nor a UTF-8 file accepts.

    Args:
        text: The text to check.
        where: The place to name in the message, such as "questions.jsonl: row 3".

    Raises:
        ValueError: The text contains a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(
            f"{where} holds {half}, half of a surrogate pair and no character; write the whole character in UTF-8, or "
            "remove it"
        ) from error
