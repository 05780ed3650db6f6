"""Published values are well-formed, traceable, and equal to the numbers in the papers."""

from typing import Any

import pytest
from conftest import REPOSITORY

from bench.config.enums import Metric
from bench.report.tables.published import COLUMNS, published

TASKS = {path.stem for path in (REPOSITORY / "conf" / "task").glob("*.yaml")}
METHODS = {path.stem for path in (REPOSITORY / "conf" / "method").glob("*.yaml")}
TARGETS = {path.stem for path in (REPOSITORY / "conf" / "target").glob("*.yaml")}


def row_of(table: str, **where: Any) -> dict[str, Any]:
    rows = published(table)
    for key, value in where.items():
        rows = rows[rows[key].isna() if value is None else rows[key] == value]
    (row,) = rows.to_dict("records")
    return dict(row)


def test_every_value_has_a_source_and_uses_our_names() -> None:
    values = published()
    assert tuple(values) == COLUMNS
    assert values[["source", "table", "model", "task", "metric", "split", "method", "value"]].notna().all(axis=None)
    assert values["source"].str.contains(r"arXiv:\d{4}\.\d{5}$").all()
    assert set(values["method"]) <= METHODS
    assert set(values["target"].dropna()) <= TARGETS
    assert set(values["task"]) <= TASKS | {"wikisql", "mnli_mismatched", "average"}
    assert set(values["metric"]) <= {metric.value for metric in Metric} | {"average"}
    assert set(values["split"]) == {"validation", "test"}
    assert values["value"].between(50, 100).all()
    assert values["spread"].dropna().between(0, 5).all()
    assert not values.drop(columns=["value", "spread"]).astype(str).duplicated().any()


@pytest.mark.parametrize(("table", "rows"), [("1", 3 * 10), ("2", 14 * 9), ("5", 7 * 2), ("6", 15 * 2)])
def test_every_table_is_complete(table: str, rows: int) -> None:
    assert len(published(table)) == rows
    assert set(published(table)["table"]) == {table}


def test_averages_equal_the_means_over_tasks() -> None:
    """A mistyped value would shift the mean of its row away from the printed average."""
    values = published("2").fillna("-")
    for _, row in values.groupby(["model", "method", "rank", "trainable_params", "note"]):
        tasks, (average,) = row[row["task"] != "average"], row[row["task"] == "average"]["value"]
        assert len(tasks) == 8
        assert tasks["value"].mean() == pytest.approx(average, abs=0.06)


def test_parameters_follow_from_the_rank() -> None:
    """LoRA trains 2 r d parameters in each matrix; q and v are two matrices per layer."""
    for model, layers, width in (("roberta-base", 12, 768), ("roberta-large", 24, 1024)):
        row = row_of("2", model=model, method="lora", task="mnli", note=None)
        assert round(2 * 2 * layers * width * row["rank"], -5) == row["trainable_params"]


@pytest.mark.parametrize(("table", "where", "value", "spread"), [
    ("1", {"method": "full", "task": "mrpc"}, 89.3, None),
    ("1", {"method": "adapter", "rank": 64, "task": "average"}, 79.6, None),
    ("1", {"method": "adapter", "rank": None, "task": "average"}, 80.0, None),
    ("2", {"model": "roberta-base", "method": "lora", "task": "sst2"}, 95.1, 0.2),
    ("2", {"model": "roberta-large", "method": "lora", "note": None, "task": "rte"}, 87.4, 2.5),
    ("2", {"model": "deberta-v2-xxlarge", "method": "full", "task": "cola"}, 72.0, None),
    ("5", {"target": "qkvo", "rank": 2, "task": "mnli"}, 91.7, 0.1),
    ("5", {"target": "k", "rank": 8, "task": "wikisql"}, 70.0, 0.5),
    ("6", {"target": "q", "rank": 1, "task": "wikisql"}, 68.8, 0.5),
    ("6", {"target": "qv", "rank": 8, "task": "mnli"}, 91.6, 0.1),
    ("6", {"target": "qkvo", "rank": 64, "task": "wikisql"}, 73.9, 0.5),
])  # fmt: skip
def test_values_equal_those_of_the_papers(
    table: str, where: dict[str, Any], value: float, spread: float | None
) -> None:
    row = row_of(table, **where)
    assert row["value"] == value
    assert row["spread"] == spread


def test_an_unknown_table_is_rejected_with_the_known_tables() -> None:
    with pytest.raises(ValueError, match=r"published table '7' is unknown; choose from 1 .Houlsby et al. 2019"):
        published("7")
