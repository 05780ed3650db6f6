"""The sweeps: which cells each of them lists for Hydra, for the check beforehand, and for W&B's agents."""

import itertools
import os
import random
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from bench import agent
from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.records import record as records
from bench.report.arguments import parse
from bench.report.figures.figures import FIGURES
from bench.report.record_frame import Study
from bench.report.tables.scores import TABLES

Run = Callable[..., subprocess.CompletedProcess[str]]
SWEEPS = REPOSITORY / "sweeps"
# Per sweep: the number of cells on the embedded model and data, some of their titles, and the skipped methods.
EXPECTED: dict[str, tuple[int, set[str], list[str]]] = {
    "lora_table5": (7, {
        "lora r=8 q", "lora r=8 k", "lora r=8 v", "lora r=8 o", "lora r=4 qk", "lora r=4 qv", "lora r=2 qkvo",
    }, []),
    "lora_table6": (15, {"lora r=1 q", "lora r=64 q", "lora r=2 qv", "lora r=4 qkvo", "lora r=64 qkvo"}, []),
    "methods_at_budget": (24, {
        "lora r=8 qv", "dora r=7 qv", "lora_fa r=16 qv", "adapter r=6", "prefix r=16", "prompt r=195",
        "randlora r=26 qv",
    }, ["boft", "qlora", "vblora"]),
    "methods_glue": (10, {"full", "bitfit", "lora r=8 qv", "adapter r=8", "ia3 kv+down", "prefix r=8"}, []),
    "methods_medmcqa": (10, {"zero_shot", "few_shot r=4", "full", "lora r=4 qv", "llama_adapter r=4"}, []),
    "soft_prompts": (27, {"prompt r=4", "prompt_labels r=16", "p_tuning r=64", "prefix_text r=4"}, ["'llama_adapter'"]),
    "quantisation": (6, {
        "lora r=8 qv", "lora r=8 qv bf16", "lora r=8 qv int8", "lora r=8 qv fp4", "lora r=8 qv nf4",
        "lora r=8 qv nf4+double",
    }, []),
    "lora_without_regret": (6, {"full", "lora r=1 all", "lora r=256 all"}, []),
    "learning_rates": (8, {"full", "head", "bitfit", "lora r=8 qv", "adapter r=8", "ia3 kv+down", "prefix r=8"}, []),
}  # fmt: skip
# Jobs beyond the cells: a skipped combination is a job that reports it, and full fine-tuning is one cell at every rank.
REPEATED = {"lora_without_regret": 4}
EXTRA_JOBS = {"soft_prompts": 3, "methods_at_budget": 3, **REPEATED}
LEFT_OUT = {f"method={name}" for name in ("llama_adapter", "boft", "qlora", "vblora")}


@cache
def expanded(name: str, *overrides: str) -> tuple[list[Cell], list[str]]:
    """Return the cells of a sweep and the messages about those that are skipped."""
    messages: list[str] = []
    return cells([f"+sweeps={name}", *overrides], multirun=True, say=messages.append), messages


def composed(name: str, *overrides: str) -> list[Cell]:
    return expanded(name, *overrides)[0]


def titles(name: str, *overrides: str) -> list[str]:
    return [cell.title for cell in composed(name, *overrides)]


def jobs(content: dict[str, Any]) -> list[list[str]]:
    """Return the arguments after `-m bench.run` of every job that an agent would start, made by W&B's own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    axes = {key: axis.get("values") or [axis["value"]] for key, axis in content["parameters"].items()}
    job_arguments = []
    for values in itertools.product(*axes.values()):
        given = {key: {"value": value} for key, value in zip(axes, values, strict=True)}
        filled = create_sweep_command_args({"args": given})["args_no_hyphens"]
        start, command = content["command"].index("bench.run") + 1, content["command"]
        job_arguments.append(
            [argument for part in command[start:] for argument in (filled if part == "${args_no_hyphens}" else [part])]
        )
    return job_arguments


def test_every_sweep_is_expected_and_has_a_file_for_agents() -> None:
    assert {path.stem for path in SWEEPS.glob("*.yaml")} == set(EXPECTED)
    assert {path.stem for path in (SWEEPS / "wandb").iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sweep_expands_to_the_expected_cells(name: str) -> None:
    count, sample, left_out = EXPECTED[name]
    composed_cells, messages = expanded(name)
    assert len({cell.id for cell in composed_cells}) == count
    assert len(composed_cells) == count + REPEATED.get(name, 0)
    assert sample <= {cell.title for cell in composed_cells}
    assert len(messages) == len(left_out)
    assert all(reason in line for reason, line in zip(left_out, messages, strict=True))
    source_and_task = ("tiny-llama-random", "quiz") if name == "methods_medmcqa" else ("minilm", "reviews")
    assert {(cell.source.label, cell.task) for cell in composed_cells} == {source_and_task}


def test_every_method_is_trained_at_every_candidate_of_its_race() -> None:
    rates = {cell.title: [trial.lr for trial in cell.trials if trial.seed == 0] for cell in composed("learning_rates")}
    assert {len(candidates) for candidates in rates.values()} == {7}
    assert rates["lora r=8 qv"] == [1.58e-5, 5e-5, 1.58e-4, 5e-4, 1.58e-3, 5e-3, 1.58e-2]
    assert rates["full"][3] == 5e-5


def test_the_budget_of_table_5_is_one_count_of_parameters() -> None:
    """At rank r, each of these square matrices of one size trains 2 r times its width. All ranks are the paper's."""
    assert {cell.rank * len(cell.parts) for cell in composed("lora_table5") if cell.rank and cell.parts} == {8}


@pytest.mark.parametrize(("name", "overrides", "expected"), [
    ("lora_table6", ["target=q", "rank=2,3"], ["lora r=2 q", "lora r=3 q"]),
    ("lora_table6", ["method=dora", "rank=4"], ["dora r=4 q", "dora r=4 qv", "dora r=4 qkvo"]),
    ("lora_table5", ["target=qkvo", "match_params=74000"], ["lora r=4 qkvo"]),
    ("lora_table5", ["target=mlp,qv", "rank=3", "match_params=null"], ["lora r=3 mlp", "lora r=3 qv"]),
    ("quantisation", ["quant=none,int8", "target=all"], ["lora r=8 all", "lora r=8 all int8"]),
    ("learning_rates", ["method=lora,ia3", "rank=2"], ["lora r=2 qv", "ia3 kv+down"]),
])  # fmt: skip
def test_command_line_values_override_those_of_a_sweep(name: str, overrides: list[str], expected: list[str]) -> None:
    assert titles(name, *overrides) == expected


def test_command_line_rates_override_those_of_a_sweep() -> None:
    (cell,) = composed("learning_rates", "method=lora", "lrs=[1e-3]", "seeds=[7]")
    assert [(trial.lr, trial.seed) for trial in cell.trials] == [(1e-3, 7)]


def test_any_model_and_task_may_be_given(tiny: list[str]) -> None:
    composed_cells = composed("methods_medmcqa", *tiny, "method=lora")
    assert [(cell.task, cell.rank) for cell in composed_cells] == [("sst2", 4)]
    glue = composed("methods_glue", "method=lora,full", "task=mnli,sst2,stsb")
    assert [(cell.method, cell.task) for cell in glue] == [
        (method, task) for method in ("lora", "full") for task in ("mnli", "sst2", "stsb")
    ]


@pytest.mark.parametrize(("arguments", "words"), [
    (["-m", "+sweeps=lora_table7"], ["sweeps 'lora_table7' is unknown; choose from", "lora_table5, lora_table6"]),
    (["-m", "sweeps=lora_table6"], ["write +sweeps=lora_table6"]),
    (["-m", "+sweeps=lora_table5,lora_table6"], ["takes one sweep"]),
    (["+sweeps=lora_table6"], ["lists values of method, rank, target: add -m"]),
    (["+sweeps=lora_table6", "rank=4"], ["lists values of method, target: add -m"]),
    (["-m", "+sweeps=lora_table5", "rank=4"], ["match_params=37000 chooses the rank", "leave out rank=4"]),
])  # fmt: skip
def test_an_invalid_use_of_a_sweep_is_one_clear_line(
    arguments: list[str], words: list[str], inline: Run, tmp_path: Path
) -> None:
    done = inline(*arguments, "track=off")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert [word for word in words if word in done.stderr] == words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPECTED)
def test_the_comment_of_a_sweep_names_its_table_and_commands_that_work(name: str) -> None:
    lines = [line[1:].strip() for line in (SWEEPS / f"{name}.yaml").read_text("utf-8").splitlines()]
    runs = [shlex.split(line) for line in lines if line.startswith("python -m bench.run -m ")]
    table, *figures = [shlex.split(line)[3:] for line in lines if line.startswith("python -m bench.report ")]
    assert table[0].removeprefix("table=") in TABLES
    assert {figure[1].removeprefix("figure=") for figure in figures} <= set(FIGURES)
    parse([*table, f"results_dir={SWEEPS}"])
    assert len(runs) >= 2
    for run in runs:
        assert run[4] == f"+sweeps={name}"
        offline = [word.replace("model=roberta-base", "model=bert-base") for word in run[4:]]
        offline += ["model.weights=random"] if any(word.startswith("model=") for word in run) else []
        assert cells([*offline, "method=lora", "target=q"], multirun=True)  # one method, as composing takes time


@pytest.mark.parametrize("name", EXPECTED)
def test_agents_get_the_same_grid_with_a_job_per_cell(name: str) -> None:
    path = SWEEPS / "wandb" / f"{name}.yaml"
    assert path.read_text("utf-8") == agent.as_text(name), "write it anew: python -m bench.agent"
    content = yaml.safe_load(path.read_text("utf-8"))
    assert content["command"][:4] == ["${env}", "${interpreter}", "-m", "bench.run"]
    expected = {cell.id for cell in composed(name)}
    job_list = jobs(content)
    assert len(job_list) == len(set(map(tuple, job_list))) == len(expected) + EXTRA_JOBS.get(name, 0)
    for arguments in random.Random(0).sample([job for job in job_list if LEFT_OUT.isdisjoint(job)], 3):
        (cell,) = cells(arguments, multirun=False)
        assert cell.id in expected


def test_a_sweep_runs_and_its_table_has_a_row_for_every_cell(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    given = [word for word in tiny if not word.startswith("rank=")]
    done = inline("-m", "+sweeps=lora_table5", "match_params=1024", *given, "seeds=[0]")
    assert done.returncode == 0, done.stderr
    assert "7 ok" in done.stdout
    study = Study.of(records.read_all(tmp_path / "results", pytest.fail))
    assert set(study.cells["title"]) == EXPECTED["lora_table5"][1]
    assert study.cells["trainable_params"].nunique() == 1
    table = TABLES["target_at_budget"](study, "report_score")
    assert table is not None
    assert len(table.body) == 7


@pytest.mark.skipif(find_spec("hatchling") is None, reason="the wheel is built by hatchling: install it")
def test_an_installed_wheel_has_the_sweeps(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path / "installed")
    ask = (
        "from bench.config import compose, register\n"
        "found = compose.cells(['+sweeps=lora_table6', 'rank=2'], multirun=True)\n"
        "print(register.SWEEPS, *(cell.title for cell in found), sep=',')"
    )
    where = os.pathsep.join(filter(None, [str(tmp_path / "installed"), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": where}
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run([sys.executable, "-c", ask], cwd=empty, env=env, check=True, capture_output=True, text=True)
    folder = tmp_path / "installed" / "bench" / "sweeps"
    assert done.stdout.strip().split(",") == [str(folder), "lora r=2 q", "lora r=2 qv", "lora r=2 qkvo"]
    shipped = {file.relative_to(SWEEPS): file.read_bytes() for file in SWEEPS.rglob("*.yaml")}
    assert {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.yaml")} == shipped
