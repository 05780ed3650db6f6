"""The figure of learning rates: how much the choice of a rate matters, and where the best rate lies."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from bench.report.figures.layout import blank, style_of
from bench.report.record_frame import Study
from bench.report.tuning import race_of

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SCALE = "Viridis"  # for ranks, which are ordered; methods have the colours of styles.py
BRIGHTEST = 0.85  # end of the range used, from 0 to 1: the rest of the scale is too pale on white


def learning_rates(study: Study) -> go.Figure | None:
    """Plot the mean score on select against the learning rate.

    Args:
        study: Comparable cells.

    Returns:
        The figure. If every cell has one rate, it shows the lowest losses of the races. None if there are too few
        rates to draw.
    """
    trials = study.trials[study.trials["select"].notna() & study.trials["lr"].notna()]
    several = trials.groupby("cell")["lr"].nunique()
    if (several > 1).any():
        figure = _scores(study, trials[trials["cell"].isin(several.index[several > 1])])
    else:
        figure = _races(study)
    if figure is not None:
        figure.update_xaxes(type="log", dtick=1, exponentformat="e")
    return figure


def _scores(study: Study, trials: pd.DataFrame) -> go.Figure:
    """Plot the mean score over seeds by learning rate, with the standard deviation as error bars."""
    figure = blank(study, "learning rate", study.cells, part="select")
    styles = _styles(study)
    for _, cell in study.cells[study.cells["cell"].isin(trials["cell"])].iterrows():
        by_rate = trials[trials["cell"] == cell["cell"]].groupby("lr")["select"].agg(["mean", "std"])
        spread = {"type": "data", "array": (100 * by_rate["std"]).fillna(0)}
        figure.add_trace(
            go.Scatter(
                x=by_rate.index, y=100 * by_rate["mean"], error_y=spread, name=cell["title"], **styles[cell["cell"]]
            )
        )
    return figure


def _races(study: Study) -> go.Figure | None:
    """Plot the lowest losses of each race as a line. Open markers are candidates that were dropped early."""
    figure = blank(study, "learning rate", study.cells, axis="lowest loss on select (open: dropped early)")
    styles, lines = _styles(study), 0
    for _, cell in study.cells.iterrows():
        race = race_of(study.members[cell["cell"]])
        candidates = (race.race or {})["candidates"] if race else []
        known = [candidate for candidate in candidates if candidate["lowest"] is not None]
        if len(known) < 2:
            continue
        lines += 1
        style = styles[cell["cell"]]
        symbol = style["marker"]["symbol"]
        symbols = [f"{symbol}{'-open' * (candidate['outcome'] != 'finished')}" for candidate in known]
        points: dict[str, Any] = {
            "x": [candidate["lr"] for candidate in known],
            "y": [candidate["lowest"] for candidate in known],
        }
        marker = {**style["marker"], "symbol": symbols}
        figure.add_trace(go.Scatter(**points, name=cell["title"], **{**style, "marker": marker}))
    return figure if lines else None


def _styles(study: Study) -> Mapping[str, dict[str, Any]]:
    """Return the style of each cell, by id.

    It has its method's look, and a dash for its target. If the method has several ranks, the colour shows the rank.
    """
    styles = {}
    for method, group in study.cells.groupby("method"):
        ranks = sorted(group["rank"].dropna().unique())
        targets = list(group["target"].unique())
        for _, cell in group.iterrows():
            style = style_of(study, str(method), "lines+markers")
            if len(ranks) > 1 and pd.notna(cell["rank"]):
                colour = _colour(cell["rank"], ranks[0], ranks[-1])
                style["line"], style["marker"] = {"color": colour}, {**style["marker"], "color": colour}
            dash = DASHES[targets.index(cell["target"]) % len(DASHES)]
            styles[str(cell["cell"])] = style | {"line": {**style["line"], "dash": dash}}
    return styles


def _colour(rank: int, lowest: int, highest: int) -> str:
    """Return the colour of a rank: dark for low ranks and bright for high ones, by logarithm."""
    place = math.log(rank / lowest) / math.log(highest / lowest)
    (colour,) = sample_colorscale(SCALE, [BRIGHTEST * place])
    return str(colour)
