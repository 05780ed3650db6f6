"""What a cell reads, opened before anything is trained: its weights, its tokenizer, and its data as token ids."""

from pathlib import Path

from bench.build import load_data, retained_texts
from bench.cell import Cell
from bench.models.weights import check_weights
from bench.tasks.encode import Rows
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
    data = load_data(cell, task=task)
    parts = {**data.parts}
    if retained := retained_texts(cell):
        parts["retain"] = retained.rows
    for rows in parts.values():
        _check_tokens(rows, cell)


def _check_tokens(rows: Rows, cell: Cell) -> None:
    size = cell.source.architecture.get("vocab_size")
    largest = max(rows.pad_id, int(rows.ids.max()) if rows.ids.numel() else 0)
    if size is not None and largest >= size:
        raise ValueError(
            f"the tokenizer of {cell.source.label} gives token {largest}, and the model has embeddings for {size} "
            "tokens; put the tokenizer beside the model that it was made for"
        )


def _input(cell: Cell) -> tuple[object, ...]:
    config = cell.config
    protocol, method = config["protocol"], config["method"]
    return (
        cell.source, str(config["task"]), str(config["prompt"]), method["template"], method["reasons"], cell.shots,
        cell.trains, cell.longest, protocol["max_length"], protocol["train_rows"], protocol["data_seed"],
        config["retain"], Path(config["cache_dir"]),
    )  # fmt: skip
