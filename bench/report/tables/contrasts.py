"""Our differences between ranks and between targets, beside those of the LoRA paper's Tables 5 and 6.

Scores of other models on other tasks are not comparable; whether more rank or more weight types helped is.
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

BASE_TARGET = "qv"  # what the paper adapts unless it says otherwise
COLUMN = "difference"
CONTRASTED = ("5", "6")  # the paper's tables that vary rank and target alone


@dataclass(frozen=True)
class Setting:
    """What a value of the paper's table belongs to."""

    target: str
    rank: int

    @property
    def title(self) -> str:
        """Our title of the cell."""
        return f"lora r={self.rank} {self.target}"

    def __str__(self) -> str:
        return f"{self.target} r={self.rank}"


@dataclass(frozen=True)
class Contrast:
    """The score of one setting less that of another."""

    of: Setting
    less: Setting

    def __str__(self) -> str:
        return f"{self.of} - {self.less}"


def contrasts(table: str) -> list[Contrast]:
    """The differences that a published table is about: from the lowest rank of a target, then from q and v."""
    rows = lora_paper(table)
    pairs = zip(rows["target"], rows["rank"], strict=True)
    settings = list(dict.fromkeys(Setting(target, rank) for target, rank in pairs))
    lowest = {one.target: min((it for it in settings if it.target == one.target), key=_rank) for one in settings}
    from_lowest = [Contrast(one, lowest[one.target]) for one in settings]
    from_base = [Contrast(one, base) for one in settings for base in settings if _is_base(base, one, settings)]
    return [one for one in [*from_lowest, *from_base] if one.of != one.less]


def _rank(setting: Setting) -> int:
    return setting.rank


def _is_base(base: Setting, one: Setting, settings: list[Setting]) -> bool:
    """Whether a setting is that of q and v to which another is compared: of its rank, or the only one."""
    ranks = [setting.rank for setting in settings if setting.target == BASE_TARGET]
    return base.target == BASE_TARGET and base.rank == (one.rank if one.rank in ranks else ranks[0])


def beside_paper(study: Study, table: str) -> Table | None:
    """Our differences with their intervals, beside the paper's, in points; None where we have none of them.

    Args:
        study: Comparable cells.
        table: The paper's, "5" or "6".
    """
    asked = contrasts(table)
    titles = {setting.title for one in asked for setting in (one.of, one.less)}
    scored = study.cells[study.cells["report_score"].notna() & study.cells["title"].isin(titles)]
    ours = {
        str(task): {str(one): shown for one in asked if (shown := _ours(study, cells, one)) is not None}
        for task, cells in scored.groupby("task", sort=False)
    }
    ours = {task: values for task, values in ours.items() if values}
    if not ours:
        return None
    names = [str(one) for one in asked]
    paper = dict(_published(table, asked))
    columns = {f"{task}, ours": [values.get(name, DASH) for name in names] for task, values in ours.items()}
    columns |= {f"{task}, the paper's": [values.get(name, DASH) for name in names] for task, values in paper.items()}
    body = pd.DataFrame({COLUMN: names, **columns}, dtype=object)
    (model,) = scored["model"].unique()
    title = f"Differences in points: {model} beside GPT-3 of the LoRA paper's table {table}"
    return Table("differences", title, body, [f"{title}.", *_notes(scored)], [COLUMN])


def _ours(study: Study, cells: pd.DataFrame, contrast: Contrast) -> str | None:
    """Our difference with its interval; None where a cell has no score."""
    rows = [cells[cells["title"] == one.title] for one in (contrast.of, contrast.less)]
    if any(found.empty for found in rows):
        return None
    found = difference(study, *(found.iloc[0] for found in rows))
    return _shown(found)


def _shown(found: Difference) -> str:
    """A difference in points, with the 95% interval where there is one."""
    if found.interval is None:
        return f"{100 * found.score:+.1f}"
    low, high = (100 * edge for edge in found.interval)
    return f"{100 * found.score:+.1f} ({low:.1f} to {high:.1f})"


def _published(table: str, asked: list[Contrast]) -> Iterator[tuple[str, dict[str, str]]]:
    """The paper's differences by task. The spread of a difference is that of two values."""
    for task, rows in lora_paper(table).groupby("task", sort=False):
        known: dict[tuple[str, int], Any] = {(row["target"], row["rank"]): row for _, row in rows.iterrows()}
        values = {}
        for one in asked:
            of, less = (known[setting.target, setting.rank] for setting in (one.of, one.less))
            spread = math.hypot(of["spread"], less["spread"])
            values[str(one)] = f"{of['value'] - less['value']:+.1f} +- {text(spread, '{:.1f}')}"
        yield str(task), values


def _notes(cells: pd.DataFrame) -> list[str]:
    tested = int((cells["seeds"] > 1).sum())
    ours = "Ours: difference of mean scores in points, with a 95% interval over examples and seeds"
    single = "; with one seed, over examples alone" if tested < len(cells) else ""
    untuned = ["No interval where a cell's learning rate was not tuned."] if not is_tuned(cells).all() else []
    return [
        f"{ours}, which holds for all pairs of our table together{single}.",
        *untuned,
        "The paper's: difference of the printed values +- the spread over seeds of two values.",
    ]
