"""Compare two cells: the difference with its interval, its significance, and the costs."""

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


def compare_cells(study: Study, first: str, second: str) -> tuple[str, Table]:
    """Compare two cells in a few sentences and a small table.

    Args:
        study: The cells.
        first: A cell, by id, title or method.
        second: Another cell, likewise.

    Returns:
        The sentences, and the table with one column per cell.

    Raises:
        ValueError: A cell is unknown or has no score, or the two share no table.
    """
    a, b = _pair(study, first, second)
    tested = difference(study, a, b)
    members = {str(cell["cell"]): study.members[cell["cell"]] for cell in (a, b)}
    # Built anew for these two, so that their costs come from one machine.
    cells = cells_of(members).set_index("cell", drop=False).loc[list(members)]
    notes = [*costs_elsewhere(cells), *mixture([record for records in members.values() for record in records])]
    sentences = [_score_sentence(a, b, tested), *flag_sentences(a), *flag_sentences(b), _cost_sentence(cells)]
    return "\n".join([" ".join(sentences), *_no_verdict(study, [a, b])]), _table(cells, notes)


def difference(study: Study, a: "pd.Series[Any]", b: "pd.Series[Any]") -> Difference:
    """Return the difference in score between two cells of the same table.

    Args:
        study: The study that holds the whole table.
        a: Row of the first cell, with a score.
        b: Row of the second cell, with a score.

    Returns:
        The score of `a` minus that of `b`. Interval and p-value hold for all pairs of the table together; they are
        None if the two cells cannot be tested.
    """
    pairs = pairs_in(study, a["table"])
    if pairs is None or not {a["cell"], b["cell"]} <= set(pairs.names):
        return Difference(float(a["report_score"] - b["report_score"]), None, None)
    return pairs.between(a["cell"], b["cell"])


def _pair(study: Study, name_a: str, name_b: str) -> tuple["pd.Series[Any]", "pd.Series[Any]"]:
    """Return the pair of matching cells of one table with the best scores on select. Tuned pairs come first."""
    scored = study.cells[study.cells["report_score"].notna()].assign(tuned=is_tuned)
    left, right = (_matching(study, scored, name) for name in (name_a, name_b))
    pairs = left.merge(right, on="table", suffixes=("", "_other"))
    pairs = pairs[pairs["cell"] != pairs["cell_other"]]
    if pairs.empty:
        raise ValueError(
            f"a={name_a} and b={name_b} share no table: they differ in model, task, data or protocol, or are the same "
            "cell; 'python -m bench.report' shows which cells may be compared"
        )
    total = pairs["select_score"] + pairs["select_score_other"]
    pairs = pairs.assign(total=total, both_tuned=pairs["tuned"] & pairs["tuned_other"])
    best = pairs.sort_values(["both_tuned", "total"]).iloc[-1]
    by_id = scored.set_index("cell", drop=False)
    return by_id.loc[best["cell"]], by_id.loc[best["cell_other"]]


def _matching(study: Study, scored: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the scored cells with this id, else with this title, else of this method. ValueError if there are none."""
    for key in ("cell", "title", "method"):
        if (matching := scored[scored[key] == name]).size:
            return matching
    known = ", ".join(sorted(study.cells["method"].unique())[:12])
    unscored = any((study.cells[key] == name).any() for key in ("cell", "title", "method"))
    why = "has no score" if unscored else "is not the id, title or method of any cell"
    raise ValueError(f"{name!r} {why}; methods here: {known}; ids are in the last column of the tables")


def _score_sentence(a: "pd.Series[Any]", b: "pd.Series[Any]", tested: Difference) -> str:
    ahead, behind = (a, b) if tested.score >= 0 else (b, a)
    size = f"{100 * abs(tested.score):.1f} points"
    lead = f"{ahead['title']} is ahead of {behind['title']} by {size} on {a['task']} ({a['model']}"
    if any(how_untuned(cell["tuning"], cell["rates"]) for cell in (a, b)):
        return f"{lead})."
    if tested.interval is None:
        return f"{lead}); the records hold no right answers, so the difference cannot be tested."
    low, high = sorted(100 * (edge if tested.score >= 0 else -edge) for edge in tested.interval)
    span = f"95% interval {low:.1f} to {high:.1f}"
    if tested.p is None:
        return f"{lead}; {span} over examples, for these trained models only); {ONE_SEED}."
    family = f"; both hold for all pairs of the table's {tested.cells} cells together" if tested.cells > 2 else ""
    return f"{lead}; {span}, {p_text(tested)}{family}): {verdict(tested)}."


def _no_verdict(study: Study, pair: Sequence["pd.Series[Any]"]) -> list[str]:
    """Explain why two cells have no verdict, with the commands that tune them; empty if both are tuned."""
    untuned = [(cell, how) for cell in pair if (how := how_untuned(cell["tuning"], cell["rates"]))]
    if not untuned:
        return []
    ways = " and ".join(f"{cell['title']} was trained {how}" for cell, how in untuned)
    commands = dict.fromkeys(tuning_command(study.members[cell["cell"]]) for cell, _ in untuned)
    return [
        f"No verdict: {ways}, so the difference may come from the learning rates. To tune:  {' && '.join(commands)}"
    ]


def flag_sentences(row: "pd.Series[Any]") -> list[str]:
    """Explain each flag of a cell in a sentence."""
    return [f"{row['title']} is flagged {flag}: {FLAGS[flag]}." for flag in listed(row["flags"])]


def p_text(tested: Difference) -> str:
    """Format the p-value of a tested difference, such as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if tested.p is not None and tested.p < 0.001 else f"p = {tested.p:.2g}"


def verdict(tested: Difference) -> str:
    """Return the verdict of a test in words. It agrees with the marks in the tables."""
    significant = tested.p is not None and tested.p <= LEVEL
    return "the difference is significant" if significant else "they cannot be distinguished"


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
    ratios = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
    return f"{a['title']} takes {ratios} of {b['title']}."


def _table(cells: pd.DataFrame, notes: Sequence[str]) -> Table:
    peak_name, peak = peak_of(cells)
    rows: dict[str, list[str]] = {
        f"{metric_of(cells).replace('_', ' ')} %": [str(score_text(row)) for row in cells.to_dict("records")],
        "trainable": [text(value, "{:,.0f}") for value in cells["trainable_params"]],
        peak_name: [text(value, "{:,.0f}") for value in peak],
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
    body = pd.DataFrame([{"what": what, **dict(zip(titles, values, strict=True))} for what, values in rows.items()])
    return Table("compare", f"{titles[0]} and {titles[1]}", body, notes, WORDS)
