"""The Pareto front: cells that no other one beats in both of two numbers."""

from typing import Any

import pandas as pd


def front(cells: pd.DataFrame, cost: str, score: str = "report_score") -> "pd.Series[Any]":
    """Whether each cell is on the front; less of `cost` is better, more of `score` is. What is unknown is not on it."""
    known = cells[cells[cost].notna() & cells[score].notna()]
    ordered = known.sort_values([cost, score], ascending=[True, False])[score]
    before = ordered.cummax().shift(fill_value=float("-inf"))
    return cells.index.to_series().isin(ordered.index[ordered > before])
