"""A method, a task and a model of one's own, from outside this repository; and the guide that says how."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY, sentences

Run = Callable[..., subprocess.CompletedProcess[str]]
GUIDE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

METHOD = """
name: last_layers
family: full and partial
paper: none
uses: [rank]
lr: 1.0e-3
lr_source: "none: an example"
attach:
  _target_: mine_of_own.last_layers
  _partial_: true
  layers: ${rank}
"""

TASK = """
name: moods
path: PLACE
files:
  train: [moods.tsv]
  report: [moods_report.tsv]
labels: [low, high]
epochs: 2
batch: 16
select_rows: 20
load:
  _target_: mine_of_own.load
  column: saying
"""

MODEL = """
label: pocket-bert
name: PLACE
pins:
  PLACE: none
"""

CODE = '''
"""A leaf and a loader of one's own."""

import csv

from bench.models.structure import is_head
from bench.tasks.loaders.locate import locate
from bench.tasks.base import Split, Task, carve


def last_layers(model, *, layers):
    """Train the last layers and the head."""
    first = model.config.num_hidden_layers - layers
    trained = tuple(f"bert.encoder.layer.{number}." for number in range(first, first + layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(trained) or is_head(name, model)
    return model


def load(task, data_seed, column):
    """Two columns: the saying and its mood."""
    parts = {part: read(paths[0], task.labels, column) for part, paths in locate(task.path, task.files).items()}
    train, select = carve(parts["train"], task.select_rows, data_seed)
    return Task(train, select, parts["report"])


def read(path, labels, column):
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\\t"))
    return Split([row[column] for row in rows], [labels.index(row["mood"]) for row in rows])
'''


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def mine(tiny_bert: Path, tmp_path: Path) -> Path:
    """A folder with yaml files, code and data of one's own."""
    folder = tmp_path / "mine"
    for group, name, text in (("method", "last_layers", METHOD), ("task", "moods", TASK), ("model", "pocket", MODEL)):
        (folder / group).mkdir(parents=True)
        place = str(tiny_bert if group == "model" else tmp_path / "data")
        (folder / group / f"{name}.yaml").write_text(text.replace("PLACE", place))
    (folder / "mine_of_own.py").write_text(CODE)
    (tmp_path / "data").mkdir()
    for name, rows in (("moods", sentences(100)), ("moods_report", sentences(30, offset=1))):
        lines = ["saying\tmood", *(f"{text}\t{('low', 'high')[label]}" for text, label in rows)]
        (tmp_path / "data" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_method_a_task_and_a_model_of_ones_own_make_a_cell(mine: Path, bench: Run, tmp_path: Path) -> None:
    done = bench(
        "run", "--config-dir", str(mine), "method=last_layers", "task=moods", "model=pocket", "rank=1", "seeds=[0]",
        "protocol.max_length=32", "protocol.probe_steps=1", "lrs=published", "track=off", "results_dir=results",
        "cache_dir=cache",
        env={"PYTHONPATH": path_with(mine)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 ok" in done.stdout
    folder = tmp_path / "results" / "pocket-bert" / "moods"
    (path,) = folder.glob("last_layers-r1-*/lr0.001-seed0.json")
    record = json.loads(path.read_text())
    assert (record["outcome"], record["cell"]["method"], record["cell"]["rank"]) == ("ok", "last_layers", 1)
    assert record["cell"]["target"] is None
    assert len(record["predictions"]["select"]) == 20
    assert len(record["predictions"]["report"]) == 30
    cost = json.loads((path.parent / "probe.json").read_text())["cost"]
    layer = 4 * (32 * 32 + 32) + 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32
    assert cost["trainable_params"] == layer + cost["head_params"]
    pooler = 32 * 32 + 32  # the checkpoint has none
    assert cost["head_params"] == pooler + 32 * 2 + 2


def test_code_of_ones_own_that_is_not_there_is_one_line(mine: Path, inline: Run, tmp_path: Path) -> None:
    chosen = ["method=last_layers", "task=moods", "model=pocket", "rank=1", "protocol.max_length=32", "track=off"]
    done = inline("--config-dir", str(mine), *chosen)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "mine_of_own" in done.stderr
    assert not (tmp_path / "results").exists()


def test_every_path_that_the_guide_names_exists() -> None:
    named = set(re.findall(r"(?<![\w./])(?:bench|conf|tests|results|sweeps|data|\.ci)/[\w./*-]*", GUIDE))
    named |= {word for word in re.findall(r"`([\w./-]+)`", GUIDE) if re.search(r"\.(md|txt|toml|py|yaml)$", word)}
    paths = {name.rstrip(".,") for name in named if not re.search(r"\b[A-Z]{2,}\b(?!\.md)", name)}
    assert {
        "bench/records/record.py",
        "conf/method/lora.yaml",
        "tests/methods/test_every_method.py",
        "constraints.txt",
    } <= paths
    assert not [name for name in sorted(paths) if not (REPOSITORY / name).exists()]


def test_every_function_and_class_that_the_guide_names_exists() -> None:
    named = re.findall(r"\bbench(?:\.\w+)+", GUIDE)
    assert {"bench.tasks.loaders.glue.load", "bench.hooks.Hooks"} <= set(named)
    for name in named:
        *module, last = name.split(".")
        path = REPOSITORY.joinpath(*module)
        if not path.joinpath(f"{last}.py").exists() and not path.joinpath(last).is_dir():
            assert re.search(rf"^(def|class) {last}\b", path.with_suffix(".py").read_text(), flags=re.MULTILINE), name


def test_every_target_of_make_that_the_guide_names_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    named = re.findall(r"\bmake ([a-z.][\w./]*)", GUIDE)
    assert "check" in named
    for target in named:
        variables = makefile.replace("$(READY)", ".venv/.ready")
        assert re.search(rf"^{re.escape(target)}:", variables, flags=re.MULTILINE), target
