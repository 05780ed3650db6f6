"""Weights & Biases, beside the records: the only file that imports wandb.

A tracker never fails a cell, and a server that does not answer costs a command a few seconds once: what W&B cannot
take in time stays in its folder, from where `wandb sync` uploads it.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from bench.cells.cell import Cell, Trial
from bench.config.schema import TrackConf
from bench.records.record import Record

INIT_SECONDS = 5  # waited for the server once per command; closing what failed may take two more
FINISH_SECONDS = 3
RACE, REPORT = "race", "report"  # what a trial is for: a tag of its run
LONGEST_TAG = 64  # W&B refuses longer ones
# How `wandb agent` tells a job which run of the sweep it is; W&B would give every run of the job that name.
GIVEN = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
ENVIRONMENT = {"disabled": "off", "offline": "offline", "dryrun": "offline"}  # WANDB_MODE: track.mode


class Tracker(Protocol):
    """What the sweep tells as it goes."""

    def start(self, cell: Cell, trial: Trial, part: str) -> None: ...

    def log(self, trial: str, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """track=off."""

    def start(self, cell: Cell, trial: Trial, part: str) -> None: ...

    def log(self, trial: str, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...

    def close(self) -> None: ...


def make_tracker(track: TrackConf, say: Callable[[str], None]) -> Tracker:
    """A tracker for `track.mode`; where that is auto, WANDB_MODE may still say offline or disabled."""
    mode = mode_of(track.mode.value)
    return NoTracker() if mode == "off" else WandbTracker(mode, track.project, track.entity, say)


def mode_of(asked: str) -> str:
    """What is asked for: auto, online, offline or off, as WANDB_MODE has it where that is auto."""
    return ENVIRONMENT.get(os.environ.get("WANDB_MODE", ""), "auto") if asked == "auto" else asked


def folder_of_runs() -> str:
    """Where W&B keeps its runs."""
    return os.environ.get("WANDB_DIR", "outputs")


def begin(asked: str, **more: Any) -> tuple[str, str]:
    """Start W&B's service. Gives the mode that it comes to, online or offline, and why where that is not as asked.

    more: settings of the service, where it is not running yet.
    """
    import wandb

    os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would hold up the exit for 20 s where no server answers
    wandb.setup(wandb.Settings(mode="offline" if asked == "offline" else "online", silent=True, **more))
    if asked == "offline":
        return "offline", ""
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        return "offline", f"{error_line(error)}; "
    return ("online", "") if known else ("offline", "no API key is configured ('wandb login' or WANDB_API_KEY); ")


def settings(finish_seconds: float, **more: Any) -> Any:
    """A quiet run of nothing but what it is given, that waits for the server no longer than so at its end."""
    import wandb

    return wandb.Settings(
        init_timeout=INIT_SECONDS,
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
        silent=True,
        console="off",
        disable_git=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
        **more,
    )


@dataclass
class Opened:
    """A trial whose run is open, with all that was told of it: where the server fails, an offline run begins anew."""

    cell: Cell
    trial: Trial
    part: str  # race or report
    run: Any = None
    curve: list[dict[str, list[float]]] = field(default_factory=list)


class WandbTracker:
    """One run per trial, named by the trial's id and grouped by cell. asked: auto, online or offline.

    Under `wandb agent` one more run, of the name that the agent gave out, tells the sweep what the job came to.
    """

    def __init__(self, asked: str, project: str, entity: str | None, say: Callable[[str], None]) -> None:
        self.project, self.entity, self.say = project, entity, say
        self.folder = folder_of_runs()
        self.mode, self.online = "online", asked != "offline"  # online: whether the service is, for any run
        self.opened: dict[str, Opened] = {}  # by the trial's id: the trials of a pack run side by side
        self.given = {name: os.environ.pop(name) for name in GIVEN if name in os.environ}
        self.reported: dict[str, tuple[Cell, dict[str, Any]]] = {}  # scores of the report's trials, by their ids
        with self._guard():
            mode, why = begin(asked)  # before any worker, so that it takes no time from a trial
            if mode == "offline":
                self.online = False
                self._go_offline(why)

    def start(self, cell: Cell, trial: Trial, part: str) -> None:
        """Open a run; where the server does not answer within seconds, this and all later runs are offline.

        part: what the trial is for, race or report.
        """
        if self.mode != "off":
            opened = self.opened[trial.id] = Opened(cell, trial, part)
            with self._guard():
                self._open(opened)

    def log(self, trial: str, curve: dict[str, list[float]]) -> None:
        """Pass on a piece of a trial's curve, by its id."""
        if opened := self.opened.get(trial):
            opened.curve.append(curve)
            with self._guard():
                _log(opened.run, curve)

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None:
        """Write the summary and close the run, if it was ever started; wait for the server a few seconds at most."""
        opened = self.opened.get((record.trial or {}).get("id", ""))
        if opened is None:
            return
        if opened.part == REPORT and record.scores:
            self.reported[opened.trial.id] = opened.cell, record.scores
        with self._guard():
            self._close(opened, record, cost)
        if self.opened.get(opened.trial.id) is opened:  # it began anew, offline
            with self._guard():
                self._close(opened, record, cost)

    def close(self) -> None:
        """Under an agent, tell the sweep the mean scores of the job's trials."""
        if self.mode != "off" and "WANDB_SWEEP_ID" in self.given and self.reported:
            with self._guard():
                self._tell_sweep()

    def _tell_sweep(self) -> None:
        cells, found = zip(*self.reported.values(), strict=True)
        given = {"sweep_id": "WANDB_SWEEP_ID", "sweep_param_path": "WANDB_SWEEP_PARAM_PATH"}
        run = self._init(
            cells[0],
            id=self.given.get("WANDB_RUN_ID"),
            name=cells[0].title,
            job_type="cell",
            config={},
            settings=settings(FINISH_SECONDS, **{key: self.given.get(name) for key, name in given.items()}),
        )
        run.summary.update({f"score/{part}": fmean(scores[part] for scores in found) for part in ("select", "report")})
        run.finish()

    def _init(self, cell: Cell, *, config: dict[str, Any], **more: Any) -> Any:
        """Open a run of a cell's group. config: beside the cell's own. more: arguments of `wandb.init`."""
        import wandb

        Path(self.folder).mkdir(parents=True, exist_ok=True)  # W&B would take a temporary folder instead
        about: dict[str, Any] = {"project": self.project, "entity": self.entity, "dir": self.folder, "mode": self.mode}
        return wandb.init(
            **about,
            group=cell.id,
            config=cell.config | {"cell": cell.id, "precision": cell.precision} | config,
            reinit="create_new",
            **more,
        )

    def _open(self, opened: Opened) -> None:
        cell, trial = opened.cell, opened.trial
        opened.run = self._init(
            cell,
            name=f"{cell.title} {trial.name}",
            job_type="trial" if opened.part == REPORT else opened.part,
            id=trial.id,  # without `resume`: a trial that is trained again replaces its run
            tags=[tag[:LONGEST_TAG] for tag in (cell.method, cell.task, cell.source.label, opened.part)],
            config={"lr": trial.lr, "seed": trial.seed},
            settings=settings(FINISH_SECONDS),
        )

    def _close(self, opened: Opened, record: Record, cost: dict[str, Any] | None) -> None:
        run, parts = opened.run, {"score": record.scores, "trial": record.cost, "cost": cost}
        summary = {f"{part}/{key}": value for part, values in parts.items() for key, value in (values or {}).items()}
        run.summary.update(summary | {"outcome": record.outcome, "error": (record.error or {}).get("message")})
        try:
            run.finish(exit_code=0 if record.outcome == "ok" else 1)
        except TimeoutError:
            sync = f"wandb sync --include-online {shlex.quote(str(Path(run.dir).parent))}"
            self._go_offline(f"the server stopped answering, to upload {run.id}: {sync}; from here on ")
        self.opened.pop(opened.trial.id)

    def _go_offline(self, why: str = "") -> None:
        if self.mode != "offline":
            self.mode, runs = "offline", f"{shlex.quote(self.folder)}/wandb/offline-run-*"
            self.say(f"W&B: {why}runs are kept offline, to upload them: wandb sync {runs}")

    def _begin_anew(self) -> None:
        """Keep the open runs offline, from their first step."""
        self.online = False
        stop_service()  # in it, a failed run still holds its id
        begin("offline")
        for opened in self.opened.values():
            self._open(opened)
            for piece in opened.curve:
                _log(opened.run, piece)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Whatever W&B raises, the cell goes on: with runs that are offline, or without any where those fail too."""
        try:
            try:
                yield
            except Exception as error:  # down, refused or rejected: offline works all the same
                if not self.online:
                    raise
                self._go_offline(f"the server did not take the run ({error_line(error)}); ")
                self._begin_anew()
        except Exception as error:  # noqa: BLE001 - see above
            self.say(f"W&B: not tracked from here on ({error_line(error)})")
            self.mode = "off"
            self.opened.clear()
            stop_service()


def _log(run: Any, curve: dict[str, list[float]]) -> None:
    for row in zip(*curve.values(), strict=True):
        values = dict(zip(curve, row, strict=True))
        step = int(values.pop("step"))
        run.log({f"train/{key}": value for key, value in values.items()}, step=step)


def stop_service() -> None:
    with suppress(Exception, SystemExit):
        import wandb

        wandb.teardown(exit_code=1)


def error_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
