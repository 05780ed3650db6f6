"""The worker's side: one cell in a process of its own, from its configuration to its results.

The server that workers are forked from has imported this module, or most of what it imports, once for all cells.
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
from bench.runner.malloc import keep_freed_memory, release_freed_memory
from bench.runner.packing import Trials, halved
from bench.runner.racing import Racing
from bench.runner.rank_search import Ladder
from bench.runner.setup import CellSetup
from bench.train.device import exact_products, pick_device
from bench.train.outcome import describe, failure, release


def main(job: Job, pipe: Connection) -> None:
    """Run a job and send its events; the pipe's end is the end of the job."""
    warnings.simplefilter("ignore")
    keep_freed_memory()
    try:
        run_cell(job, pipe.send)
    except Exception as error:  # noqa: BLE001 - every failure is an outcome
        pipe.send(Broken(*describe(error)))


def check_cells(cells: list[Cell], pipe: Connection) -> None:
    """See that every task loads, every method attaches, and all that the cells read is there and can be read.

    Sends a pair: {cell id: why it is left out}, the first complaint or None.
    """
    warnings.simplefilter("ignore")
    misfits: dict[str, str] = {}
    cell = cells[0]
    try:
        tasks = {}
        for cell in cells:
            if (read := _reads(cell)) not in tasks:
                tasks[read] = load_task(cell)
        for cell in {cell.source: cell for cell in cells}.values():
            check_described(cell.source)
        for cell in {_way(cell): cell for cell in cells}.values():
            try:
                try_out(cell)
            except Misfit as misfit:
                misfits |= {same.id: str(misfit) for same in cells if _way(same) == _way(cell)}
        for cell in by_input([cell for cell in cells if cell.id not in misfits]):
            check_input(cell, tasks[_reads(cell)])
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        pipe.send((misfits, f"{cell.title}: {error}"))
    except Exception as error:  # noqa: BLE001 - Hydra wraps what the called function raised
        cause = error.__cause__ or error
        pipe.send((misfits, f"{cell.title}: {type(cause).__name__}: {cause}"))
    else:
        pipe.send((misfits, None))


def find_ranks(configs: list[DictConfig], pipe: Connection) -> None:
    """Find the rank that `match_params` chooses for each configuration; what trains alike is counted once.

    Sends a pair: a rank, or why there is none, for each; the first complaint or None.
    """
    warnings.simplefilter("ignore")
    register()
    found: list[int | str] = []
    known: dict[Any, int | str] = {}
    try:
        for config in configs:
            try:
                ladder = Ladder.of(config)
                if ladder.key not in known:
                    if ladder.cell.conf.method.needs_cuda:
                        try_out(ladder.cell)  # nor could it be counted without
                    known[ladder.key] = ladder.matched()
                found.append(known[ladder.key])
            except Misfit as misfit:
                found.append(str(misfit))
    except Exception as error:  # noqa: BLE001 - as in check
        cause = error.__cause__ or error
        kind = "" if isinstance(cause, (ValueError, TypeError)) else f"{type(cause).__name__}: "
        pipe.send((found, f"{kind}{cause}"))
    else:
        pipe.send((found, None))


def try_out(cell: Cell) -> None:
    """Attach the method to an empty model, and build its optimizer and hooks. Misfit: it cannot work here."""
    device = pick_device(cell.conf.device.value)
    if cell.conf.method.needs_cuda and device.type != "cuda":
        raise Misfit(
            f"method {cell.method!r} needs a CUDA device, and this one is a {device.type}; README's table lists others"
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
    # An initialisation that needs real weights is a RuntimeError here; the cell itself will tell.
    with suppress(RuntimeError), torch.device("meta"):
        try:
            method(empty_model(cell.source, cell.outputs, speaks=cell.form.speaks))
        except ValueError as error:  # the library's own word on shapes and settings
            raise Misfit(f"{cell.title}: {error}") from error


def _way(cell: Cell) -> tuple[Any, ...]:
    """What decides whether a method attaches and the device can run it: cells that share it are tried once."""
    conf = cell.conf
    on = conf.device, conf.precision, cell.precision, conf.quant.name, conf.fast.attention
    return cell.source, str(cell.identity["method"]), cell.parts, on


def _reads(cell: Cell) -> tuple[Any, ...]:
    """What decides the rows of a cell's task."""
    protocol = cell.conf.protocol
    return str(cell.conf.task), protocol.train_rows, protocol.data_seed


def run_cell(job: Job, emit: Callable[[Event], None]) -> None:
    """The pipeline: data, then model and method for the probe, for the race, and for each trial."""
    cell = job.cell
    exact_products()
    setup = CellSetup.of(cell)
    told, device = setup.told(), setup.training.compute.device
    sizes = {name: len(part) for name, part in setup.training.data.parts.items()}
    emit(Ready(told, sizes))
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
        emit(Ready(told | {"threads": job.threads}, sizes))
    trials = Trials(setup, emit, load_retained(cell, setup.training.compute))
    trials.run(job.trials)
    if job.race is not None:
        rate = Racing(trials).hold(job.race).lr
        of_winner = [] if rate is None else [Trial(cell.id, rate, seed) for seed in job.seeds]
        trials.run([trial for trial in of_winner if trial.name not in job.recorded])


def measure_cost(setup: CellSetup) -> Probed:
    """The cell's cost, on a model that is thrown away.

    Where the adapter's size or the latency cannot be measured, the rest is kept, and the error says why.
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
        except Exception as failed:  # noqa: BLE001 - no reason to lose the cost, and the trials with it
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
