"""Entry point: records to tables, figures, a dashboard and answers.

python -m bench.report [results_dir=DIR] [study=NAME] [run=last] [model=NAME,NAME] [task=NAME] [method=NAME]
python -m bench.report table=NAME [metric=COLUMN] [format=markdown|latex|html|csv] [published=true]
python -m bench.report figures [format=png|svg|pdf|html]
python -m bench.report compare a=CELL b=CELL
python -m bench.report recommend [memory_gb=8] [params=1e6] [latency_ms=5] [minutes=10] [task=NAME] [model=NAME]
python -m bench.report serve [port=8000]
python -m bench.report wandb [project=NAME] [entity=NAME]

results_dir, study, run, model, task and method can be used with every command. The first command writes every table and
the dashboard next to the records. With a study, a run or a filter it only prints the tables.
"""

import sys

from rich.console import Console

from bench.cli import carried_out
from bench.report.arguments import parse


def cli(arguments: list[str] | None = None) -> int:
    """Run a report command.

    Args:
        arguments: Words of the command line; None reads `sys.argv`.

    Returns:
        The exit code: 0 on success, 2 if the command line is wrong or there is nothing to show, 130 if interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return carried_out(lambda console, complaints: _run(words, console, complaints))


def _run(words: list[str], console: Console, complaints: Console) -> None:
    if {"--help", "-h", "help"} & set(words):
        console.print((__doc__ or "").strip(), soft_wrap=True)
        return
    parsed = parse(words)
    from bench.report.commands import COMMANDS  # slow to import (pandas), and not needed to reject a wrong word

    COMMANDS[parsed.command](parsed, console, complaints)


if __name__ == "__main__":
    sys.exit(cli())
