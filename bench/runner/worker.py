"""The worker's side: run one cell in its own process, from its configuration to its results.

Workers are forked from a server that has already imported this module, or most of what it imports.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import torch
from omegaconf import DictConfig

from bench.cells.cell import Cell, Trial
from bench.cells.compatibility import Misfit
from bench.config.enums import Attention
from bench.config.register import register
from bench.events import Broken, Event, Probed, Ready
from bench.measure.latency import merging
from bench.measure.memory import resident_bytes
from bench.measure.probe import probe, probe_untrained
from bench.methods.checkpoints import merge_adapter
from bench.models.description import check_described
from bench.models.load import empty_model
from bench.models.speed.speedups import undo_speedups
from bench.runner.build import (
    arithmetic,
    build,
    load_backbone,
    load_retained,
    load_task,
    method_of,
    recipe_of,
    saved_bytes,
)
from bench.runner.inputs import by_input, check_input
from bench.runner.job import Job
from bench.runner.malloc import free_unused_models, keep_freed_memory, release_freed_memory
from bench.runner.packing import Trials, halved
from bench.runner.racing import Racing
from bench.runner.rank_search import Ladder
from bench.runner.setup import CellSetup
from bench.train.device import exact_products, pick_device
from bench.train.guard import head_is_frozen
from bench.train.outcome import describe, failure, release


def main(job: Job, pipe: Connection) -> None:
    """Run a job in a worker process.

    Args:
        job: The job.
        pipe: Receives the events. Closing it marks the end of the job.
    """
    warnings.simplefilter("ignore")
    keep_freed_memory()
    try:
        run_cell(job, pipe.send)
    except Exception as error:  # noqa: BLE001 - every failure is an outcome
        pipe.send(Broken(*describe(error)))


def check_cells(cells: list[Cell], pipe: Connection) -> None:
    """Check that every task loads, every method attaches, and every input of the cells can be read.

    Args:
        cells: The cells.
        pipe: Receives one pair: the reasons for skipping cells, by cell id; and the first error message, or None.
    """
    warnings.simplefilter("ignore")
    misfits: dict[str, str] = {}
    cell = cells[0]
    try:
        tasks = {}
        for cell in cells:
            if (key := _task_key(cell)) not in tasks:
                tasks[key] = load_task(cell)
        for cell in {cell.source: cell for cell in cells}.values():
            check_described(cell.source)
        for cell in {_attachment_key(cell): cell for cell in cells}.values():
            try:
                try_out(cell)
            except Misfit as misfit:
                key = _attachment_key(cell)
                misfits |= {similar.id: str(misfit) for similar in cells if _attachment_key(similar) == key}
        for cell in by_input([cell for cell in cells if cell.id not in misfits]):
            check_input(cell, tasks[_task_key(cell)])
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        pipe.send((misfits, f"{cell.title}: {error}"))
    except Exception as error:  # noqa: BLE001 - Hydra wraps exceptions of the functions that it calls
        cause = error.__cause__ or error
        pipe.send((misfits, f"{cell.title}: {type(cause).__name__}: {cause}"))
    else:
        pipe.send((misfits, None))


def find_ranks(configs: list[DictConfig], pipe: Connection) -> None:
    """Find the rank that `match_params` chooses for each configuration.

    Configurations that give the same rank are counted once.

    Args:
        configs: Composed configurations.
        pipe: Receives one pair: a list with the rank of each configuration, or the reason why it has none; and the
            first error message, or None.
    """
    warnings.simplefilter("ignore")
    register()
    ranks: list[int | str] = []
    rank_by_key: dict[Any, int | str] = {}
    try:
        for config in configs:
            try:
                ladder = Ladder.of(config)
                if ladder.key not in rank_by_key:
                    if ladder.cell.conf.method.needs_cuda:
                        try_out(ladder.cell)  # without CUDA its parameters could not be counted either
                    rank_by_key[ladder.key] = ladder.matched()
                ranks.append(rank_by_key[ladder.key])
            except Misfit as misfit:
                ranks.append(str(misfit))
    except Exception as error:  # noqa: BLE001 - as in check_cells
        cause = error.__cause__ or error
        kind = "" if isinstance(cause, (ValueError, TypeError)) else f"{type(cause).__name__}: "
        pipe.send((ranks, f"{kind}{cause}"))
    else:
        pipe.send((ranks, None))


def try_out(cell: Cell) -> None:
    """Attach the method to a model without weights, and build its optimizer and hooks.

    Args:
        cell: The cell.

    Raises:
        Misfit: The method does not fit the model or the device.
        ValueError: The method freezes the task's head.
    """
    device = pick_device(cell.conf.device.value)
    if cell.conf.method.needs_cuda and device.type != "cuda":
        raise Misfit(
            f"method {cell.method!r} needs a CUDA device, and this one is a {device.type}; see README's table for "
            "others"
        )
    if cell.conf.fast.attention is Attention.flash_attention_2 and (
        device.type != "cuda" or not find_spec("flash_attn")
    ):
        raise Misfit("fast.attention=flash_attention_2 needs a CUDA device and the package flash-attn; use sdpa or own")
    try:
        dtype = arithmetic(cell, device)
    except ValueError as error:
        raise Misfit(f"{cell.title}: {error}") from error
    if cell.conf.fast.attention is Attention.flash_attention_2 and dtype is torch.float32:
        raise Misfit(
            "fast.attention=flash_attention_2 cannot compute in fp32, which precision=auto means on this device; use "
            "precision=bf16, or fast.attention=sdpa"
        )
    recipe_of(cell)
    method = method_of(cell)
    # An initialisation that needs real weights raises RuntimeError here. The cell itself will show whether it works.
    with suppress(RuntimeError), torch.device("meta"):
        try:
            model = method(empty_model(cell.source, cell.outputs, speaks=cell.form.speaks))
        except ValueError as error:  # the library rejects a shape or a setting
            raise Misfit(f"{cell.title}: {error}") from error
        if cell.trains and head_is_frozen(model):
            raise ValueError(f"method {cell.method!r} freezes the task's head, and every method must train it")


def _attachment_key(cell: Cell) -> tuple[Any, ...]:
    """Return what decides whether the method attaches and runs on the device. Cells with equal keys are tried once."""
    conf = cell.conf
    arithmetics = conf.device, conf.precision, cell.precision, conf.quant.name, conf.fast.attention
    return cell.source, str(cell.identity["method"]), cell.parts, arithmetics


def _task_key(cell: Cell) -> tuple[Any, ...]:
    """Return what decides the rows of a cell's task."""
    protocol = cell.conf.protocol
    return str(cell.conf.task), protocol.train_rows, protocol.data_seed


def run_cell(job: Job, emit: Callable[[Event], None]) -> None:
    """Run a job: load the data, then measure the cost, train the trials and run the race.

    Models are built anew for the probe, the race and the trials. If memory runs out in the probe, it is repeated with
    half the micro-batch.

    Args:
        job: The job.
        emit: Receives the events.

    Raises:
        Exception: Any failure that ends the whole cell. Failures of single trials become events.
    """
    cell = job.cell
    exact_products()
    setup = CellSetup.of(cell)
    machine, device = setup.describe(), setup.training.compute.device
    sizes = {name: len(part) for name, part in setup.training.data.parts.items()}
    emit(Ready(machine, sizes))
    while job.probe:
        try:
            emit(measure_cost(setup))
            break
        except Exception as error:
            smaller = halved(setup.training, error, cell)
            if smaller is None:
                raise
            release(error)
            setup = replace(setup, training=smaller)
    if not job.trials and job.race is None:
        return
    if job.threads is not None and device.type == "cpu":
        torch.set_num_threads(job.threads)
        emit(Ready(machine | {"threads": job.threads}, sizes))
    free_unused_models()  # the probe's
    trials = Trials(setup, emit, load_retained(cell, setup.training.compute))
    trials.run(job.trials)
    if job.race is not None:
        rate = Racing(trials).hold(job.race).lr
        winner_trials = [] if rate is None else [Trial(cell.id, rate, seed) for seed in job.seeds]
        trials.run([trial for trial in winner_trials if trial.name not in job.recorded])


def measure_cost(setup: CellSetup) -> Probed:
    """Measure the cell's cost, on a model that is then discarded.

    Args:
        setup: The cell, ready to be measured.

    Returns:
        The cost and the right answers. If the adapter's size or the latency cannot be measured, the other values are
        kept and `error` says why.
    """
    cell, training = setup.cell, setup.training
    data, compute = training.data, training.compute
    release_freed_memory()
    before = resident_bytes()
    model, error = build(cell, seed=0, compute=compute), None
    if cell.trains:
        cost = probe(model, training, steps=cell.conf.protocol.probe_steps, lr=cell.published, fast=setup.fast)
        try:
            cost |= {"adapter_bytes": saved_bytes(model, cell)}
        except Exception as failed:  # noqa: BLE001 - must not lose the cost and the trials
            cost, error = cost | {"adapter_bytes": None}, failure(failed, "saving the adapter")
    else:
        cost = probe_untrained(model, training, fast=setup.fast) | {"adapter_bytes": 0}
    cost["peak_own_bytes"] = max(0, cost["peak_resident_bytes"] - before)
    if cell.conf.merge:
        try:
            merge = partial(merge_adapter, attach=cell.conf.method.attach) if cell.merges else None
            bare = load_backbone(cell, seed=0, compute=compute)
            cost |= merging(undo_speedups(model), merge, bare, data.select, training.plan.eval_batch, compute)
        except Exception as failed:  # noqa: BLE001 - as above
            error = failure(failed, "merge=true", error)
    return Probed(cost, data.truth, error)
