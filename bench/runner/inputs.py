"""Open a cell's inputs before anything is trained: weights, tokenizer, and data as token ids."""

from pathlib import Path

from bench.cells.cell import Cell
from bench.models.weights import check_weights
from bench.runner.build import load_data, retained_texts
from bench.tasks.base import Task
from bench.tasks.encoding.rows import Encoded
from bench.train.settings import Plan


def by_input(cells: list[Cell]) -> list[Cell]:
    """Keep one cell for each combination of inputs and of how they are presented to the model.

    Args:
        cells: The cells.

    Returns:
        The last cell of each combination.
    """
    return list({_input(cell): cell for cell in cells}.values())


def check_input(cell: Cell, task: Task) -> None:
    """Read a cell's inputs and encode its data as training will. The cell later reuses the token cache.

    Args:
        cell: The cell.
        task: Its task, as `load_task` returns it.

    Raises:
        ValueError: A file is missing or broken, the tokenizer does not fit the model, a text cannot be encoded, or the
            warm-up is longer than the training.
    """
    check_weights(cell.source)
    _check_warm_up(cell, load_data(cell, task=task))
    retained_texts(cell)


def _check_warm_up(cell: Cell, data: Encoded) -> None:
    """Raise ValueError if the learning rate would still rise at the last update."""
    plan = Plan.of(cell.conf.protocol)
    if cell.trains and plan.warmup_steps is not None and plan.warmup_steps >= (steps := plan.steps(data.train)):
        raise ValueError(
            f"protocol.warmup_steps={plan.warmup_steps}: the training has {steps} updates; choose a number below that"
        )


def _input(cell: Cell) -> tuple[object, ...]:
    """Return a key that is equal for cells with the same inputs, encoded in the same way."""
    conf, protocol, method = cell.conf, cell.conf.protocol, cell.conf.method
    return (
        cell.source, str(conf.task), str(conf.prompt), method.template, method.reasons, cell.shots,
        cell.trains, cell.longest, protocol.max_length, protocol.train_rows, protocol.data_seed,
        conf.retain, Path(conf.cache_dir),
        protocol.warmup_steps, protocol.steps, protocol.epochs, protocol.batch, protocol.tokens,
    )  # fmt: skip
