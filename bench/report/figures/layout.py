"""What all figures have in common: layout, looks, and how they become files."""

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.report.figures.styles import look_of
from bench.report.record_frame import Study
from bench.report.tables.table import metric_of

FORMS = ("svg", "png", "pdf", "html")
LAYOUT = {
    "template": "simple_white",
    "font": {"size": 14},
    "width": 800,
    "height": 520,
    "margin": {"l": 70, "r": 20, "t": 50, "b": 60},
}


def style_of(study: Study, method: str, mode: str) -> dict[str, Any]:
    """A method's look, as plotly wants it."""
    colour, mark = look_of(method, study.cells["method"])
    return {"mode": mode, "line": {"color": colour}, "marker": {"color": colour, "symbol": mark, "size": 9}}


def blank(study: Study, x: str, found: pd.DataFrame, part: str = "report", axis: str | None = None) -> go.Figure:
    """A figure with its title and axes. x, axis: their names; without `axis` it is the score on that part."""
    title = f"{', '.join(study.cells['model'].unique())} on {', '.join(study.cells['task'].unique())}"
    figure = go.Figure(layout=go.Layout(title=title, **LAYOUT))
    figure.update_xaxes(title=x, showgrid=True)
    figure.update_yaxes(title=axis or f"{metric_of(found).replace('_', ' ')} on {part}, %", showgrid=True)
    return figure


def write_figure(figure: go.Figure, path: Path, form: str) -> Path:
    """Write a figure; gives its path with the format's ending. ValueError: an unknown format, or no browser to draw."""
    if form not in FORMS:
        raise ValueError(f"format={form} is unknown; choose from {', '.join(FORMS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = path.with_name(f"{path.name}.{form}")
    if form == "html":
        figure.write_html(found, include_plotlyjs=True)
        return found
    try:
        figure.write_image(found, scale=2)
    except (RuntimeError, OSError) as error:  # Kaleido draws with a Chrome or Chromium
        why = str(error).strip().splitlines()[0]
        raise ValueError(f"format={form} needs Chrome or Chromium ({why}); use format=html") from error
    return found
