"""The Pareto front: cells that no other cell beats in both cost and score."""

from typing import Any

import pandas as pd


def front(cells: pd.DataFrame, cost: str, score: str = "report_score") -> "pd.Series[Any]":
    """Mark the cells on the Pareto front.

    Args:
        cells: One row per cell.
        cost: Column to minimise.
        score: Column to maximise.

    Returns:
        Whether each cell is on the front; False if its cost or score is unknown.
    """
    known = cells[cells[cost].notna() & cells[score].notna()]
    ordered = known.sort_values([cost, score], ascending=[True, False])[score]
    best_cheaper = ordered.cummax().shift(fill_value=float("-inf"))
    return cells.index.to_series().isin(ordered.index[ordered > best_cheaper])
