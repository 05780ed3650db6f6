"""The figures, drawn by plotly and listed in FIGURES and OVER_TASKS.

Each is a function of a study of comparable cells. It returns None if there is nothing to draw.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.report.cells import MEMORY
from bench.report.figures.layout import blank, style_of
from bench.report.figures.learning_rates import learning_rates
from bench.report.figures.styles import COLOURS
from bench.report.figures.tuning import critical_difference, expected_score
from bench.report.record_frame import Study
from bench.report.stats.pareto import front
from bench.report.stats.ties import intervals_of, judged
from bench.report.tables.table import MIB, peak_of


def score_by_parameters(study: Study) -> go.Figure | None:
    """Plot the score against the trained parameters, on a logarithmic axis."""
    return _against(study, study.cells["trainable_params"], "trained parameters", log=True)


def score_by_memory(study: Study) -> go.Figure | None:
    """Plot the score against peak memory."""
    name, peak = peak_of(study.cells)
    return _against(study, peak, name, log=False)


def score_by_time(study: Study) -> go.Figure | None:
    """Plot the score against the seconds of one training alone, at the speed of the probe."""
    known = study.cells["train_seconds"].mask(study.cells["contended"])  # disturbed times must not win
    return _against(study, known, "seconds of one training alone", log=False)


def score_by_rank(study: Study) -> go.Figure | None:
    """Plot the score against the rank, with one line per method and target."""
    ranked = study.cells[study.cells["rank"].notna() & study.cells["report_score"].notna()]
    figure, lines = blank(study, "rank", ranked), 0
    for (method, target), group in ranked.groupby(["method", "target"], dropna=False):
        if len(group) > 1:
            lines += 1
            dash = ["solid", "dash", "dot", "dashdot"][lines % 4]
            name = " ".join(str(part) for part in (method, target) if isinstance(part, str))
            figure.add_trace(
                _points(study, group, group["rank"], str(method), name, mode="lines+markers", line={"dash": dash})
            )
    figure.update_xaxes(
        type="log",
        tickvals=sorted(ranked["rank"].unique()),
        ticktext=[str(rank) for rank in sorted(ranked["rank"].unique())],
    )
    return figure if lines else None


def curves(study: Study) -> go.Figure | None:
    """Plot the training loss of every cell at its chosen learning rate, with one smoothed line per seed."""
    figure, lines = blank(study, "step", study.cells, axis="loss"), 0
    for _, cell in study.cells.iterrows():
        chosen = [
            record
            for record in study.members[cell["cell"]]
            if record.trial and record.curve and record.trial["lr"] == cell["lr"]
        ]
        for record in chosen:
            lines += 1
            first = record is chosen[0]
            curve = record.curve or {}
            smooth = pd.Series(curve["loss"]).rolling(max(1, len(curve["loss"]) // 15), min_periods=1).mean()
            figure.add_trace(
                go.Scatter(
                    x=curve["step"],
                    y=smooth,
                    name=cell["title"],
                    legendgroup=cell["title"],
                    showlegend=first,
                    **style_of(study, cell["method"], "lines"),
                )
            )
    return figure if lines else None


def memory(study: Study) -> go.Figure | None:
    """Plot what takes up the memory of a training step, in MiB, as stacked bars."""
    measured = study.cells[study.cells["memory_weights"].notna()]
    figure = blank(study, "", measured, axis="MiB")
    for part, colour in zip(MEMORY, COLOURS, strict=False):
        sizes = measured[f"memory_{part}"] / MIB
        figure.add_trace(go.Bar(x=measured["title"], y=sizes, name=part, marker={"color": colour}))
    figure.update_layout(barmode="stack")
    return figure if len(measured) else None


def seeds(study: Study) -> go.Figure | None:
    """Plot the score of every seed at the chosen learning rate, as dots."""
    figure, dots = blank(study, "", study.cells), 0
    for _, cell in study.cells[study.cells["report_score"].notna()].iterrows():
        trials = study.trials[(study.trials["cell"] == cell["cell"]) & study.trials["report"].notna()]
        shown = trials if pd.isna(cell["lr"]) else trials[trials["lr"] == cell["lr"]]
        dots += len(shown)
        figure.add_trace(
            go.Scatter(
                x=[cell["title"]] * len(shown),
                y=100 * shown["report"],
                showlegend=False,
                **style_of(study, cell["method"], "markers"),
            )
        )
    return figure if dots else None


FIGURES: dict[str, Callable[[Study], go.Figure | None]] = {
    "score_by_parameters": score_by_parameters,
    "score_by_memory": score_by_memory,
    "score_by_time": score_by_time,
    "score_by_rank": score_by_rank,
    "learning_rates": learning_rates,
    "expected_score": expected_score,
    "curves": curves,
    "memory": memory,
    "seeds": seeds,
}
OVER_TASKS: dict[str, Callable[[Study], go.Figure | None]] = {"critical_difference": critical_difference}


def _against(study: Study, cost: "pd.Series[Any]", name: str, *, log: bool) -> go.Figure | None:
    """Plot the score against a cost, with 95% intervals, and the Pareto front of the tuned cells as a line."""
    cells = study.cells.assign(cost=cost.astype(float))
    cells = cells[cells["cost"].notna() & cells["report_score"].notna()]
    if len(cells) < 2:
        return None
    figure = blank(study, name, cells)
    tuned = judged(cells)
    best = tuned[front(tuned, "cost")].sort_values("cost")
    line = {"color": "#999999", "shape": "hv", "width": 1}
    if len(best):
        figure.add_trace(
            go.Scatter(x=best["cost"], y=100 * best["report_score"], mode="lines", line=line, name="Pareto front")
        )
    for method, group in cells.groupby("method"):
        figure.add_trace(_points(study, group, group["cost"], str(method), str(method), mode="markers"))
    if log:
        figure.update_xaxes(type="log", dtick=1)  # a label for each power of ten
    return figure


def _points(
    study: Study,
    group: pd.DataFrame,
    x: "pd.Series[Any]",
    method: str,
    name: str,
    *,
    mode: str,
    line: Mapping[str, Any] | None = None,
) -> go.Scatter:
    """Return a trace of the scores with their 95% intervals, in the look of a method."""
    known = intervals_of(study, group)
    spans = [known.get(cell) for cell in group["cell"]]
    scores = 100 * group["report_score"]
    above = [0.0 if span is None else 100 * span[1] - score for span, score in zip(spans, scores, strict=True)]
    below = [0.0 if span is None else score - 100 * span[0] for span, score in zip(spans, scores, strict=True)]
    error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1}
    style = style_of(study, method, mode)
    style["line"] = style["line"] | dict(line or {})
    return go.Scatter(x=x, y=scores, error_y=error, name=name, text=group["title"], **style)
