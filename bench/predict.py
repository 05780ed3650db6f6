"""Entry point: let a trained model answer, from what was kept of it (save=adapter or save=merged).

python -m bench.predict record=ID [results_dir=DIR] --text "..."
python -m bench.predict record=ID --question "..." --options "..." "..."
python -m bench.predict record=ID --input questions.jsonl --output answers.jsonl
python -m bench.predict record=ID --serve
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from bench.cli import carried_out
from bench.files.atomic import replace_file
from bench.inference.requests import Answer, Request, read_asked
from bench.inference.web_page import make_page, readable, said, serve_page
from bench.records import record as records

SETTINGS = ("record", "results_dir")
RANDOM = "The base has random weights, so its answers mean nothing."


class Parser(argparse.ArgumentParser):
    """One that tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; 'python -m bench.predict --help' shows how it is called")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line. ValueError: it asks nothing, or two things at once."""
    parser = Parser(prog="python -m bench.predict", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "settings", nargs="+", metavar="KEY=VALUE", help="record=ID of a trial or a cell; results_dir=DIR"
    )
    parser.add_argument("--text", help="a text to be classified")
    parser.add_argument("--second", help="the second text, where the task is about pairs")
    parser.add_argument("--question", help="a question with options")
    parser.add_argument("--options", nargs="+", help="its options, each an argument")
    parser.add_argument("--input", type=Path, help="JSON lines with text (and second), or question and options")
    parser.add_argument("--output", type=Path, help="where the answers go as JSON lines; without it, to the terminal")
    parser.add_argument("--config-dir", type=Path, help="your own yaml files, where the record's method or task is one")
    parser.add_argument("--serve", action="store_true", help="a page on 127.0.0.1 (needs Gradio)")
    parser.add_argument("--port", type=int, help="of the page; a free one from 7860 on without it")
    given = parser.parse_args(arguments)
    given.record, given.results_dir = None, "results"
    for setting in given.settings:
        key, _, value = setting.partition("=")
        if key not in SETTINGS or not value:
            raise ValueError(f"unknown setting {setting!r}; choose from {'=, '.join(SETTINGS)}=")
        setattr(given, key, value)
    if given.record is None:
        raise ValueError("record= is missing: the id of a trial or of a cell, as results/ and the tables have it")
    ways = [name for name in ("text", "question", "input", "serve") if getattr(given, name)]
    if len(ways) != 1:
        got = " and ".join(f"--{way}" for way in ways) or "nothing"
        raise ValueError(f"asked {got}; choose one of --text, --question with --options, --input, --serve")
    if given.config_dir is not None and not given.config_dir.is_dir():
        raise ValueError(f"--config-dir {given.config_dir} is not a folder; give the one that you gave to bench.run")
    if not Path(given.results_dir).expanduser().is_dir():
        raise ValueError(f"results_dir={given.results_dir} is not a folder; run 'python -m bench.run' first")
    return given


def cli(arguments: list[str] | None = None) -> int:
    """Answer. Gives 0; 2 where the command line, the record or what is asked is wrong; 130: interrupted."""
    asked = sys.argv[1:] if arguments is None else arguments
    return carried_out(lambda console, complaints: answer(parse_arguments(asked), console, complaints))


def answer(given: argparse.Namespace, console: Console, complaints: Console) -> None:
    """Load what was kept, and answer what is asked."""
    found = list(records.read_all(Path(given.results_dir).expanduser(), complaints.print))
    with console.status("loading the model"):
        from bench.inference.answerer import Answerer, select_trial  # torch takes its time

        record = select_trial(found, given.record)
        warnings.simplefilter("ignore")
        answerer = Answerer(record, given.config_dir)
    note = RANDOM if record.cell["random"] else ""
    if given.serve:
        title = f"{record.cell['title']} on {record.cell['task']} ({record.cell['model']})"
        serve_page(
            make_page(title, note, answerer.wants, answerer),
            given.port,
            lambda line: console.print(line, soft_wrap=True),
        )
        return
    if note:
        complaints.print(f"note: {note}")
    if given.input:
        rows = read_asked(given.input, answerer.wants)
        answers = answerer([asked for _, asked in rows])
        lines = [
            json.dumps({**row, **one.told()}, ensure_ascii=False) for (row, _), one in zip(rows, answers, strict=True)
        ]
        _write(lines, given.output, console)
        return
    asked = answerer.wants.read(_row(given), "the command line")
    (one,) = answerer([asked])
    console.print(_shown(one, asked), soft_wrap=True)


def _row(given: argparse.Namespace) -> dict[str, Any]:
    row = {"text": given.text, "second": given.second, "question": given.question, "options": given.options}
    return {key: value for key, value in row.items() if value is not None}


def _shown(one: Answer, asked: Request) -> str:
    """The answer, and below it how likely everything was."""
    shares = readable(one, asked) or {}
    return "\n".join([said(one), *(f"  {share:.3f}  {name}" for name, share in shares.items())])


def _write(lines: list[str], output: Path | None, console: Console) -> None:
    """To the terminal, or to a file that is whole or not there."""
    if output is None:
        for line in lines:
            console.print(line, soft_wrap=True)
        return
    try:
        replace_file(output, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise ValueError(f"--output {output}: cannot be written ({error.strerror}); choose another place") from error
    console.print(f"answered: {len(lines)} rows in {output}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli())
