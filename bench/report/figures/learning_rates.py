"""The figure of learning rates: how much the choice of a rate matters, and where the best one lies."""

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
SCALE = "Viridis"  # of ranks, which have an order; methods have the colours of looks.py
BRIGHTEST = 0.85  # of the scale: its end is too pale on white


def learning_rates(study: Study) -> go.Figure | None:
    """Mean score on select by learning rate; where every cell has one rate, the lowest losses of the races."""
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
    """A line for each race; open marks: candidates that were dropped before the end."""
    figure = blank(study, "learning rate", study.cells, axis="lowest loss on select (open: dropped early)")
    styles, lines = _styles(study), 0
    for _, cell in study.cells.iterrows():
        race = race_of(study.members[cell["cell"]])
        known = [one for one in (race.race or {})["candidates"] if one["lowest"] is not None] if race else []
        if len(known) < 2:
            continue
        lines += 1
        style = styles[cell["cell"]]
        symbols = [f"{style['marker']['symbol']}{'-open' * (one['outcome'] != 'finished')}" for one in known]
        places: dict[str, Any] = {"x": [one["lr"] for one in known], "y": [one["lowest"] for one in known]}
        marker = {**style["marker"], "symbol": symbols}
        figure.add_trace(go.Scatter(**places, name=cell["title"], **{**style, "marker": marker}))
    return figure if lines else None


def _styles(study: Study) -> Mapping[str, dict[str, Any]]:
    """The look of each cell: its method's, in the colour of its rank where the method has several; dashed by target."""
    found = {}
    for method, group in study.cells.groupby("method"):
        ranks = sorted(group["rank"].dropna().unique())
        targets = list(group["target"].unique())
        for _, cell in group.iterrows():
            style = style_of(study, str(method), "lines+markers")
            if len(ranks) > 1 and pd.notna(cell["rank"]):
                colour = _colour(cell["rank"], ranks[0], ranks[-1])
                style["line"], style["marker"] = {"color": colour}, {**style["marker"], "color": colour}
            dash = DASHES[targets.index(cell["target"]) % len(DASHES)]
            found[str(cell["cell"])] = style | {"line": {**style["line"], "dash": dash}}
    return found


def _colour(rank: int, lowest: int, highest: int) -> str:
    """Dark for low ranks and bright for high ones, by their logarithm."""
    place = math.log(rank / lowest) / math.log(highest / lowest)
    (colour,) = sample_colorscale(SCALE, [BRIGHTEST * place])
    return str(colour)
