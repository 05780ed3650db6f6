"""Two cells compared: the difference with its interval, what chance says of it, and what either costs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.report.cells import cells_of
from bench.report.flags import FLAGS, listed
from bench.report.record_frame import Study
from bench.report.rerun import tuning_command
from bench.report.stats.pairwise import Difference
from bench.report.stats.ties import ONE_SEED, pairs_in
from bench.report.stats.variances import LEVEL
from bench.report.tables.entries import tuning_texts
from bench.report.tables.notes import costs_elsewhere, mixture
from bench.report.tables.table import MIB, Table, metric_of, peak_of, ratio_text, score_text, text, timed
from bench.report.tuning import how_untuned, is_tuned

WORDS = ("what",)


def compare_cells(study: Study, one: str, other: str) -> tuple[str, Table]:
    """Two sentences and a small table, of cells by id, title or method. ValueError: they cannot be compared."""
    a, b = _pair(study, one, other)
    found = difference(study, a, b)
    members = {str(cell["cell"]): study.members[cell["cell"]] for cell in (a, b)}
    cells = cells_of(members).set_index("cell", drop=False).loc[list(members)]  # costs of one machine, of these two
    notes = [*costs_elsewhere(cells), *mixture([record for some in members.values() for record in some])]
    said = " ".join([_score_sentence(a, b, found), *flag_sentences(a), *flag_sentences(b), _cost_sentence(cells)])
    return "\n".join([said, *_no_verdict(study, [a, b])]), _table(cells, notes)


def difference(study: Study, a: "pd.Series[Any]", b: "pd.Series[Any]") -> Difference:
    """The difference of two scored cells of one table; interval and p-value hold for all pairs of that table."""
    pairs = pairs_in(study, a["table"])
    if pairs is None or not {a["cell"], b["cell"]} <= set(pairs.names):
        return Difference(float(a["report_score"] - b["report_score"]), None, None)
    return pairs.between(a["cell"], b["cell"])


def _pair(study: Study, one: str, other: str) -> tuple["pd.Series[Any]", "pd.Series[Any]"]:
    """The best pair of cells by select that stand in one table; a tuned pair goes before any other."""
    scored = study.cells[study.cells["report_score"].notna()].assign(tuned=is_tuned)
    left, right = (_named(study, scored, name) for name in (one, other))
    both = left.merge(right, on="table", suffixes=("", "_other"))
    both = both[both["cell"] != both["cell_other"]]
    if both.empty:
        raise ValueError(
            f"a={one} and b={other} stand in no table together: they differ in model, task, data or protocol, or are "
            "one cell; 'python -m bench.report' shows what may be compared"
        )
    both = both.assign(both=both["select_score"] + both["select_score_other"], able=both["tuned"] & both["tuned_other"])
    best = both.sort_values(["able", "both"]).iloc[-1]
    by_id = scored.set_index("cell", drop=False)
    return by_id.loc[best["cell"]], by_id.loc[best["cell_other"]]


def _named(study: Study, scored: pd.DataFrame, name: str) -> pd.DataFrame:
    for key in ("cell", "title", "method"):
        if (found := scored[scored[key] == name]).size:
            return found
    known = ", ".join(sorted(study.cells["method"].unique())[:12])
    unscored = any((study.cells[key] == name).any() for key in ("cell", "title", "method"))
    why = "has no score" if unscored else "is no cell's id, title or method"
    raise ValueError(f"{name!r} {why}; methods here: {known}; the tables' last column has the ids")


def _score_sentence(a: "pd.Series[Any]", b: "pd.Series[Any]", found: Difference) -> str:
    ahead, behind = (a, b) if found.score >= 0 else (b, a)
    size = f"{100 * abs(found.score):.1f} points"
    lead = f"{ahead['title']} is ahead of {behind['title']} by {size} on {a['task']} ({a['model']}"
    if any(how_untuned(one["tuning"], one["rates"]) for one in (a, b)):
        return f"{lead})."
    if found.interval is None:
        return f"{lead}); the records hold no right answers, so the difference cannot be tested."
    low, high = sorted(100 * (edge if found.score >= 0 else -edge) for edge in found.interval)
    span = f"95% interval {low:.1f} to {high:.1f}"
    if found.p is None:
        return f"{lead}; {span} over examples, for these trained models only); {ONE_SEED}."
    family = f"; both hold for all pairs of the table's {found.cells} cells together" if found.cells > 2 else ""
    return f"{lead}; {span}, {p_text(found)}{family}): {verdict(found)}."


def _no_verdict(study: Study, pair: Sequence["pd.Series[Any]"]) -> list[str]:
    """Why two cells have no verdict, with the command that tunes what is not tuned; empty where they may have one."""
    untuned = [(one, how) for one in pair if (how := how_untuned(one["tuning"], one["rates"]))]
    if not untuned:
        return []
    ways = " and ".join(f"{one['title']} was trained {how}" for one, how in untuned)
    commands = dict.fromkeys(tuning_command(study.members[one["cell"]]) for one, _ in untuned)
    return [f"No verdict: {ways}, so the difference may be one of learning rates. To tune:  {' && '.join(commands)}"]


def flag_sentences(row: "pd.Series[Any]") -> list[str]:
    """What the flags of a cell mean, in words."""
    return [f"{row['title']} is flagged {flag}: {FLAGS[flag]}." for flag in listed(row["flags"])]


def p_text(found: Difference) -> str:
    """The p-value of a tested difference."""
    return "p < 0.001" if found.p is not None and found.p < 0.001 else f"p = {found.p:.2g}"


def verdict(found: Difference) -> str:
    """What a test says, in words: the same as the marks in the tables."""
    apart = found.p is not None and found.p <= LEVEL
    return "the difference is significant" if apart else "they cannot be told apart"


def _cost_sentence(cells: pd.DataFrame) -> str:
    (_, a), (_, b) = cells.iterrows()
    _, peak = peak_of(cells)
    pairs = {
        "the trained parameters": (a["trainable_params"], b["trainable_params"]),
        "the peak memory": tuple(peak),
    }
    if not cells["contended"].any():
        pairs["the time per step"] = (a["step_seconds_median"], b["step_seconds_median"])
    known = [f"{ratio_text(x / y)} times {name}" for name, (x, y) in pairs.items() if pd.notna(x) and pd.notna(y) and y]
    if not known:
        return "Their costs cannot be compared: see the table."
    listed = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
    return f"{a['title']} takes {listed} of {b['title']}."


def _table(cells: pd.DataFrame, notes: Sequence[str]) -> Table:
    name, peak = peak_of(cells)
    rows: dict[str, list[str]] = {
        f"{metric_of(cells).replace('_', ' ')} %": [str(score_text(row)) for row in cells.to_dict("records")],
        "trainable": [text(value, "{:,.0f}") for value in cells["trainable_params"]],
        name: [text(value, "{:,.0f}") for value in peak],
        "samples/s": list(timed(cells, "samples_per_second", "{:,.0f}")),
        "s/step": list(timed(cells, "step_seconds_median", "{:.3f}")),
        "adapter MiB": [text(value, "{:,.2f}") for value in cells["adapter_bytes"] / MIB],
        "lr": [text(value, "{:g}") for value in cells["lr"]],
        "tuning": list(tuning_texts(cells)),
        "cell": list(cells["cell"]),
    }
    titles = list(cells["title"])
    if titles[0] == titles[1]:
        titles = [f"{title} ({cell})" for title, cell in zip(titles, cells["cell"], strict=True)]
    body = pd.DataFrame([{"what": what, **dict(zip(titles, row, strict=True))} for what, row in rows.items()])
    return Table("compare", f"{titles[0]} and {titles[1]}", body, notes, WORDS)
