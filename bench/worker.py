"""The worker's side: one cell in a process of its own, from its configuration to its results.

This module is preloaded by the server that workers are forked from, so its imports are paid once for all cells.
"""

import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import peft  # noqa: F401 - preloaded
import torch
import transformers
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from bench.cell import Cell, Trial
from bench.events import Broken, Ended, Event, Probed, Ready
from bench.measure.probe import probe
from bench.methods.saving import adapter_bytes, save_adapter
from bench.models.load import empty_model, load_model, load_tokenizer
from bench.schema import TaskConf
from bench.tasks.encode import Encoded, encode
from bench.tasks.task import Task, subset
from bench.train.curve import Diverged
from bench.train.loop import Plan, run_trial
from bench.train.precision import attention_for, describe_device, pick_device, pick_dtype

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True)
class Job:
    """What a worker is asked to do."""

    cell: Cell
    trials: tuple[Trial, ...]
    probe: bool


def main(job: Job, pipe: Connection) -> None:
    """Run a job and send its events; the pipe's end is the end of the job."""
    warnings.simplefilter("ignore")
    try:
        run_cell(job, pipe.send)
    except Exception as error:  # noqa: BLE001 - every failure is an outcome
        pipe.send(Broken(*describe(error)))


def check(cells: list[Cell], pipe: Connection) -> None:
    """See that every task loads and every method attaches, and send the first complaint, or None."""
    warnings.simplefilter("ignore")
    try:
        for cell in {str(cell.config["task"]): cell for cell in cells}.values():
            load_task(cell)
        for cell in {(cell.source, str(cell.identity["method"]), cell.parts): cell for cell in cells}.values():
            pick_device(cell.config["device"])
            with suppress(NotImplementedError):  # an initialisation that needs real weights: the cell itself will tell
                attach(empty_model(cell.source, len(cell.config["task"]["labels"])), cell)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        pipe.send(f"{cell.title}: {error}")
    except Exception as error:  # noqa: BLE001 - Hydra wraps what the called function raised
        cause = error.__cause__ or error
        pipe.send(f"{cell.title}: {type(cause).__name__}: {cause}")
    else:
        pipe.send(None)


def run_cell(job: Job, emit: Callable[[Event], None]) -> None:
    """The pipeline: data, then model and method for the probe and for each trial."""
    cell = job.cell
    device = pick_device(cell.config["device"])
    dtype = pick_dtype(cell.config["precision"], device)
    data = load_data(cell)
    rows = {part: len(getattr(data, part)) for part in ("train", "select", "report")}
    emit(Ready(describe_device(device, dtype), rows))
    if job.probe:
        emit(Probed(measure(cell, data, device, dtype)))
    for trial in job.trials:
        emit(run_one(cell, trial, data, device, dtype, emit))


def measure(cell: Cell, data: Encoded, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The cell's cost, on a model that is thrown away."""
    model = build(cell, seed=0, device=device)
    cost = probe(model, data.train, data.select, cell.config["protocol"], dtype)
    return cost | {"adapter_bytes": saved_bytes(model, cell)}


def run_one(
    cell: Cell, trial: Trial, data: Encoded, device: torch.device, dtype: torch.dtype, emit: Callable[[Event], None]
) -> Ended:
    """One trial, whatever becomes of it."""
    try:
        model = build(cell, seed=trial.seed, device=device)
        plan = Plan.of(cell.config["protocol"])
        return run_trial(model, data, plan, trial=trial.id, lr=trial.lr, seed=trial.seed, dtype=dtype, emit=emit)
    except Exception as error:  # noqa: BLE001 - every failure is an outcome
        outcome, told = describe(error)
        return Ended(trial.id, outcome, error=told)


def load_data(cell: Cell) -> Encoded:
    """The task's three parts as token ids."""
    cache = Path(cell.config["cache_dir"]).expanduser()
    return encode(load_task(cell), load_tokenizer(cell.source), cell.config["protocol"]["max_length"], cache)


def load_task(cell: Cell) -> Task:
    """Read the data and cut the training part to the protocol's size."""
    conf: TaskConf = OmegaConf.to_object(OmegaConf.merge(TaskConf, cell.config["task"]))  # type: ignore[assignment]
    protocol = cell.config["protocol"]
    task: Task = instantiate({**conf.load, "_partial_": True})(conf, protocol["data_seed"])
    return Task(subset(task.train, protocol["train_rows"], protocol["data_seed"]), task.select, task.report)


def build(cell: Cell, *, seed: int, device: torch.device) -> nn.Module:
    """A fresh model with the method attached; all that is drawn at random is drawn from the seed."""
    labels, dropout = cell.config["task"]["labels"], cell.config["protocol"]["dropout"]
    model = load_model(cell.source, len(labels), seed=seed, attention=attention_for(device), dropout=dropout)
    return attach(model, cell).to(device)


def attach(model: nn.Module, cell: Cell) -> nn.Module:
    """Apply the cell's method to a model."""
    method: Callable[..., nn.Module] = instantiate(cell.config["method"]["attach"])
    return method(model) if cell.modules is None else method(model, target=cell.modules)


def saved_bytes(model: nn.Module, cell: Cell) -> int:
    """Size of the adapter on disk, found out by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder), cell.config["method"]["attach"])
        return adapter_bytes(Path(folder))


def describe(error: Exception) -> tuple[str, dict[str, str]]:
    """The outcome that an exception means, and what the record says about it."""
    message = str(error)
    if isinstance(error, Diverged):
        outcome = "diverged"
    elif isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in message:
        outcome = "oom"
    else:
        outcome = "failed"
    told: dict[str, Any] = {"type": type(error).__name__, "message": message}
    return outcome, told | {"traceback": "".join(traceback.format_exception(error))}
