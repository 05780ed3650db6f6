"""Requests to a trained model, from a command line or from JSON lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files.characters import check_text
from bench.files.jsonl import read_lines
from bench.tasks.loaders.options import option_text


@dataclass(frozen=True)
class Request:
    """A text, a pair of texts, or a question with options.

    Attributes:
        text: The text or the question.
        second: The second text of a pair.
        options: The options of a question.
    """

    text: str
    second: str | None = None
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        answer: A label, a letter, or a number. None if the generated text names no option.
        option: The text of the option that the letter stands for.
        probabilities: The probability of every label or letter. None if answers are generated, or are numbers.
    """

    answer: str | float | None
    option: str | None = None
    probabilities: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as plain data, without the keys that are None. The key `answer` is always there."""
        fields = {"answer": self.answer, "option": self.option, "probabilities": self.probabilities}
        return {key: value for key, value in fields.items() if value is not None or key == "answer"}


@dataclass(frozen=True)
class Wants:
    """The kind of request that a model answers.

    Attributes:
        pairs: Whether a request is a pair of texts.
        options: The smallest and the largest number of options of a question. None if requests are texts.
    """

    pairs: bool = False
    options: tuple[int, int] | None = None

    def read(self, row: dict[str, Any], where: str) -> Request:
        """Check one request.

        Args:
            row: The request as plain data.
            where: Where the request came from, for messages.

        Raises:
            ValueError: The model does not answer such a request.
        """
        check_text(json.dumps(row, ensure_ascii=False), where)
        fields = ["question", "options"] if self.options else ["text", "second"] if self.pairs else ["text"]
        for name in fields:
            expected: Any = list if name == "options" else str
            if not isinstance(row.get(name), expected) or not row[name]:
                raise ValueError(f"{where} has no {name}; this model answers {self.description}")
        if self.options is None:
            return Request(row["text"], row["second"] if self.pairs else None)
        fewest, most = self.options
        options = tuple(_option(option, f"{where}: option {number}") for number, option in enumerate(row["options"], 1))
        if not fewest <= len(options) <= most:
            allowed = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{where} needs {allowed} options for this model, and has {len(options)}")
        return Request(row["question"], options=options)

    @property
    def description(self) -> str:
        """A description of such requests, for messages."""
        if self.options:
            return 'questions: {"question": "...", "options": ["...", "..."]}, or --question and --options'
        second = ', "second": "..."' if self.pairs else ""
        return f'texts: {{"text": "..."{second}}}, or --text{" and --second" if self.pairs else ""}'


def _option(value: Any, where: str) -> str:
    try:
        return option_text(value)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error


def read_requests(path: Path, wants: Wants) -> list[tuple[dict[str, Any], Request]]:
    """Read requests from a file of JSON lines.

    Args:
        path: The file.
        wants: The kind of request that the model answers.

    Returns:
        Each row of the file with its request.

    Raises:
        ValueError: The file does not exist, or a row is not such a request.
    """
    if not path.is_file():
        raise ValueError(f"--input {path} is not a file; give a file of JSON lines, one question or text per line")
    rows = read_lines(path, "write one JSON object per line")
    return [(row, wants.read(row, f"{path}: row {number}")) for number, row in enumerate(rows, 1)]
