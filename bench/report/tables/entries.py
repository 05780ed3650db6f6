"""Show cells as text: columns that identify them and columns with their values, row by row or by rank."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report.cells import TIMED
from bench.report.record_frame import Study
from bench.report.stats.ties import standings
from bench.report.tables.notes import notes_of
from bench.report.tables.table import CONTENDED, DASH, Entry, Table, metric_of, score_text, text, what_went_wrong
from bench.report.tuning import tuning_text

SCORE = "report_score"
SHORT = ("method", "rank", "target")
MORE = ("scale", "base", "optim", "checkpointing")
TASK, METRIC = "task", "metric"
WORDS = (*SHORT[::2], *MORE, TASK, METRIC, "model", "cell", "outcome", "error", "trial", "tuning", "flags")


def pivoted(name: str, study: Study, cells: pd.DataFrame, rows: Sequence[str], metric: str) -> Table:
    """Build a table with one column per rank.

    Args:
        name: Name of the table on the command line.
        study: Comparable cells.
        cells: The cells to show.
        rows: Columns that identify a row. Settings in which the cells differ are added.
        metric: Column of the frame of cells to show.
    """
    rows, verdicts = [*rows, *varying(cells), *several_metrics(cells)], standings(study, cells)
    body = []
    for key, group in alike(with_plain_metric(cells), rows).items():
        by_rank = {f"r={cell['rank']}": shown(cell, metric, verdicts, counted=False) for cell in group}
        body.append(dict(zip(rows, key, strict=True)) | by_rank)
    ranks = [f"r={rank}" for rank in sorted(cells["rank"].unique())]
    return table_of(name, study, cells, pd.DataFrame(body, columns=[*rows, *ranks], dtype=object).fillna(DASH))


def alike(cells: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], list[Mapping[Any, Any]]]:
    """Group cells by some columns.

    Args:
        cells: One row per cell.
        keys: Columns to group by.

    Returns:
        The cells of each group, by their formatted values in these columns. Groups and cells keep their order.
    """
    groups: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    for cell in cells.to_dict("records"):
        groups[tuple(value_name(cell[key]) for key in keys)].append(cell)
    return groups


def who(cells: pd.DataFrame, *, scored: bool = True) -> dict[str, Any]:
    """Return the columns that identify the cells.

    The task is among them if there are several tasks, and the metric if the tasks use different metrics.

    Args:
        cells: One row per cell.
        scored: Whether the table shows scores. If not, the metric is left out.
    """
    columns = [*([TASK] if len(cells[TASK].unique()) > 1 else []), *SHORT]
    columns += [name for name in MORE if cells[name].notna().any()]
    columns += several_metrics(cells) if scored else []
    readable = with_plain_metric(cells)
    return {name: readable[name].map(value_name) for name in columns}


def tuning_column(cells: pd.DataFrame) -> dict[str, Any]:
    """Return a column that says how the rates were found; none if all cells agree."""
    texts = tuning_texts(cells)
    return {"tuning": texts} if len(texts.unique()) > 1 else {}


def tuning_texts(cells: pd.DataFrame) -> "pd.Series[Any]":
    """Describe how the rate of each cell was found."""
    pairs = zip(cells["tuning"], cells["rates"], strict=True)
    return pd.Series([tuning_text(*pair) for pair in pairs], cells.index, dtype=object)


def flags_column(cells: pd.DataFrame) -> dict[str, Any]:
    """Return a column with the flags of each cell; none if no cell has a flag."""
    return {"flags": cells["flags"].map(text)} if cells["flags"].notna().any() else {}


def with_plain_metric(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with readable metric names: spaces instead of underscores."""
    return cells.assign(metric=cells[METRIC].str.replace("_", " "))


def varying(cells: pd.DataFrame) -> list[str]:
    """Return the settings in MORE in which the cells differ."""
    return [name for name in MORE if len(cells[name].fillna("").unique()) > 1]


def several_metrics(cells: pd.DataFrame) -> list[str]:
    """Return the name of the metric column if the cells use different metrics, else nothing."""
    return [METRIC] if len(cells[METRIC].dropna().unique()) > 1 else []


def value_name(value: Any) -> str:
    """Format a setting: a dash for a missing value, `yes` for True, whole numbers without a decimal point."""
    return text(value).replace("True", "yes").removesuffix(".0")


def head_of(cells: pd.DataFrame, metric: str) -> str:
    """Return the heading of a metric's column. Scores are headed by the name of their metric, in percent."""
    return f"{metric_of(cells).replace('_', ' ')} %" if metric == SCORE else metric.replace("_", " ")


def column(cells: pd.DataFrame, metric: str, verdicts: dict[str, str]) -> "pd.Series[Any]":
    """Format a metric of each cell.

    Args:
        cells: One row per cell.
        metric: Column of the frame of cells to show.
        verdicts: BEST or TIED by cell id.
    """
    entries = [shown(row, metric, verdicts) for row in cells.to_dict("records")]
    return pd.Series(entries, index=cells.index, dtype=object)  # pandas' text type would drop the standing of an Entry


def shown(row: Mapping[Any, Any], metric: str, verdicts: dict[str, str], *, counted: bool = True) -> Entry | str:
    """Format a metric of one cell.

    Args:
        row: The cell.
        metric: Column of the frame of cells to show.
        verdicts: BEST or TIED by cell id.
        counted: Whether a score shows its number of seeds.
    """
    if metric == SCORE:
        return score_text(row, verdicts.get(row["cell"], ""), counted=counted)
    if pd.isna(row[metric]):
        return what_went_wrong(row["outcome"])
    marked = CONTENDED if metric in TIMED and row["contended"] else ""
    return f"{marked}{number_text(row[metric], metric)}"


def number_text(value: float, metric: str) -> str:
    """Format the value of a metric; scores are in percent."""
    if metric in {SCORE, "select_score", "report_std"}:
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def span_text(span: tuple[float, float] | float) -> str:
    """Format an interval in percent; a dash if it is unknown."""
    return f"{100 * span[0]:.1f} to {100 * span[1]:.1f}" if isinstance(span, tuple) else DASH


def title_of(study: Study, cells: pd.DataFrame) -> str:
    """Return the title of a table: the models of the study and the tasks of the cells shown."""
    return f"{', '.join(study.cells['model'].unique())} on {', '.join(cells['task'].unique())}"


def table_of(name: str, study: Study, cells: pd.DataFrame, body: pd.DataFrame) -> Table:
    """Build a table with its title and notes.

    Args:
        name: Name of the table on the command line.
        study: Comparable cells.
        cells: The cells shown.
        body: The entries as text.
    """
    notes = notes_of(study, cells, rates="lr" not in body, flags="flags" not in body)
    return Table(name, title_of(study, cells), body, notes, WORDS)
