"""Entry point: fine-tune the cells of a grid and record every outcome.

python -m bench.run -m method=lora,adapter,ia3 rank=1,4,8,64
"""

import signal
import sys

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from bench import grid, launch
from bench.cell import Cell
from bench.fit import Misfit
from bench.progress import Display
from bench.ready import check_ready
from bench.store import register
from bench.sweep import Sweep

sweep: Sweep | None = None  # of this process; a remote launcher's process has none and makes one per job


@hydra.main(config_path=str(grid.CONF), config_name="config", version_base="1.3")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    """One Hydra job: one cell."""
    try:
        cell = Cell.of(config)
    except Misfit:  # left out of the grid, which has said so
        return
    if sweep is not None:
        sweep.run(cell)
        return
    with Display(1, len(cell.trials)) as display:
        Sweep([cell], display).run(cell)


def cli() -> int:
    """Run the command line. Gives 0: all recorded; 1: a cell failed; 2: wrong input; 130: interrupted."""
    register()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C too
    arguments = get_args_parser().parse_args()
    if arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion:
        job()
        return 0
    try:
        planned = grid.cells(arguments.overrides, multirun=arguments.multirun, extra=arguments.config_dir, say=_say)
        return run(planned, outputs=_outputs(arguments.overrides))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("interrupted: what is finished is recorded; the same command goes on", file=sys.stderr)  # noqa: T201
        return 130


def run(planned: list[Cell], *, outputs: str = "outputs") -> int:
    """Check what is still to be trained, hand the grid to Hydra and sum up."""
    global sweep  # noqa: PLW0603 - Hydra calls the job with a configuration and nothing else
    with Display(0, 0) as quiet:
        sweep = Sweep(planned, quiet)
    waiting = sweep.waiting
    if waiting:
        check_ready(waiting, outputs)
        with quiet.console.status("starting the worker server, checking data and methods"):
            misfits, problem = launch.check(waiting)
        if problem:
            raise ValueError(problem)
        reasons = sweep.leave_out(misfits)
        if not sweep.jobs:
            raise ValueError(reasons[0])
        for reason in reasons:
            _say(f"left out: {reason}")
    sweep.announce()
    if sweep.waiting:
        with Display(len(sweep.waiting), len(sweep.todo)) as display:
            sweep.display = display
            job()
    return 0 if sweep.summary() else 1


def _outputs(overrides: list[str]) -> str:
    """Hydra's folder of a command: conf/config.yaml's, unless the command line names another."""
    named = [one.partition("=")[2] for one in overrides if one.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
    return named[-1] if named else "outputs"


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(cli())
