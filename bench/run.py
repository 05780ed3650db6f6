"""Entry point: fine-tune the cells of a grid and record every outcome.

python -m bench.run -m method=lora,adapter,ia3 rank=1,4,8,64
"""

import signal
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig
from rich.console import Console

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config import compose as grid
from bench.config import rank_budget as budget
from bench.config.enums import Cost
from bench.config.register import register
from bench.records.manifest import Manifest, Remembered
from bench.runner import launch
from bench.runner.cost_turns import measure_in_turns
from bench.runner.preflight import check_ready
from bench.runner.progress import Display
from bench.runner.sweep import Sweep


@hydra.main(config_path=str(grid.CONF), config_name="config", version_base="1.3")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    """Run one Hydra job: one cell, in whatever process a launcher starts it."""
    try:
        cell = Cell.of(budget.at_rank(config))
    except Misfit:  # the check of the whole grid has already reported it
        return
    with Display(1, 0) as display:
        sweep = Sweep([cell], display)
        display.clock.left = sweep.backlog.work
        sweep.run()


def cli() -> int:
    """Run the command line.

    Returns:
        The exit code: 0 if everything is recorded, 1 if a cell failed, 2 for wrong input, 130 if interrupted.
    """
    register()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # treat a scheduler's stop signal like Ctrl-C
    arguments = get_args_parser().parse_args()
    if arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion:
        job()
        return 0
    try:
        planned = grid.cells(arguments.overrides, multirun=arguments.multirun, extra=arguments.config_dir, say=_say)
        launched = any(override.startswith("hydra/launcher=") for override in arguments.overrides)
        return run(planned, sys.argv[1:], outputs=_outputs(arguments.overrides), launched=launched)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        _say("interrupted: finished trials are recorded; rerun the same command to resume")
        return 130


def run(planned: list[Cell], command: list[str], *, outputs: str = "outputs", launched: bool = False) -> int:
    """Check the missing trials, train them and print a summary.

    Args:
        planned: The cells of the command line.
        command: The arguments of the command line, for the manifest of the run.
        outputs: Hydra's output folder.
        launched: Whether a Hydra launcher starts one job per cell. Otherwise this process trains them.

    Returns:
        The exit code: 0 if everything is recorded, 1 if a cell failed.

    Raises:
        ValueError: An input is missing, or none of the cells can run.
    """
    results = Path(planned[0].conf.results_dir).expanduser()
    with Display(0, 0) as quiet:
        sweep = Sweep(planned, quiet)
    if planned[0].conf.cost is Cost.only:
        return _run_costs(sweep, command, results, outputs)
    remembered = Remembered(results, command, sweep.backlog.asked, _say)
    _check(sweep, sweep.backlog.waiting, outputs)
    sweep.announce()
    with remembered:
        if waiting := sweep.backlog.waiting:
            with Display(len(waiting), sweep.backlog.work) as display:
                sweep.display = display
                job() if launched else sweep.run()
        remembered.exit = 0 if sweep.summary() else 1
    _show(remembered.manifest, results)
    return remembered.exit


def _run_costs(sweep: Sweep, command: list[str], results: Path, outputs: str) -> int:
    """Measure the costs of all cells in alternation without training, and return the exit code."""
    backlog = sweep.backlog
    _check(sweep, backlog.jobs, outputs)
    cells = list({cell.id: cell for cell in backlog.jobs}.values())
    remembered = Remembered(results, command, lambda: [entry | {"trials": []} for entry in backlog.asked()], _say)
    with remembered, Display(len(cells), 0) as display:
        remembered.exit = 1 if measure_in_turns(cells, backlog.lookup, display) else 0
    _show(remembered.manifest, results)
    return remembered.exit


def _check(sweep: Sweep, waiting: list[Cell], outputs: str) -> None:
    """Find the cells that cannot run before anything runs, and leave them out.

    Raises:
        ValueError: An input is missing, or none of the cells can run.
    """
    if not waiting:
        return
    check_ready(waiting, outputs)
    with sweep.display.console.status("starting the worker server, checking data and methods"):
        misfits, problem = launch.check_in_worker(waiting)
    if problem:
        raise ValueError(problem)
    reasons = sweep.backlog.leave_out(misfits)
    if not sweep.backlog.jobs:
        raise ValueError(reasons[0])
    for reason in reasons:
        _say(f"left out: {reason}")


def _show(manifest: Manifest, results: Path) -> None:
    """Print the table of the cells of this run."""
    from bench.report.arguments import of_run  # importing pandas is slow
    from bench.report.run_summary import show_run

    records = list(of_run(manifest, results, _say))
    show_run(manifest, records, results, Console(highlight=False, markup=False, emoji=False))


def _outputs(overrides: list[str]) -> str:
    """Return Hydra's output folder: that of conf/config.yaml, unless the command line names another one."""
    keys = ("hydra.run.dir=", "hydra.sweep.dir=")
    folders = [override.partition("=")[2] for override in overrides if override.startswith(keys)]
    return folders[-1] if folders else "outputs"


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(cli())
