"""Entry point: answer with a trained model that was saved (save=adapter or save=merged).

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

from bench.cli import carried_out, counted
from bench.files.atomic import replace_file
from bench.inference.requests import Answer, Request, read_requests
from bench.inference.web_page import make_page, readable, said, serve_page
from bench.records import record as records

SETTINGS = ("record", "results_dir")
RANDOM = "The base has random weights, so its answers mean nothing."


class Parser(argparse.ArgumentParser):
    """A parser that raises a one-line ValueError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; 'python -m bench.predict --help' shows the usage")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words of the command line.

    Returns:
        The options, with the settings `record` and `results_dir` as attributes.

    Raises:
        ValueError: The command line is wrong: it has no input or more than one, an unknown setting or a missing folder.
    """
    parser = Parser(prog="python -m bench.predict", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "settings", nargs="+", metavar="KEY=VALUE", help="record=ID of a trial or a cell; results_dir=DIR"
    )
    parser.add_argument("--text", help="a text to classify")
    parser.add_argument("--second", help="the second text, if the task is about pairs")
    parser.add_argument("--question", help="a question with options")
    parser.add_argument("--options", nargs="+", help="the options of the question, one argument each")
    parser.add_argument("--input", type=Path, help="JSON lines with text (and second), or question and options")
    parser.add_argument("--output", type=Path, help="file for the answers, as JSON lines; default: print them")
    parser.add_argument("--config-dir", type=Path, help="folder of your own yaml files, if the record used one")
    parser.add_argument("--serve", action="store_true", help="serve a page on 127.0.0.1 (needs Gradio)")
    parser.add_argument("--port", type=int, help="port of the page; default: the first free one from 7860")
    options = parser.parse_args(arguments)
    options.record, options.results_dir = None, "results"
    for setting in options.settings:
        key, _, value = setting.partition("=")
        if key not in SETTINGS or not value:
            raise ValueError(f"unknown setting {setting!r}; choose from {'=, '.join(SETTINGS)}=")
        setattr(options, key, value)
    if options.record is None:
        raise ValueError("record= is missing: the id of a trial or a cell, as shown in results/ and the tables")
    inputs = [name for name in ("text", "question", "input", "serve") if getattr(options, name)]
    if len(inputs) != 1:
        got = " and ".join(f"--{name}" for name in inputs) or "nothing"
        raise ValueError(f"got {got}; choose one of --text, --question with --options, --input, --serve")
    if options.config_dir is not None and not options.config_dir.is_dir():
        raise ValueError(f"--config-dir {options.config_dir} is not a folder; give the one that you gave to bench.run")
    if not Path(options.results_dir).expanduser().is_dir():
        raise ValueError(f"results_dir={options.results_dir} is not a folder; run 'python -m bench.run' first")
    return options


def cli(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words of the command line. None: those of this process.

    Returns:
        The exit code: 0 on success, 2 if the command line, the record or the input is wrong, 130 if interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return carried_out(lambda console, complaints: answer(parse_arguments(words), console, complaints))


def answer(options: argparse.Namespace, console: Console, complaints: Console) -> None:
    """Load the saved model and answer the input, or serve a page.

    Args:
        options: The command line, from `parse_arguments`.
        console: Receives the answers.
        complaints: Receives notes and warnings.

    Raises:
        ValueError: The record or the input is wrong, or the output cannot be written.
    """
    all_records = list(records.read_all(Path(options.results_dir).expanduser(), complaints.print))
    with console.status("loading the model"):
        from bench.inference.answerer import Answerer, select_trial  # importing torch is slow

        record = select_trial(all_records, options.record)
        warnings.simplefilter("ignore")
        answerer = Answerer(record, options.config_dir)
    note = RANDOM if record.cell["random"] else ""
    if options.serve:
        title = f"{record.cell['title']} on {record.cell['task']} ({record.cell['model']})"
        serve_page(
            make_page(title, note, answerer.wants, answerer),
            options.port,
            lambda line: console.print(line, soft_wrap=True),
        )
        return
    if note:
        complaints.print(f"note: {note}")
    if options.input:
        rows = read_requests(options.input, answerer.wants)
        answers = answerer([request for _, request in rows])
        lines = [
            json.dumps({**row, **row_answer.as_dict()}, ensure_ascii=False)
            for (row, _), row_answer in zip(rows, answers, strict=True)
        ]
        _write(lines, options.output, console)
        return
    request = answerer.wants.read(_row(options), "the command line")
    (only_answer,) = answerer([request])
    console.print(_text_of(only_answer, request), soft_wrap=True)


def _row(options: argparse.Namespace) -> dict[str, Any]:
    row = {"text": options.text, "second": options.second, "question": options.question, "options": options.options}
    return {key: value for key, value in row.items() if value is not None}


def _text_of(answered: Answer, request: Request) -> str:
    """Return the answer, followed by the probability of every label or option."""
    probabilities = readable(answered, request) or {}
    return "\n".join([said(answered), *(f"  {value:.3f}  {name}" for name, value in probabilities.items())])


def _write(lines: list[str], output: Path | None, console: Console) -> None:
    """Print the lines, or write them to a file, completely or not at all."""
    if output is None:
        for line in lines:
            console.print(line, soft_wrap=True)
        return
    try:
        replace_file(output, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise ValueError(f"--output {output}: cannot be written ({error.strerror}); choose another place") from error
    console.print(f"answered: {counted(len(lines), 'row')} in {output}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli())
