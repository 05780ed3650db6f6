"""A resolved configuration is plain data: values from files and records are never evaluated."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bench.config import compose as grid
from bench.config.enums import Form, Metric, Weights
from bench.config.resolved import call, completed, typed
from bench.config.schema import Config, ModelConf, TaskConf
from bench.runner.build import load_task

STRANGE = ["${rank}", "${oc.env:HOME}", "???", "a\\${b}", "\\\\${b}", "${", "null", "true", "1e3", "{x}", "plain"]


def cell(path: Path, *words: str) -> Any:
    given = ["task=text_csv", f"task.path={path}", "task.select_rows=22", "track=off", "rank=4"]
    (composed,) = grid.cells([*given, *words], multirun=False)
    return composed


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    lines = [f"text {row},{STRANGE[row % len(STRANGE)]}" for row in range(10 * len(STRANGE))]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *lines, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("words", [("method=lora",), ("method=bitfit",), ("method=top_k", "rank=1000")])
def test_a_label_of_a_data_file_is_not_evaluated(words: tuple[str, ...], strange: Path) -> None:
    if words[-1] == "rank=1000":  # the rank is lowered, and the configuration follows
        composed = cell(strange, *words, "model=minilm")
        assert composed.config["rank"] != 1000
    else:
        composed = cell(strange, *words)
    assert composed.config["task"]["labels"] == sorted(STRANGE)
    task = load_task(composed)
    names = sorted(STRANGE)
    for text, label in zip(task.train.texts, task.train.labels, strict=True):
        assert names[int(label)] == STRANGE[int(text.split()[1]) % len(STRANGE)]


def test_a_resolved_node_becomes_its_dataclass_verbatim(strange: Path) -> None:
    config = cell(strange).config
    task = typed(TaskConf, config["task"])
    assert task.labels == sorted(STRANGE)
    assert task.form is Form.head
    assert task.metrics == [Metric.accuracy]
    whole = typed(Config, config)
    assert isinstance(whole.model, ModelConf)
    assert whole.model.weights is Weights.pretrained


@pytest.mark.parametrize("name", ["reviews", "mrpc", "stsb", "medmcqa"])
def test_typed_converts_a_node_as_omegaconf_does(name: str) -> None:
    loaded = OmegaConf.merge(TaskConf, OmegaConf.load(grid.CONF / "task" / f"{name}.yaml"))
    container: Any = OmegaConf.to_container(loaded, enum_to_str=True)
    assert typed(TaskConf, container) == OmegaConf.to_object(loaded)


def test_an_old_configuration_gains_new_settings_and_loses_removed_ones() -> None:
    old = {"task": {"name": "mine", "labels": STRANGE, "gone": 1}, "rank": 4, "gone": 1}
    config = completed(Config, old)
    assert config["task"]["labels"] == STRANGE
    assert config["task"]["form"] == "head"
    assert config["rank"] == 4
    assert config["retain"] is None
    assert "gone" not in config
    assert "gone" not in config["task"]
    assert old["task"] == {"name": "mine", "labels": STRANGE, "gone": 1}


def test_a_call_evaluates_nothing() -> None:
    assert call({"_target_": "builtins.dict", "one": [1, "two"]}) == {"one": [1, "two"]}
    with pytest.raises(ValueError, match=r"^builtins.dict: '\$\{oc.env:HOME\}' holds an expression; give its value"):
        call({"_target_": "builtins.dict", "one": [{"two": "${oc.env:HOME}"}]})
