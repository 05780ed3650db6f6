"""Compare our differences between ranks and between targets with those of the LoRA paper's Tables 5 and 6.

Scores of other models on other tasks are not comparable. Whether a higher rank or more weight types helped is
comparable.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.report.compare import difference
from bench.report.record_frame import Study
from bench.report.stats.pairwise import Difference
from bench.report.tables.published import lora_paper
from bench.report.tables.table import DASH, Table, text
from bench.report.tuning import is_tuned

BASE_TARGET = "qv"  # the weight types that the paper adapts by default
COLUMN = "difference"
CONTRASTED = ("5", "6")  # the paper's tables that vary only rank and target


@dataclass(frozen=True)
class Setting:
    """The setting of a value in the paper's table.

    Attributes:
        target: Adapted weight types, by our name.
        rank: Rank of the adapters.
    """

    target: str
    rank: int

    @property
    def title(self) -> str:
        """The title of our cell with this setting."""
        return f"lora r={self.rank} {self.target}"

    def __str__(self) -> str:
        return f"{self.target} r={self.rank}"


@dataclass(frozen=True)
class Contrast:
    """The score of one setting minus that of another.

    Attributes:
        of: The setting of interest.
        less: The setting whose score is subtracted.
    """

    of: Setting
    less: Setting

    def __str__(self) -> str:
        return f"{self.of} - {self.less}"


def contrasts(table: str) -> list[Contrast]:
    """List the differences that a published table shows.

    Args:
        table: Number of the paper's table, "5" or "6".

    Returns:
        Differences from the lowest rank of the same target, then differences from the base target, q and v.
    """
    rows = lora_paper(table)
    pairs = zip(rows["target"], rows["rank"], strict=True)
    settings = list(dict.fromkeys(Setting(target, rank) for target, rank in pairs))
    lowest = {
        setting.target: min((other for other in settings if other.target == setting.target), key=_rank)
        for setting in settings
    }
    from_lowest = [Contrast(setting, lowest[setting.target]) for setting in settings]
    from_base = [
        Contrast(setting, base) for setting in settings for base in settings if _is_base(base, setting, settings)
    ]
    return [contrast for contrast in [*from_lowest, *from_base] if contrast.of != contrast.less]


def _rank(setting: Setting) -> int:
    return setting.rank


def _is_base(candidate: Setting, setting: Setting, settings: list[Setting]) -> bool:
    """Whether a candidate is the base of a setting: the base target at the same rank, or else at its first rank."""
    ranks = [other.rank for other in settings if other.target == BASE_TARGET]
    return candidate.target == BASE_TARGET and candidate.rank == (setting.rank if setting.rank in ranks else ranks[0])


def against_paper(study: Study, table: str) -> Table | None:
    """Build the table of our differences with their intervals next to the paper's differences, in points.

    Args:
        study: Comparable cells.
        table: Number of the paper's table, "5" or "6".

    Returns:
        The table; None if we have none of the differences.
    """
    wanted = contrasts(table)
    titles = {setting.title for contrast in wanted for setting in (contrast.of, contrast.less)}
    scored = study.cells[study.cells["report_score"].notna() & study.cells["title"].isin(titles)]
    ours = {
        str(task): {str(contrast): entry for contrast in wanted if (entry := _ours(study, cells, contrast)) is not None}
        for task, cells in scored.groupby("task", sort=False)
    }
    ours = {task: values for task, values in ours.items() if values}
    if not ours:
        return None
    names = [str(contrast) for contrast in wanted]
    paper = dict(_published(table, wanted))
    columns = {f"{task}, ours": [values.get(name, DASH) for name in names] for task, values in ours.items()}
    columns |= {f"{task}, the paper's": [values.get(name, DASH) for name in names] for task, values in paper.items()}
    body = pd.DataFrame({COLUMN: names, **columns}, dtype=object)
    (model,) = scored["model"].unique()
    title = f"Differences in points: {model} and GPT-3 in the LoRA paper's table {table}"
    return Table("differences", title, body, [f"{title}.", *_notes(scored)], [COLUMN])


def _ours(study: Study, cells: pd.DataFrame, contrast: Contrast) -> str | None:
    """Format our difference with its interval; None if a cell has no score."""
    matches = [cells[cells["title"] == setting.title] for setting in (contrast.of, contrast.less)]
    if any(rows.empty for rows in matches):
        return None
    return _difference_text(difference(study, *(rows.iloc[0] for rows in matches)))


def _difference_text(measured: Difference) -> str:
    """Format a difference in points, with its 95% interval if known."""
    if measured.interval is None:
        return f"{100 * measured.score:+.1f}"
    low, high = (100 * edge for edge in measured.interval)
    return f"{100 * measured.score:+.1f} ({low:.1f} to {high:.1f})"


def _published(table: str, wanted: list[Contrast]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paper's differences by task. The spread of a difference combines the spreads of its two values."""
    for task, rows in lora_paper(table).groupby("task", sort=False):
        known: dict[tuple[str, int], Any] = {(row["target"], row["rank"]): row for _, row in rows.iterrows()}
        values = {}
        for contrast in wanted:
            of, less = (known[setting.target, setting.rank] for setting in (contrast.of, contrast.less))
            spread = math.hypot(of["spread"], less["spread"])
            values[str(contrast)] = f"{of['value'] - less['value']:+.1f} +- {text(spread, '{:.1f}')}"
        yield str(task), values


def _notes(cells: pd.DataFrame) -> list[str]:
    tested = int((cells["seeds"] > 1).sum())
    ours = "Ours: difference of mean scores in points, with a 95% interval over examples and seeds"
    single = "; with one seed, over examples alone" if tested < len(cells) else ""
    untuned = ["No interval where a cell's learning rate was not tuned."] if not is_tuned(cells).all() else []
    return [
        f"{ours} that holds for all pairs of our table together{single}.",
        *untuned,
        "The paper's: difference of the printed values +- the combined spread of both values over seeds.",
    ]
