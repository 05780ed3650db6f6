"""What can be asked of a trained model, from a command line or from JSON lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files.characters import check_text
from bench.files.jsonl import read_lines
from bench.tasks.loaders.options import option_text


@dataclass(frozen=True)
class Request:
    """A text (and a second one, of pairs), or a question with its options."""

    text: str
    second: str | None = None
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Answer:
    """answer: a label, a letter, or a number; None: what was written names no option. option: the letter's text.
    probabilities: of every label or letter; None where answers are written out, or are numbers.
    """

    answer: str | float | None
    option: str | None = None
    probabilities: dict[str, float] | None = None

    def told(self) -> dict[str, Any]:
        """As plain data."""
        about = {"answer": self.answer, "option": self.option, "probabilities": self.probabilities}
        return {key: value for key, value in about.items() if value is not None or key == "answer"}


@dataclass(frozen=True)
class Wants:
    """What a model answers. pairs: texts come in twos. options: how few and how many a question may have; None: it is
    asked texts.
    """

    pairs: bool = False
    options: tuple[int, int] | None = None

    def read(self, row: dict[str, Any], where: str) -> Request:
        """Check one thing that is asked. ValueError: it is not what the model answers."""
        check_text(json.dumps(row, ensure_ascii=False), where)
        fields = ["question", "options"] if self.options else ["text", "second"] if self.pairs else ["text"]
        for name in fields:
            kind: Any = list if name == "options" else str
            if not isinstance(row.get(name), kind) or not row[name]:
                raise ValueError(f"{where} has no {name}; this model answers {self.told}")
        if self.options is None:
            return Request(row["text"], row["second"] if self.pairs else None)
        fewest, most = self.options
        options = tuple(_option(option, f"{where}: option {number}") for number, option in enumerate(row["options"], 1))
        if not fewest <= len(options) <= most:
            allowed = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{where} has {len(options)} options; this model answers questions with {allowed}")
        return Request(row["question"], options=options)

    @property
    def told(self) -> str:
        """In words."""
        if self.options:
            return 'questions: {"question": "...", "options": ["...", "..."]}, or --question and --options'
        second = ', "second": "..."' if self.pairs else ""
        return f'texts: {{"text": "..."{second}}}, or --text{" and --second" if self.pairs else ""}'


def _option(value: Any, where: str) -> str:
    try:
        return option_text(value)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error


def read_asked(path: Path, wants: Wants) -> list[tuple[dict[str, Any], Request]]:
    """All that a file of JSON lines asks, each with its line. ValueError: no such file, or a line that asks nothing."""
    if not path.is_file():
        raise ValueError(f"--input {path} is not a file; give one with JSON lines, one question or text each")
    rows = read_lines(path, "write one JSON object per line")
    return [(row, wants.read(row, f"{path}: row {number}")) for number, row in enumerate(rows, 1)]
