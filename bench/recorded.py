"""What is recorded of a cell already: its files, the trials and the cost that are still missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import records
from bench.cell import Cell, Trial
from bench.records import Record


def path_of(cell: Cell, trial: Trial | None) -> Path:
    """The file of a trial's record, or of the cell's probe."""
    folder = Path(cell.config["results_dir"]).expanduser() / cell.folder
    return folder / f"{'probe' if trial is None else trial.name}.json"


def missing(cell: Cell, say: Callable[[str], None]) -> tuple[Trial, ...]:
    """Trials that have no final record yet, or were not kept as is now wanted; all where the cell is forced."""
    if cell.config["force"]:
        return cell.trials
    found = {trial: records.read_if_there(path_of(cell, trial), say) for trial in cell.trials}
    return tuple(
        trial for trial, record in found.items() if record is None or not _is_done(record, cell.config["save"])
    )


def _is_done(record: Record, save: str) -> bool:
    wanted = save != "none" and record.outcome == "ok"
    kept = record.saved is not None and Path(record.saved).name == save and Path(record.saved).is_dir()
    return record.is_final and (kept or not wanted)


def cost_of(cell: Cell, say: Callable[[str], None]) -> dict[str, Any] | None:
    """What the probe of a cell found out; None where it is to be run, or to be run again with latencies."""
    probed = None if cell.config["force"] else records.read_if_there(path_of(cell, None), say)
    cost = probed.cost if probed else None
    return None if cost and cell.config["merge"] and "latency" not in cost else cost
