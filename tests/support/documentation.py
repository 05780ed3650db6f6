"""Reads README and the documentation: their commands and their examples."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conftest import REPOSITORY, sentences

README = REPOSITORY / "README.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
EXTENDING = REPOSITORY / "docs" / "extending.md"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PROGRAMS = ("make", "python", "pip", "wandb", "peftgrid")
ENVIRONMENT = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Command:
    """A command line of a page.

    Attributes:
        page: The page, below the repository.
        words: Its words, without variables of the environment and without the path of `.venv`.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """Return the commands of a page: lines of its shell blocks, indented lines, and those in running text."""
    text = page.read_text("utf-8")
    shell = [body for language, body in FENCE.findall(text) if language == "bash"]
    prose = FENCE.sub("", text)
    lines = [line for body in shell for line in body.replace("\\\n", " ").splitlines()]
    lines += [line for line in prose.splitlines() if line.startswith("    ")]
    lines += [" ".join(quoted.split()) for quoted in re.findall(r"`([^`]+)`", prose)]
    name = str(page.relative_to(REPOSITORY))
    return [Command(name, words) for line in lines if (words := _words(line))]


def _words(line: str) -> tuple[str, ...]:
    """Return the words of a command; none if the line is no command."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return ()
    while words and ENVIRONMENT.match(words[0]):
        words.pop(0)
    if not words:
        return ()
    words[0] = words[0].removeprefix(".venv/bin/").replace("python3", "python")
    return tuple(words) if words[0] in PROGRAMS and len(words) > 1 else ()


def write_guide(folder: Path, model: Path) -> None:
    """Write every example of docs/extending.md that is a file, and the data that its tasks name.

    Args:
        folder: The folder in which the user runs the commands.
        model: The model that `model=pocket` names.
    """
    files = {name: text.replace("path/to/pocket-bert", str(model)) for name, text in examples(EXTENDING).items()}
    for name, rows in (("moods", sentences(100)), ("moods_report", sentences(30, offset=1))):
        lines = ["saying\tmood", *(f"{text}\t{('low', 'high')[label]}" for text, label in rows)]
        files[f"data/moods/{name}.tsv"] = "\n".join(lines) + "\n"
    write_files(folder, files)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts into files below a folder, by their paths."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def examples(page: Path) -> dict[str, str]:
    """Return the examples of a page that are files: the text of each fenced block, by the path named just before it."""
    text = page.read_text("utf-8")
    files = {}
    for block in FENCE.finditer(text):
        lead = text[: block.start()].rstrip().rpartition("\n\n")[2]
        paths = re.findall(r"`(mine/[\w./]+)`", lead)
        if block[1] in {"python", "yaml"} and paths:
            files[paths[-1]] = block[2]
    return files
