"""Weights & Biases, beside the records: the only file that imports wandb.

A tracker never fails or holds up a cell: what W&B cannot take in time stays in its offline folder.
"""

import logging
import netrc
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlparse

from bench.cell import Cell, Trial
from bench.records import Record

INIT_SECONDS = 6
FINISH_SECONDS = 3


class Tracker(Protocol):
    """What the sweep tells as it goes."""

    def start(self, cell: Cell, trial: Trial) -> None: ...

    def log(self, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...


class NoTracker:
    """track=off."""

    def start(self, cell: Cell, trial: Trial) -> None: ...

    def log(self, curve: dict[str, list[float]]) -> None: ...

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None: ...


def make_tracker(track: dict[str, Any], say: Callable[[str], None]) -> Tracker:
    """A tracker for `track.mode`."""
    mode = track["mode"]
    if mode == "off":
        return NoTracker()
    if mode == "auto":
        mode = "online" if key_is_configured() else "offline"
    return WandbTracker(mode, track["project"], track["entity"], say)


def key_is_configured() -> bool:
    """Whether a key for the W&B server lies in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc().authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbTracker:
    """One run per trial, grouped by cell, with an id made of cell, learning rate and seed."""

    def __init__(self, mode: str, project: str, entity: str | None, say: Callable[[str], None]) -> None:
        self.mode, self.project, self.entity, self.say = mode, project, entity, say
        self.folder = os.environ.get("WANDB_DIR", "outputs")
        self.run: Any = None
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        if mode == "offline":
            say(f"W&B: offline runs go to {self.folder}/wandb; 'wandb sync --sync-all {self.folder}/wandb' uploads them")

    def start(self, cell: Cell, trial: Trial) -> None:
        """Open a run; where the server does not answer within seconds, this and all later runs are offline."""
        import wandb

        os.makedirs(self.folder, exist_ok=True)  # noqa: PTH103 - wandb falls back to a temporary folder otherwise
        try:
            self.run = self._open(wandb, cell, trial)
        except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError, TimeoutError) as error:
            if self.mode == "offline":
                self.say(f"W&B: not tracked ({error})")
                self.run = None
                return
            self.say(f"W&B: the server does not answer ({str(error).splitlines()[0]}); going on offline")
            self.mode = "offline"
            self.start(cell, trial)

    def _open(self, wandb: Any, cell: Cell, trial: Trial) -> Any:
        return wandb.init(
            mode=self.mode,
            project=self.project,
            entity=self.entity,
            dir=self.folder,
            id=trial.id,
            name=f"{cell.title} {trial.name}",
            group=cell.id,
            job_type="trial",
            tags=[cell.method, cell.task, cell.source.label],
            config=cell.config | {"lr": trial.lr, "seed": trial.seed, "cell": cell.id},
            resume=None if self.mode == "offline" else "allow",
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=INIT_SECONDS, login_timeout=INIT_SECONDS, silent=True, console="off", disable_git=True,
                x_disable_stats=True, x_disable_meta=True,
            ),
        )

    def log(self, curve: dict[str, list[float]]) -> None:
        """Pass on a piece of the trial's curve."""
        if self.run is None:
            return
        for row in zip(*curve.values(), strict=True):
            values = dict(zip(curve, row, strict=True))
            self.run.log({f"train/{key}": value for key, value in values.items() if key != "step"}, step=int(values["step"]))

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None:
        """Write the summary and close the run, waiting for the server no longer than a few seconds.

        cost: the cell's, from its probe.
        """
        if self.run is None:
            return
        run, self.run = self.run, None
        for prefix, values in (("score", record.scores), ("trial", record.cost), ("cost", cost)):
            for key, value in (values or {}).items():
                run.summary[f"{prefix}/{key}"] = value
        run.summary["outcome"] = record.outcome
        if record.error:
            run.summary["error"] = record.error["message"]
        code = 0 if record.outcome == "ok" else 1
        closing = threading.Thread(target=run.finish, kwargs={"exit_code": code}, daemon=True)
        closing.start()
        closing.join(FINISH_SECONDS)
