"""Options of a question as they stand in a file: what counts as one, and which of them an answer names."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from string import ascii_uppercase
from typing import Any


def option_text(value: Any) -> str:
    """Return an option as text; a number as JSON writes it.

    Raises:
        ValueError: It is null, empty, a list or an object; the message is to follow the option's place.
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):  # true and false are numbers in Python
        return json.dumps(value)
    found = "empty" if isinstance(value, str) else json.dumps(value, default=str)[:40]
    raise ValueError(f"is {found}; every option must be a text or a number")


def option_numbers(answers: Sequence[Any], options: Sequence[Sequence[str]], path: str) -> list[int]:
    """Return the number of the right option of each row of a file, from 0.

    An answer is an option's number from 0, its letter or its text. Where it can be two of these that name different
    options (3 where "3" is the text of another one), the way in which the file's other rows answer decides.

    Args:
        answers: As they stand in the file.
        options: Of each row, as texts.
        path: The file, to be named.

    Raises:
        ValueError: An answer names no option, or two.
    """
    every = [_readings(answer, texts) for answer, texts in zip(answers, options, strict=True)]
    clear = {way for found in every if len(found) == 1 for way in found}
    numbers: list[int] = []
    for row, (found, answer, texts) in enumerate(zip(every, answers, options, strict=True), 1):
        where = f"{path}: row {row} has answer {json.dumps(answer, default=str)}"
        if not found:
            letters = f"{ascii_uppercase[0]} to {ascii_uppercase[len(texts) - 1]}"
            raise ValueError(f"{where}; allowed: 0 to {len(texts) - 1}, {letters}, or an option's text")
        named = set(found.values())
        if len(named) > 1:
            named = {number for way, number in found.items() if way in clear}
        if len(named) != 1:
            other = next(way for way in found if way != "text")
            safe = "letter" if other == "number" else "number from 0"
            raise ValueError(
                f"{where}, which is the {other} of the option {texts[found[other]]!r} and the text of another one; "
                f"write the option's {safe} instead"
            )
        numbers.extend(named)
    return numbers


def _readings(answer: Any, options: Sequence[str]) -> dict[str, int]:
    """Which option an answer names, by each of the ways in which it can name one."""
    found = {}
    same = [number for number, option in enumerate(options) if _is_text_of(option, answer)]
    if len(same) == 1:
        found["text"] = same[0]
    if isinstance(answer, bool):  # or true would be the number 1
        return found
    if isinstance(answer, (int, float)) and answer in range(len(options)):
        found["number"] = int(answer)
    if isinstance(answer, str) and answer.strip().upper() in list(ascii_uppercase[: len(options)]):
        found["letter"] = ascii_uppercase.index(answer.strip().upper())
    return found


def _is_text_of(option: str, answer: Any) -> bool:
    if isinstance(answer, bool):
        return option.strip().lower() == json.dumps(answer)
    if isinstance(answer, (int, float)):
        with suppress(ValueError):
            return float(option) == answer
        return False
    return isinstance(answer, str) and option == answer
