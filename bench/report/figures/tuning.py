"""Figures about chance: the gain from trying more learning rates, and whether methods differ over tasks."""

import pandas as pd
import plotly.graph_objects as go

from bench.report.figures.layout import blank, style_of
from bench.report.record_frame import Study
from bench.report.stats.bootstrap import expected_best, ranks
from bench.report.stats.ties import judged

FEWEST_TASKS, FEWEST_METHODS = 5, 3  # needed for a critical difference


def expected_score(study: Study) -> go.Figure | None:
    """Plot the expected best score on select against the number of learning rates tried.

    Args:
        study: Comparable cells.

    Returns:
        The figure; None if no cell has scores at two rates. Source: Dodge et al. 2019, arXiv:1909.03004.
    """
    trials = study.trials[study.trials["select"].notna() & study.trials["lr"].notna()]
    figure, lines = blank(study, "learning rates tried", study.cells, part="select"), 0
    for _, cell in study.cells.iterrows():
        scores = trials[trials["cell"] == cell["cell"]].groupby("lr")["select"].mean().tolist()
        if len(scores) > 1:
            lines += 1
            tried = list(range(1, len(scores) + 1))
            expected = [100 * expected_best(scores, count)[0] for count in tried]
            figure.add_trace(
                go.Scatter(x=tried, y=expected, name=cell["title"], **style_of(study, cell["method"], "lines+markers"))
            )
    figure.update_xaxes(dtick=1)
    return figure if lines else None


def critical_difference(study: Study) -> go.Figure | None:
    """Plot the mean ranks of tuned cells over tasks, with the critical difference.

    Args:
        study: Comparable cells of one model.

    Returns:
        The figure; None if there are fewer than FEWEST_TASKS tasks, or fewer than FEWEST_METHODS cells with a score on
        all of them. Source: Demsar 2006.
    """
    scores = judged(study.cells).pivot_table(index="task", columns="title", values="report_score").dropna(axis=1)
    if len(scores) < FEWEST_TASKS or scores.shape[1] < FEWEST_METHODS:
        return None
    ranking = ranks(scores)
    figure = blank(
        study, f"mean rank over {len(scores)} tasks (1 is best; Friedman p = {ranking.p:.2g})", study.cells, axis=""
    )
    methods = study.cells.drop_duplicates("title").set_index("title")["method"]
    order = pd.Series(ranking.mean, index=ranking.methods).sort_values(ascending=False)
    for title, mean in order.items():
        style = style_of(study, str(methods[str(title)]), "markers")
        figure.add_trace(go.Scatter(x=[mean], y=[str(title)], showlegend=False, **style))
    best = float(order.min())
    line = {"color": "#555555", "width": 4}
    label = f"not significantly different from the best (critical difference {ranking.critical_difference:.2f})"
    figure.add_trace(
        go.Scatter(
            x=[best, best + ranking.critical_difference], y=[order.index[-1]] * 2, mode="lines", line=line, name=label
        )
    )
    figure.update_layout(legend={"orientation": "h", "y": 1.08, "x": 0})
    return figure
