"""What all figures share: layout, style, and how they are written to files."""

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
    """Return a method's colour and marker as arguments of a plotly trace.

    Args:
        study: The study whose methods share the figure.
        method: One of its methods.
        mode: How plotly draws the trace, such as "lines+markers".

    Returns:
        The keys mode, line and marker.
    """
    colour, mark = look_of(method, study.cells["method"])
    return {"mode": mode, "line": {"color": colour}, "marker": {"color": colour, "symbol": mark, "size": 9}}


def blank(study: Study, x: str, cells: pd.DataFrame, part: str = "report", axis: str | None = None) -> go.Figure:
    """Create a figure with a title and axes, but no data.

    Args:
        study: The study, which names model and task in the title.
        x: Title of the horizontal axis.
        cells: The cells that are drawn, which name the metric.
        part: The part whose score is on the vertical axis, such as "select".
        axis: Title of the vertical axis, in place of the score.

    Returns:
        The figure.
    """
    title = f"{', '.join(study.cells['model'].unique())} on {', '.join(study.cells['task'].unique())}"
    figure = go.Figure(layout=go.Layout(title=title, **LAYOUT))
    figure.update_xaxes(title=x, showgrid=True)
    figure.update_yaxes(title=axis or f"{metric_of(cells).replace('_', ' ')} on {part}, %", showgrid=True)
    return figure


def write_figure(figure: go.Figure, path: Path, form: str) -> Path:
    """Write a figure to a file.

    Args:
        figure: The figure.
        path: The file, without an ending. Its folder is created.
        form: One of FORMS.

    Returns:
        The path with the ending of the format.

    Raises:
        ValueError: The format is unknown, or there is no browser to render an image with.
    """
    if form not in FORMS:
        raise ValueError(f"format={form} is unknown; choose from {', '.join(FORMS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.{form}")
    if form == "html":
        figure.write_html(file, include_plotlyjs=True)
        return file
    try:
        figure.write_image(file, scale=2)
    except (RuntimeError, OSError) as error:  # Kaleido renders images with Chrome or Chromium
        why = str(error).strip().splitlines()[0]
        raise ValueError(f"format={form} needs Chrome or Chromium ({why}); use format=html") from error
    return file
