"""Tables of cells that train equally many parameters, the head's aside."""

import pandas as pd

from bench.report.record_frame import Study
from bench.report.stats.ties import standings
from bench.report.tables.entries import MORE, SCORE, column, flags_column, head_of, table_of, tuning_column, who
from bench.report.tables.table import Table, text

NEAR = 1.1  # parameter counts within such a ratio are one budget
BODY = "trained below the head"
ALIKE = ("method", "target", *MORE)  # cells that differ in nothing else but their rank


def target_at_budget(study: Study, metric: str = SCORE) -> Table | None:
    """The LoRA paper's Table 5: weight types at one budget of trained parameters, the rank following from it."""
    found = study.cells[study.cells["rank"].notna() & study.cells["target"].notna()]
    found = _with_body(found)
    found = found[found.groupby(["task", "method"])["target"].transform("nunique") > 1]
    groups = [
        group
        for _, one in found.groupby(["task", "method"])
        for group in _budgets(one)
        if len(group["target"].unique()) > 1
    ]
    if not groups:
        return None
    found = pd.concat(groups)
    judged = standings(study, found)
    body = pd.DataFrame(
        {
            "task": found["task"],
            **who(found),
            BODY: found["body"].map(lambda value: text(value, "{:,.0f}")),
            **tuning_column(found),
            head_of(found, metric): column(found, metric, judged),
            **flags_column(found),
        }
    )
    return table_of("target_at_budget", study, found, body)


def methods_at_budget(study: Study, metric: str = SCORE) -> Table | None:
    """All methods at one budget of trained parameters (`match_params=`), the best first.

    A cell whose rank was given and not chosen by the budget is the same cell: it stands here if it trains at most 10%
    less, as the largest one of its method and target.
    """
    known = _with_body(study.cells)
    groups = [(int(budget), _within(known, int(budget))) for budget in sorted(known["match_params"].dropna().unique())]
    groups = [(budget, group) for budget, group in groups if len(group) > 1]
    if not groups:
        return None
    found = pd.concat([group.assign(budget=budget) for budget, group in groups], ignore_index=True)
    found = found.sort_values(["task", "budget", metric], ascending=[True, True, False], kind="stable")
    body = pd.DataFrame(
        {
            "task": found["task"],
            "budget": found["budget"].map("{:,}".format),
            **who(found),
            BODY: found["body"].map(lambda value: text(value, "{:,.0f}")),
            **tuning_column(found),
            head_of(found, metric): column(found, metric, standings(study, found)),
            **flags_column(found),
        }
    )
    return table_of("methods_at_budget", study, found, body)


def _with_body(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells whose trained parameters are known, with their number below the head."""
    known = cells[cells["trainable_params"].notna()]
    return known.assign(body=known["trainable_params"] - known["head_params"].fillna(0))


def _within(cells: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The largest cell of each method, target and the like that is within a budget and near it."""
    fitting = cells[(cells["body"] <= budget) & (cells["body"] >= budget / NEAR)].sort_values("body", kind="stable")
    return fitting.drop_duplicates([*ALIKE, "table"], keep="last").sort_index()


def _budgets(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Cells of one method, cut where the next count of parameters is another budget."""
    ordered = found.sort_values("body")
    jumps = (ordered["body"].astype(float).pct_change().fillna(0) > NEAR - 1).cumsum()
    return [group for _, group in ordered.groupby(jumps)]
