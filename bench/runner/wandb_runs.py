"""Track trials in Weights & Biases, in addition to the records.

A tracker never fails a cell. A server that does not answer costs a command a few seconds, once. Runs that W&B cannot
upload in time stay in its folder, from where `wandb sync` uploads them.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from bench.cells.cell import Cell, Trial
from bench.config.schema import TrackConf
from bench.records.record import Record
from bench.runner.wandb_session import LONGEST_TAG, begin, error_line, folder_of_runs, mode_of, settings, stop_service

FINISH_SECONDS = 3
RACE, REPORT = "race", "report"  # the purpose of a trial, used as a tag of its run
# Variables by which `wandb agent` tells a job its run in the sweep. W&B would use that id for every run of the job.
GIVEN = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")


class Tracker(Protocol):
    """The calls that a sweep makes while it runs."""

    def start(self, cell: Cell, trial: Trial, part: str) -> None: ...

    def log(self, trial: str, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """Tracks nothing, for `track=off`."""

    def start(self, cell: Cell, trial: Trial, part: str) -> None: ...

    def log(self, trial: str, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...

    def close(self) -> None: ...


def make_tracker(track: TrackConf, say: Callable[[str], None]) -> Tracker:
    """Create the tracker for `track.mode`. If that is auto, WANDB_MODE may still say offline or disabled."""
    mode = mode_of(track.mode.value)
    return NoTracker() if mode == "off" else WandbTracker(mode, track.project, track.entity, say)


@dataclass
class Opened:
    """A trial whose run is open. If the server fails, a new offline run replays its curve."""

    cell: Cell
    trial: Trial
    part: str  # RACE or REPORT
    run: Any = None  # of wandb; None until it is open
    curve: list[dict[str, list[float]]] = field(default_factory=list)  # all pieces so far


class WandbTracker:
    """Writes one run per trial, named by the trial's id and grouped by cell.

    Under `wandb agent`, one more run with the id that the agent chose reports the job's mean scores to the sweep.

    Args:
        asked: auto, online or offline.
        project: Project in W&B.
        entity: Entity in W&B; None for the user's default.
        say: Shows a line to the user.
    """

    def __init__(self, asked: str, project: str, entity: str | None, say: Callable[[str], None]) -> None:
        self.project, self.entity, self.say = project, entity, say
        self.folder = folder_of_runs()
        self.mode = "online"  # of new runs; off after an error
        self.online = asked != "offline"  # whether W&B's service is, even if new runs are offline
        self.opened: dict[str, Opened] = {}  # by trial id; the trials of a pack run at the same time
        self.given = {name: os.environ.pop(name) for name in GIVEN if name in os.environ}
        self.reported: dict[str, tuple[Cell, dict[str, Any]]] = {}  # scores of the report's trials, by trial id
        with self._guard():
            mode, why = begin(asked)  # before any worker starts, so that it slows no trial
            if mode == "offline":
                self.online = False
                self._go_offline(why)

    def start(self, cell: Cell, trial: Trial, part: str) -> None:
        """Open a run. If the server does not answer within seconds, this run and all later ones are offline.

        `part` is the purpose of the trial, `RACE` or `REPORT`.
        """
        if self.mode != "off":
            opened = self.opened[trial.id] = Opened(cell, trial, part)
            with self._guard():
                self._open(opened)

    def log(self, trial: str, curve: dict[str, list[float]]) -> None:
        """Send a piece of a curve: lists of equal length, among them `step`. `trial` is the trial's id."""
        if opened := self.opened.get(trial):
            opened.curve.append(curve)
            with self._guard():
                _log(opened.run, curve)

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None:
        """Write the summary and close the run, if it was started. Waits for the server a few seconds at most.

        `cost` is the cost of the cell; None if unknown.
        """
        opened = self.opened.get((record.trial or {}).get("id", ""))
        if opened is None:
            return
        if opened.part == REPORT and record.scores:
            self.reported[opened.trial.id] = opened.cell, record.scores
        with self._guard():
            self._close(opened, record, cost)
        if self.opened.get(opened.trial.id) is opened:  # it was opened again offline, and still must be closed
            with self._guard():
                self._close(opened, record, cost)

    def close(self) -> None:
        """Report the mean scores of the job's trials to the sweep, under `wandb agent`."""
        if self.mode != "off" and "WANDB_SWEEP_ID" in self.given and self.reported:
            with self._guard():
                self._report_to_sweep()

    def _report_to_sweep(self) -> None:
        """Open the agent's run, write the mean scores into its summary and close it."""
        cells, scores_by_trial = zip(*self.reported.values(), strict=True)
        variables = {"sweep_id": "WANDB_SWEEP_ID", "sweep_param_path": "WANDB_SWEEP_PARAM_PATH"}
        run = self._init(
            cells[0],
            id=self.given.get("WANDB_RUN_ID"),
            name=cells[0].title,
            job_type="cell",
            config={},
            settings=settings(FINISH_SECONDS, **{key: self.given.get(name) for key, name in variables.items()}),
        )
        means = {part: fmean(scores[part] for scores in scores_by_trial) for part in ("select", "report")}
        run.summary.update({f"score/{part}": mean for part, mean in means.items()})
        run.finish()

    def _init(self, cell: Cell, *, config: dict[str, Any], **more: Any) -> Any:
        """Open a run in a cell's group. `config` adds to the cell's own, `more` are arguments of `wandb.init`."""
        import wandb

        Path(self.folder).mkdir(parents=True, exist_ok=True)  # without it W&B would use a temporary folder
        destination: dict[str, Any] = {
            "project": self.project,
            "entity": self.entity,
            "dir": self.folder,
            "mode": self.mode,
        }
        return wandb.init(
            **destination,
            group=cell.id,
            config=cell.config | {"cell": cell.id, "precision": cell.precision} | config,
            reinit="create_new",
            **more,
        )

    def _open(self, opened: Opened) -> None:
        """Open the run of a trial."""
        cell, trial = opened.cell, opened.trial
        opened.run = self._init(
            cell,
            name=f"{cell.title} {trial.name}",
            job_type="trial" if opened.part == REPORT else opened.part,
            id=trial.id,  # without `resume`, so that a trial trained again replaces its run
            tags=[tag[:LONGEST_TAG] for tag in (cell.method, cell.task, cell.source.label, opened.part)],
            config={"lr": trial.lr, "seed": trial.seed},
            settings=settings(FINISH_SECONDS),
        )

    def _close(self, opened: Opened, record: Record, cost: dict[str, Any] | None) -> None:
        """Write the summary of a run and close it. If the server does not answer, go offline."""
        run, parts = opened.run, {"score": record.scores, "trial": record.cost, "cost": cost}
        summary = {f"{part}/{key}": value for part, values in parts.items() for key, value in (values or {}).items()}
        run.summary.update(summary | {"outcome": record.outcome, "error": (record.error or {}).get("message")})
        try:
            run.finish(exit_code=0 if record.outcome == "ok" else 1)
        except TimeoutError:
            sync = f"wandb sync --include-online {shlex.quote(str(Path(run.dir).parent))}"
            self._go_offline(f"the server stopped answering; to upload {run.id}: {sync}; from now on ")
        self.opened.pop(opened.trial.id)

    def _go_offline(self, why: str = "") -> None:
        """Keep all later runs offline, and say so once."""
        if self.mode != "offline":
            self.mode, runs = "offline", f"{shlex.quote(self.folder)}/wandb/offline-run-*"
            self.say(f"W&B: {why}runs are kept offline; to upload them: wandb sync {runs}")

    def _reopen_offline(self) -> None:
        """Open all open runs again offline, and replay their curves from the first step."""
        self.online = False
        stop_service()  # a failed run still occupies its id in the old service
        begin("offline")
        for opened in self.opened.values():
            self._open(opened)
            for piece in opened.curve:
                _log(opened.run, piece)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Keep errors of W&B away from the cell. Continue offline, or without tracking if that fails too."""
        try:
            try:
                yield
            except Exception as error:  # whatever the reason, offline runs may still work
                if not self.online:
                    raise
                self._go_offline(f"the server did not take the run ({error_line(error)}); ")
                self._reopen_offline()
        except Exception as error:  # noqa: BLE001 - see above
            self.say(f"W&B: not tracked from now on ({error_line(error)})")
            self.mode = "off"
            self.opened.clear()
            stop_service()


def _log(run: Any, curve: dict[str, list[float]]) -> None:
    """Log a piece of a curve, row by row."""
    for row in zip(*curve.values(), strict=True):
        values = dict(zip(curve, row, strict=True))
        step = int(values.pop("step"))
        run.log({f"train/{key}": value for key, value in values.items()}, step=step)
