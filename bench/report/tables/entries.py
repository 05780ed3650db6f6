"""How cells are shown: who they are and what they score as texts, row by row or by rank."""

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


def pivoted(name: str, study: Study, found: pd.DataFrame, rows: Sequence[str], metric: str) -> Table:
    """Cells by rank."""
    rows, judged = [*rows, *varying(found), *several_metrics(found)], standings(study, found)
    body = []
    for key, cells in alike(with_plain_metric(found), rows).items():
        by_rank = {f"r={cell['rank']}": shown(cell, metric, judged, counted=False) for cell in cells}
        body.append(dict(zip(rows, key, strict=True)) | by_rank)
    ranks = [f"r={rank}" for rank in sorted(found["rank"].unique())]
    return table_of(name, study, found, pd.DataFrame(body, columns=[*rows, *ranks], dtype=object).fillna(DASH))


def alike(found: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], list[Mapping[Any, Any]]]:
    """The cells by what they have in common, as people read it; in their order."""
    groups: dict[tuple[str, ...], list[Mapping[Any, Any]]] = defaultdict(list)
    for cell in found.to_dict("records"):
        groups[tuple(value_name(cell[key]) for key in keys)].append(cell)
    return groups


def who(found: pd.DataFrame, *, scored: bool = True) -> dict[str, Any]:
    """Columns that name the cells: their task where there are several, and what it is scored by where that differs.

    scored: whether the table shows scores.
    """
    columns = [*([TASK] if len(found[TASK].unique()) > 1 else []), *SHORT]
    columns += [one for one in MORE if found[one].notna().any()]
    columns += several_metrics(found) if scored else []
    plain = with_plain_metric(found)
    return {name: plain[name].map(value_name) for name in columns}


def tuning_column(found: pd.DataFrame) -> dict[str, Any]:
    """How the rates were found, where the cells differ in it."""
    texts = tuning_texts(found)
    return {"tuning": texts} if len(texts.unique()) > 1 else {}


def tuning_texts(found: pd.DataFrame) -> "pd.Series[Any]":
    """How the rate of every cell was found."""
    pairs = zip(found["tuning"], found["rates"], strict=True)
    return pd.Series([tuning_text(*pair) for pair in pairs], found.index, dtype=object)


def flags_column(found: pd.DataFrame) -> dict[str, Any]:
    """The flags of every cell, where some cell has one."""
    return {"flags": found["flags"].map(text)} if found["flags"].notna().any() else {}


def with_plain_metric(found: pd.DataFrame) -> pd.DataFrame:
    """The cells with their metrics as people write them."""
    return found.assign(metric=found[METRIC].str.replace("_", " "))


def varying(found: pd.DataFrame) -> list[str]:
    return [name for name in MORE if len(found[name].fillna("").unique()) > 1]


def several_metrics(found: pd.DataFrame) -> list[str]:
    """The column that says what each cell is scored by, where tasks differ in it."""
    return [METRIC] if len(found[METRIC].dropna().unique()) > 1 else []


def value_name(value: Any) -> str:
    return text(value).replace("True", "yes").removesuffix(".0")


def head_of(found: pd.DataFrame, metric: str) -> str:
    return f"{metric_of(found).replace('_', ' ')} %" if metric == SCORE else metric.replace("_", " ")


def column(found: pd.DataFrame, metric: str, judged: dict[str, str]) -> "pd.Series[Any]":
    """The metric of every cell."""
    entries = [shown(row, metric, judged) for row in found.to_dict("records")]
    return pd.Series(entries, index=found.index, dtype=object)  # as text, pandas would forget who stands where


def shown(row: Mapping[Any, Any], metric: str, judged: dict[str, str], *, counted: bool = True) -> Entry | str:
    if metric == SCORE:
        return score_text(row, judged.get(row["cell"], ""), counted=counted)
    if pd.isna(row[metric]):
        return what_went_wrong(row["outcome"])
    marked = CONTENDED if metric in TIMED and row["contended"] else ""
    return f"{marked}{number_text(row[metric], metric)}"


def number_text(value: float, metric: str) -> str:
    if metric in {SCORE, "select_score", "report_std"}:
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def span_text(span: tuple[float, float] | float) -> str:
    """An interval in percent; a dash where it is not known."""
    return f"{100 * span[0]:.1f} to {100 * span[1]:.1f}" if isinstance(span, tuple) else DASH


def title_of(study: Study, found: pd.DataFrame) -> str:
    return f"{', '.join(study.cells['model'].unique())} on {', '.join(found['task'].unique())}"


def table_of(name: str, study: Study, found: pd.DataFrame, body: pd.DataFrame) -> Table:
    notes = notes_of(study, found, rates="lr" not in body, flags="flags" not in body)
    return Table(name, title_of(study, found), body, notes, WORDS)
