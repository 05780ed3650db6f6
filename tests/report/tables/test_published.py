"""Published values: well formed, traceable, and the numbers that the papers print."""

from typing import Any

import pytest
from conftest import REPOSITORY

from bench.config.enums import Metric
from bench.report.tables.published import COLUMNS, published

TASKS = {path.stem for path in (REPOSITORY / "conf" / "task").glob("*.yaml")}
METHODS = {path.stem for path in (REPOSITORY / "conf" / "method").glob("*.yaml")}
TARGETS = {path.stem for path in (REPOSITORY / "conf" / "target").glob("*.yaml")}


def one(table: str, **where: Any) -> dict[str, Any]:
    found = published(table)
    for key, value in where.items():
        found = found[found[key].isna() if value is None else found[key] == value]
    (row,) = found.to_dict("records")
    return dict(row)


def test_every_value_has_a_source_and_goes_by_our_names() -> None:
    found = published()
    assert tuple(found) == COLUMNS
    assert found[["source", "table", "model", "task", "metric", "split", "method", "value"]].notna().all(axis=None)
    assert found["source"].str.contains(r"arXiv:\d{4}\.\d{5}$").all()
    assert set(found["method"]) <= METHODS
    assert set(found["target"].dropna()) <= TARGETS
    assert set(found["task"]) <= TASKS | {"wikisql", "mnli_mismatched", "average"}
    assert set(found["metric"]) <= {metric.value for metric in Metric} | {"average"}
    assert set(found["split"]) == {"validation", "test"}
    assert found["value"].between(50, 100).all()
    assert found["spread"].dropna().between(0, 5).all()
    assert not found.drop(columns=["value", "spread"]).astype(str).duplicated().any()


@pytest.mark.parametrize(("table", "rows"), [("1", 3 * 10), ("2", 14 * 9), ("5", 7 * 2), ("6", 15 * 2)])
def test_a_table_is_whole(table: str, rows: int) -> None:
    assert len(published(table)) == rows
    assert set(published(table)["table"]) == {table}


def test_averages_are_those_of_the_tasks() -> None:
    """A mistyped value would shift its row's mean from the one that is printed."""
    found = published("2").fillna("-")
    for _, row in found.groupby(["model", "method", "rank", "trainable_params", "note"]):
        tasks, (average,) = row[row["task"] != "average"], row[row["task"] == "average"]["value"]
        assert len(tasks) == 8
        assert tasks["value"].mean() == pytest.approx(average, abs=0.06)


def test_parameters_follow_from_the_rank() -> None:
    """LoRA trains 2 r d in each matrix; of q and v there are two in each of the layers."""
    for model, layers, width in (("roberta-base", 12, 768), ("roberta-large", 24, 1024)):
        row = one("2", model=model, method="lora", task="mnli", note=None)
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
def test_values_are_those_of_the_papers(table: str, where: dict[str, Any], value: float, spread: float | None) -> None:
    row = one(table, **where)
    assert row["value"] == value
    assert row["spread"] == spread


def test_an_unknown_table_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"published table '7' is unknown; choose from 1 .Houlsby et al. 2019"):
        published("7")
