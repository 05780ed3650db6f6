"""Tables of cells that train equally many parameters, not counting the head."""

import pandas as pd

from bench.report.record_frame import Study
from bench.report.stats.ties import standings
from bench.report.tables.entries import MORE, SCORE, column, flags_column, head_of, table_of, tuning_column, who
from bench.report.tables.table import Table, text

NEAR = 1.1  # parameter counts within this ratio share a budget
BODY = "trained below the head"
ALIKE = ("method", "target", *MORE)  # cells with equal values here differ only in their rank


def target_at_budget(study: Study, metric: str = SCORE) -> Table | None:
    """Build the counterpart of the LoRA paper's Table 5: weight types at one budget of trained parameters.

    The rank of each cell follows from the budget.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if no budget has several targets.
    """
    cells = study.cells[study.cells["rank"].notna() & study.cells["target"].notna()]
    cells = _with_body(cells)
    cells = cells[cells.groupby(["task", "method"])["target"].transform("nunique") > 1]
    groups = [
        group
        for _, of_method in cells.groupby(["task", "method"])
        for group in _budgets(of_method)
        if len(group["target"].unique()) > 1
    ]
    if not groups:
        return None
    cells = pd.concat(groups)
    verdicts = standings(study, cells)
    body = pd.DataFrame(
        {
            "task": cells["task"],
            **who(cells),
            BODY: cells["body"].map(lambda value: text(value, "{:,.0f}")),
            **tuning_column(cells),
            head_of(cells, metric): column(cells, metric, verdicts),
            **flags_column(cells),
        }
    )
    return table_of("target_at_budget", study, cells, body)


def methods_at_budget(study: Study, metric: str = SCORE) -> Table | None:
    """Build the table of all methods at one budget of trained parameters (`match_params=`), best first.

    A cell counts for a budget even if its rank was set by hand. It is shown if it trains at most 10% fewer parameters
    than the budget and is the largest such cell of its method and target.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if no budget has several cells.
    """
    known = _with_body(study.cells)
    groups = [(int(budget), _within(known, int(budget))) for budget in sorted(known["match_params"].dropna().unique())]
    groups = [(budget, group) for budget, group in groups if len(group) > 1]
    if not groups:
        return None
    cells = pd.concat([group.assign(budget=budget) for budget, group in groups], ignore_index=True)
    cells = cells.sort_values(["task", "budget", metric], ascending=[True, True, False], kind="stable")
    body = pd.DataFrame(
        {
            "task": cells["task"],
            "budget": cells["budget"].map("{:,}".format),
            **who(cells),
            BODY: cells["body"].map(lambda value: text(value, "{:,.0f}")),
            **tuning_column(cells),
            head_of(cells, metric): column(cells, metric, standings(study, cells)),
            **flags_column(cells),
        }
    )
    return table_of("methods_at_budget", study, cells, body)


def _with_body(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with known parameter counts, with a column `body`: trained parameters below the head."""
    known = cells[cells["trainable_params"].notna()]
    return known.assign(body=known["trainable_params"] - known["head_params"].fillna(0))


def _within(cells: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Return the largest cell just within a budget, for each combination of the settings in ALIKE."""
    fitting = cells[(cells["body"] <= budget) & (cells["body"] >= budget / NEAR)].sort_values("body", kind="stable")
    return fitting.drop_duplicates([*ALIKE, "table"], keep="last").sort_index()


def _budgets(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the cells of one method where the next larger parameter count no longer shares a budget (see NEAR)."""
    ordered = cells.sort_values("body")
    jumps = (ordered["body"].astype(float).pct_change().fillna(0) > NEAR - 1).cumsum()
    return [group for _, group in ordered.groupby(jumps)]
