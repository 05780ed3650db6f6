"""What a cell reads, opened before anything is trained: its weights, its tokenizer, and its data as token ids."""

from pathlib import Path

from bench.build import load_data, retained_texts
from bench.cell import Cell
from bench.models.weights import check_weights
from bench.tasks.task import Task


def by_input(cells: list[Cell]) -> list[Cell]:
    """One cell for each combination of what is read, and of how it is put to the model."""
    return list({_input(cell): cell for cell in cells}.values())


def check_input(cell: Cell, task: Task) -> None:
    """Read what a cell reads, and encode its data as it will be trained on: the token cache serves the cell itself.

    Raises:
        ValueError: A file is missing or broken, the tokenizer does not fit the model, or a text cannot be encoded.
    """
    check_weights(cell.source)
    load_data(cell, task=task)
    retained_texts(cell)


def _input(cell: Cell) -> tuple[object, ...]:
    config = cell.config
    protocol, method = config["protocol"], config["method"]
    return (
        cell.source, str(config["task"]), str(config["prompt"]), method["template"], method["reasons"], cell.shots,
        cell.trains, cell.longest, protocol["max_length"], protocol["train_rows"], protocol["data_seed"],
        config["retain"], Path(config["cache_dir"]),
    )  # fmt: skip
