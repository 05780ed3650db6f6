"""Entry point: records to tables, figures, a dashboard and answers.

python -m bench.report [results_dir=DIR] [study=NAME] [run=last] [model=NAME,NAME] [task=NAME] [method=NAME]
python -m bench.report table=NAME [metric=COLUMN] [format=markdown|latex|html|csv] [published=true]
python -m bench.report figures [format=png|svg|pdf|html]
python -m bench.report compare a=CELL b=CELL
python -m bench.report recommend [memory_gb=8] [params=1e6] [latency_ms=5] [minutes=10] [task=NAME] [model=NAME]
python -m bench.report serve [port=8000]
python -m bench.report wandb [project=NAME] [entity=NAME]

results_dir, study, run, model, task and method go with every command. Without them the first one writes all tables and
the dashboard beside the records; a study, a run or a filter is only shown.
"""

import sys

from rich.console import Console

from bench.cli import carried_out
from bench.report.arguments import parse


def cli(arguments: list[str] | None = None) -> int:
    """Render what is asked. Gives 0; 2 where the command line is wrong or nothing can be shown; 130: interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    return carried_out(lambda console, complaints: _answer(given, console, complaints))


def _answer(given: list[str], console: Console, complaints: Console) -> None:
    if {"--help", "-h", "help"} & set(given):
        console.print((__doc__ or "").strip(), soft_wrap=True)
        return
    asked = parse(given)
    from bench.report.commands import COMMANDS  # pandas takes its time, and a wrong word needs none of it

    COMMANDS[asked.command](asked, console, complaints)


if __name__ == "__main__":
    sys.exit(cli())
