"""What a record must have to be complete, and how two records of one trial or one cost become one."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.cells.cell import Cell
from bench.config.enums import Save
from bench.records.record import Record
from bench.tasks.loaders.texts import hash_of, read_texts

OF_LATENCY = ("latency", "merge_difference")  # keys of a cost that are measured only under merge=true


@dataclass(frozen=True)
class Extras:
    """What the configuration requires of a final record besides its scores. Not part of a cell's identity.

    Attributes:
        save: What to save of the trained model, `adapter` or `merged`; None if nothing is saved.
        texts: Hash of the texts whose retention is measured; None if retention is not measured.
    """

    save: str | None
    texts: str | None

    @classmethod
    def of(cls, cell: Cell) -> "Extras":
        """Read the requirements from a cell's configuration.

        Raises:
            ValueError: The texts of `retain` cannot be read.
        """
        save, retain = cell.conf.save, cell.conf.retain
        texts = hash_of(read_texts(Path(retain).expanduser())) if retain is not None and cell.trains else None
        return cls(None if save is Save.none else save.value, texts)

    def lacking(self, record: Record) -> str:
        """Name the requirements that a record does not meet.

        Args:
            record: The record of a trial.

        Returns:
            The settings that are not satisfied, such as "save=adapter and retain=". Empty if none is missing or the
            outcome is not ok.
        """
        if record.outcome != "ok":
            return ""
        retention = (record.scores or {}).get("retention") or {}
        lacking = []
        if self.save is not None and not (_is_saved(record) and Path(str(record.saved)).name == self.save):
            lacking.append(f"save={self.save}")
        if self.texts is not None and retention.get("texts") != self.texts:
            lacking.append("retain=")
        return " and ".join(lacking)


def combined(stored: Record, new: Record) -> Record | None:
    """Add to the new record the retention and the saved model that only the stored one has.

    Args:
        stored: The record of a trial.
        new: A later record of the same trial.

    Returns:
        The new record with what the stored one had besides; None if their predictions differ, so that they describe
        two models, and something of the stored record would be lost.
    """
    scores, old = new.scores or {}, stored.scores or {}
    retention = {"retention": old["retention"]} if "retention" in old and "retention" not in scores else {}
    saved = stored.saved if new.saved is None and _is_saved(stored) else new.saved
    if (retention or saved != new.saved) and stored.predictions != new.predictions:
        return None
    return replace(new, scores=scores | retention, saved=saved)


def _is_saved(record: Record) -> bool:
    return record.saved is not None and Path(record.saved).is_dir()


def has_cost(cell: Cell, probed: Record) -> bool:
    """Return whether a record has every cost that the cell's configuration requires."""
    return probed.cost is not None and ("latency" in probed.cost or not cell.conf.merge)


def is_better_cost(cell: Cell, stored: Record, new: Record) -> bool:
    """Return whether the new cost is complete while the stored one is not, or undisturbed while it was disturbed."""
    if not has_cost(cell, new):
        return False
    now_undisturbed = (stored.cost or {}).get("contended") and not (new.cost or {}).get("contended")
    return bool(now_undisturbed) or not has_cost(cell, stored)


def with_latency(stored: Record, new: Record) -> Record:
    """Return the new cost, with the stored latencies if they were not measured again."""
    kept = {name: value for name, value in (stored.cost or {}).items() if name in OF_LATENCY}
    return replace(new, cost={**kept, **(new.cost or {})})
