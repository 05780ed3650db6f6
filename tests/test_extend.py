"""The guides that say how to extend: every example of docs/extending.md runs, and CONTRIBUTING names what exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import OFFLINE, REPOSITORY
from documentation import CONTRIBUTING, EXTENDING, FENCE, examples, write_guide

Run = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLES = examples(EXTENDING)
GUIDE = CONTRIBUTING.read_text("utf-8")
GUIDES = GUIDE + EXTENDING.read_text("utf-8")


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def mine(tiny_bert: Path, tmp_path: Path) -> Path:
    """The user's folder of the guide, and the data that its tasks name."""
    write_guide(tmp_path, tiny_bert)
    return tmp_path / "mine"


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in paths]


def train(bench: Run, mine: Path, *words: str) -> list[dict[str, Any]]:
    """Train cells of the user's folder, and return the records of their trials."""
    done = bench(
        "run", "--config-dir", str(mine), "-m", "model=pocket", "rank=1", "seeds=[0]", "protocol.max_length=32",
        "protocol.probe_steps=1", "lrs=published", "track=off", "results_dir=results", "cache_dir=cache", *words,
        env={"PYTHONPATH": path_with(mine)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return read(sorted((mine.parent / "results").rglob("lr*.json")))


def test_the_methods_the_task_and_the_model_of_the_guide_make_cells(mine: Path, bench: Run) -> None:
    methods = ("last_layers", "last_layers_shrunk", "lora_dropout")
    trials = train(bench, mine, "task=moods", f"method={','.join(methods)}")
    assert {record["cell"]["method"] for record in trials} == set(methods)
    assert {record["outcome"] for record in trials} == {"ok"}
    trial = next(record for record in trials if record["cell"]["method"] == "last_layers")
    assert (trial["cell"]["rank"], trial["cell"]["target"]) == (1, None)
    assert len(trial["predictions"]["select"]) == 20
    assert len(trial["predictions"]["report"]) == 30
    (probe,) = read((mine.parent / "results" / "pocket-bert" / "moods").glob("last_layers-r1-*/probe.json"))
    cost = probe["cost"]
    layer = 4 * (32 * 32 + 32) + 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32
    assert cost["trainable_params"] == layer + cost["head_params"]
    pooler = 32 * 32 + 32  # the checkpoint has none
    assert cost["head_params"] == pooler + 32 * 2 + 2


def test_the_loader_of_the_guide_reads_the_same_data(mine: Path, bench: Run) -> None:
    by_columns, by_loader = train(bench, mine, "task=moods,sayings", "method=last_layers")
    assert by_columns["cell"]["task"] != by_loader["cell"]["task"]
    assert by_columns["predictions"] == by_loader["predictions"]


def test_a_missing_module_of_the_user_is_one_line(mine: Path, inline: Run, tmp_path: Path) -> None:
    words = ["method=last_layers", "task=moods", "model=pocket", "rank=1", "protocol.max_length=32", "track=off"]
    done = inline("--config-dir", str(mine), *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "my_methods" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("task/moods.yaml", "  label: mood", "  lable: mood", "unknown setting 'lable' of task.load; valid"),
        ("method/last_layers.yaml", "  layers:", "  layer:", "unknown setting 'layer' of method.attach; valid"),
        ("my_methods.py", "or is_head(name, model)", "", "method 'last_layers' freezes the task's head"),
    ],
)  # fmt: skip
def test_a_slip_in_an_extension_is_one_line_before_anything_is_trained(
    name: str, old: str, new: str, expected: str, mine: Path, bench: Run
) -> None:
    text = (mine / name).read_text("utf-8")
    assert old in text
    (mine / name).write_text(text.replace(old, new), "utf-8")
    done = bench(
        "run", "--config-dir", str(mine), "method=last_layers", "task=moods", "model=pocket", "rank=1",
        "protocol.max_length=32", "track=off", "cache_dir=cache", env={"PYTHONPATH": path_with(mine)},
    )  # fmt: skip
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (mine.parent / "results").exists()


def block(start: str) -> str:
    """Return the only block of the guide that starts so."""
    (text,) = (body for _, body in FENCE.findall(EXTENDING.read_text("utf-8")) if body.startswith(start))
    return str(text)


def insert(path: Path, text: str, before: str) -> None:
    """Insert text in a file, above the only line that starts so."""
    content = path.read_text("utf-8")
    assert len(re.findall(rf"^{re.escape(before)}", content, flags=re.MULTILINE)) == 1, (path, before)
    path.write_text(re.sub(rf"^(?={re.escape(before)})", lambda _: text, content, flags=re.MULTILINE), "utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the architecture, the table and the metric of the guide."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("bench", "conf", "sweeps"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    bench = copy / "bench"
    insert(bench / "models/architectures.py", block("DISTILBERT = "), "# Keyed by the model type")
    insert(bench / "models/architectures.py", block('    "distilbert"'), '    "llama": LLAMA')
    (bench / "report/tables/smallest.py").write_text(block('"""The table of cells by size'), "utf-8")
    scores = bench / "report/tables/scores.py"
    insert(scores, "from bench.report.tables.smallest import smallest\n", "from bench.report.tables.table ")
    insert(scores, block('    "smallest"'), '    "outcomes": outcomes')
    insert(bench / "config/enums.py", block("    balanced_accuracy = "), "    accuracy = ")
    insert(bench / "tasks/metrics.py", block('            "balanced_accuracy"'), '            "accuracy": ')
    insert(bench / "report/stats/bootstrap.py", block("def _balanced_accuracy") + "\n\n", "METRICS: ")
    insert(bench / "report/stats/bootstrap.py", block('    "balanced_accuracy"'), '    "accuracy": ')
    return copy


def test_the_architecture_the_metric_and_the_table_of_the_guide_work(
    extended: Path, mine: Path, tiny_sst2: Path, tmp_path: Path
) -> None:
    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path, env={**os.environ, **OFFLINE, "PYTHONPATH": str(extended)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call(
        "bench.run", "--config-dir", str(mine), "-m", "model=tiny_distilbert", "task=sst2", f"task.path={tiny_sst2}",
        "task.metrics=[balanced_accuracy]", "task.select_rows=40", "protocol=quick", "protocol.epochs=1",
        "protocol.max_length=32", "protocol.probe_steps=1", "protocol.candidates=3", "protocol.finalists=1",
        "method=lora,bitfit", "rank=2", "track=off", "results_dir=results", "cache_dir=cache",
    )  # fmt: skip
    shown = call("bench.report", "table=smallest")
    assert "balanced accuracy" in shown
    trials = read((tmp_path / "results").rglob("lr*-seed0.json"))
    assert {record["scores"]["metric"] for record in trials} == {"balanced_accuracy"}
    probes = read((tmp_path / "results").rglob("probe.json"))
    by_size = sorted(probes, key=lambda record: record["cost"]["trainable_params"])
    places = [shown.index(record["cell"]["method"]) for record in by_size]
    assert len(places) == 2
    assert places == sorted(places)


def test_every_path_that_the_guide_names_exists() -> None:
    named = set(re.findall(r"(?<![\w./])(?:bench|conf|tests|results|sweeps|\.ci)/[\w./*-]*", GUIDES))
    named |= {word for word in re.findall(r"`([\w./-]+)`", GUIDES) if re.search(r"\.(md|txt|toml|py|yaml)$", word)}
    named -= {"bench/report/tables/smallest.py", *EXAMPLES}  # the reader's own
    paths = {name.rstrip(".,") for name in named if not re.search(r"\b[A-Z]{2,}\b(?!\.md)", name)}
    assert {
        "bench/models/architectures.py",
        "conf/method/lora.yaml",
        "tests/methods/test_every_method.py",
        "constraints.txt",
    } <= paths
    assert not [name for name in sorted(paths) if not (REPOSITORY / name).exists()]


def test_every_function_and_class_that_the_guide_names_exists() -> None:
    named = re.findall(r"\bbench(?:\.\w+)+", GUIDES)
    assert {"bench.tasks.loaders.glue.load", "bench.hooks.Hooks"} <= set(named)
    for name in named:
        *module, last = name.split(".")
        path = REPOSITORY.joinpath(*module)
        if not path.joinpath(f"{last}.py").exists() and not path.joinpath(last).is_dir():
            assert re.search(rf"^(def|class) {last}\b", path.with_suffix(".py").read_text(), flags=re.MULTILINE), name


def test_every_target_of_make_that_the_guide_names_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    named = re.findall(r"\bmake ([a-z.][\w./]*)", GUIDES)
    assert "check" in named
    for target in named:
        variables = makefile.replace("$(READY)", ".venv/.ready")
        assert re.search(rf"^{re.escape(target)}:", variables, flags=re.MULTILINE), target
