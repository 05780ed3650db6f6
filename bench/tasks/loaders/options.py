"""Read the options of a question from a file's values, and find the option that an answer names."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from string import ascii_uppercase
from typing import Any


def option_text(value: Any) -> str:
    """Return an option as text. Numbers are formatted as in JSON.

    Raises:
        ValueError: the option is null, empty, a list or an object. The message continues a sentence that the caller
            begins with the place of the option.
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):  # true and false are numbers in Python
        return json.dumps(value)
    problem = "empty" if isinstance(value, str) else json.dumps(value, default=str)[:40]
    raise ValueError(f"is {problem}; every option must be a text or a number")


def option_numbers(answers: Sequence[Any], options: Sequence[Sequence[str]], path: str) -> list[int]:
    """Return the number of the correct option of each row, counted from 0.

    An answer is an option's number from 0, its letter or its text. Some answers can be read in two ways that name
    different options, such as 3 if "3" is the text of another option. They are read in the way that the unambiguous
    rows of the file use.

    Args:
        answers: the answers as stored in the file.
        options: the options of each row, as texts.
        path: path of the file, for the error message.

    Raises:
        ValueError: an answer names no option, or more than one.
    """
    all_readings = [_readings(answer, texts) for answer, texts in zip(answers, options, strict=True)]
    unambiguous_ways = {way for readings in all_readings if len(readings) == 1 for way in readings}
    numbers: list[int] = []
    for row, (readings, answer, texts) in enumerate(zip(all_readings, answers, options, strict=True), 1):
        where = f"{path}: row {row} has answer {json.dumps(answer, default=str)}"
        if not readings:
            letters = f"{ascii_uppercase[0]} to {ascii_uppercase[len(texts) - 1]}"
            raise ValueError(f"{where}; allowed: 0 to {len(texts) - 1}, {letters}, or an option's text")
        named = set(readings.values())
        if len(named) > 1:
            named = {number for way, number in readings.items() if way in unambiguous_ways}
        if len(named) != 1:
            way = next(way for way in readings if way != "text")
            alternative = "letter" if way == "number" else "number from 0"
            raise ValueError(
                f"{where}, which is the {way} of the option {texts[readings[way]]!r} and the text of another one; "
                f"write the option's {alternative} instead"
            )
        numbers.extend(named)
    return numbers


def _readings(answer: Any, options: Sequence[str]) -> dict[str, int]:
    """Return the option that an answer names, for each way of naming one that applies: text, number or letter."""
    readings = {}
    matching = [number for number, option in enumerate(options) if _is_text_of(option, answer)]
    if len(matching) == 1:
        readings["text"] = matching[0]
    if isinstance(answer, bool):  # otherwise true would be the number 1
        return readings
    if isinstance(answer, (int, float)) and answer in range(len(options)):
        readings["number"] = int(answer)
    if isinstance(answer, str) and answer.strip().upper() in list(ascii_uppercase[: len(options)]):
        readings["letter"] = ascii_uppercase.index(answer.strip().upper())
    return readings


def _is_text_of(option: str, answer: Any) -> bool:
    if isinstance(answer, bool):
        return option.strip().lower() == json.dumps(answer)
    if isinstance(answer, (int, float)):
        with suppress(ValueError):
            return float(option) == answer
        return False
    return isinstance(answer, str) and option == answer
