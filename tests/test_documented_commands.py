"""Every command of README and documentation works: its first cell is trained, or its report shown.

The training is made short: a model of two layers and a few rows of data. All commands share one worker server.
"""

import csv
import json
import shlex
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, bert, question, sentences
from documentation import CONTRIBUTING, PAGES, README, Command, commands, write_files, write_guide
from hydra._internal.utils import get_args_parser
from sample_records import probe_of, race_record, record_of, store

from bench.cells.cell import Cell
from bench.config import compose
from bench.config.enums import Cost
from bench.predict import cli as predict
from bench.report.__main__ import cli as report
from bench.run import run
from bench.runner.backlog import Backlog

# Those that start a server, talk to one, or show what the reader has added have tests of their own.
TESTED_ELSEWHERE = {
    "bench.report table=smallest": "tests/test_extend.py",
    "bench.report serve": "tests/report/dashboard/test_dashboard.py",
    "bench.report wandb": "tests/report/wandb/test_upload.py",
    "bench.predict record=ID --serve": "tests/inference/test_predict.py",
    "bench.agent": "tests/config/test_sweeps.py",
    "wandb agent": "tests/config/test_sweeps.py",
    "wandb sweep": "tests/config/test_sweeps.py",
}


def _grouped() -> dict[str, list[Command]]:
    """Return every command once, grouped by what it starts: such as bench.run, make, or elsewhere."""
    groups = defaultdict(list)
    unique = {command.words: command for page in (*PAGES, CONTRIBUTING, README) for command in commands(page)}
    for command in unique.values():
        line = " ".join(command.words).removeprefix("python -m ")
        elsewhere = line.startswith(tuple(TESTED_ELSEWHERE))
        groups["elsewhere" if elsewhere else line.split()[0]].append(command)
    return groups


COMMANDS = _grouped()
SHORT = (
    "protocol.train_rows=32", "protocol.max_length=32", "protocol.probe_steps=1", "task.select_rows=8", "seeds=[0]",
)  # fmt: skip
SHORTER = {
    "method=glob(*)": "method=glob(b*)",
    "model=llama-3.2-1b": "model=tiny-llama",
    "protocol.steps=130": "protocol.steps=2",
    "match_params=75000": "match_params=2048",
}
LLAMA = {
    "model.architecture.hidden_size": "64", "model.architecture.num_hidden_layers": "2",
    "model.architecture.num_attention_heads": "2", "model.architecture.num_key_value_heads": "2",
    "model.architecture.head_dim": "32", "model.architecture.intermediate_size": "128",
}  # fmt: skip
DATA = {"sst2": "SST-2", "sst2_prompt": "SST-2", "cola": "CoLA", "medmcqa": "medmcqa"}
GROUPS = ("method", "model", "task", "quant", "optim")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, wide enough for rank 64, with its tokenizer."""
    return bert(tmp_path_factory.mktemp("wide-bert"), width=64)


@pytest.fixture(scope="module")
def folder(tiny: Path, tiny_sst2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user who follows the documentation: data and yaml files where the commands expect them."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "data").mkdir()
    (folder / "data" / "SST-2").symlink_to(tiny_sst2)
    rows = sentences(60)
    files = {
        "data/CoLA/train.tsv": [f"x\t{label}\t\t{text}" for text, label in rows],
        "data/CoLA/dev.tsv": [f"x\t{label}\t\t{text}" for text, label in rows[:20]],
        "data/MRPC/train.tsv": _pairs(rows),
        "data/MRPC/dev.tsv": _pairs(rows[:20]),
        "data/medmcqa/train.json": [json.dumps(question("train", number, 0)) for number in range(64)],
        "data/medmcqa/dev.json": [json.dumps(question("dev", number, 5)) for number in range(24)],
        "mine.jsonl": [
            json.dumps({"question": f"Where is {number}?", "options": ["here", "there"], "answer": number % 2})
            for number in range(60)
        ],
        "texts.txt": [text for text, _ in rows[:10]],
        "asked.jsonl": [json.dumps({"text": text}) for text, _ in rows[:3]],
    }
    write_files(folder, {name: "\n".join(lines) + "\n" for name, lines in files.items()})
    _table(folder / "mine" / "train.csv", ["text", "label", "review", "stars"], [[t, n, t, n] for t, n in rows])
    _table(folder / "DIR" / "train.csv", ["text", "label"], [[text, label] for text, label in rows])
    _table(folder / "pairs.csv", ["text", "hypothesis", "label"], [[text, "it is", label] for text, label in rows])
    _table(folder / "prices.csv", ["text", "label"], [[text, len(text) / 10] for text, _ in rows])
    (folder / "path" / "to" / "a").mkdir(parents=True)
    (folder / "path" / "to" / "a" / "bert").symlink_to(tiny)
    write_guide(folder, tiny)
    return folder


def _pairs(rows: list[tuple[str, int]]) -> list[str]:
    return ["Quality\t#1 String\t#2 String", *(f"{label}\t{text}\tit is" for text, label in rows)]


def _table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@contextmanager
def as_user(folder: Path) -> Iterator[None]:
    """Make the user's folder the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("WANDB_MODE", "offline")
        patch.syspath_prepend(str(folder / "mine"))
        yield


@pytest.fixture
def user(folder: Path) -> Iterator[Path]:
    """The same folder, as the working directory."""
    with as_user(folder):
        yield folder


def cells_to_run(words: Sequence[str]) -> int:
    """Return how many cells of a command run: two where their costs are compared."""
    return 2 if "cost=only" in words else 1


def shortened(words: Sequence[str], tiny: Path) -> list[str]:
    """Return a command of bench.run with the start of its lists, a small model, little data and one seed."""
    count = cells_to_run(words)
    kept = [_short_list(SHORTER.get(word, word), count) for word in words if not word.startswith("model.name=unsloth")]
    values = dict(word.split("=", 1) for word in kept if "=" in word)
    task = values.get("task", "").split(",")[0]
    precision = "bf16" if values.get("quant", "").startswith("bf16") else "fp32"
    added = {"track": "off", "results_dir": "results", "precision": precision}
    if values.get("model") == "tiny-llama":
        added |= LLAMA
    elif "model.name" not in values:
        added |= {"model.name": str(tiny)}
    if task == "sst2_prompt":
        added |= {"task.words": "[bad,great]"}
    if task in DATA and "task.path" not in values:
        added |= {"task.path": f"data/{DATA[task]}"}
    if {"protocol", "tune"} & set(values):
        added |= {"protocol.candidates": "3", "protocol.finalists": "1"}
    else:  # these commands differ in something other than the race
        added |= {"lrs": "published"}
    if "protocol.steps" not in values:
        added |= {"protocol.epochs": "1"}
    return [*kept, *SHORT, *(f"{key}={value}" for key, value in added.items() if key not in values)]


def _short_list(word: str, count: int) -> str:
    """Return an override with the first values of its list. The others must at least exist."""
    key, _, values = word.partition("=")
    if "," not in values or values.startswith("["):
        return word
    names = values.split(",")
    if key in GROUPS:
        assert all((REPOSITORY / "conf" / key / f"{name}.yaml").exists() for name in names[count:]), word
    return f"{key}={','.join(names[:count])}"


def composed(words: Sequence[str]) -> list[Cell]:
    """Return the cells of a command of bench.run."""
    options = get_args_parser().parse_args(list(words))
    return compose.cells(options.overrides, multirun=options.multirun, extra=options.config_dir)


# Of commands that are the same when shortened, the last one.
RUNS = {tuple(sorted(shortened(command.words[3:], Path("tiny")))): command for command in COMMANDS["bench.run"]}


@pytest.fixture(scope="module")
def problems(folder: Path, tiny: Path) -> dict[str, str]:
    """Train the first cells of all commands, in few sweeps; return what went wrong, by command."""
    problems: dict[str, str] = {}
    sweeps = defaultdict[str, dict[str, list[Cell]]](dict)
    with as_user(folder):
        for command in RUNS.values():
            words = command.words[3:]
            try:
                cells = composed(shortened(words, tiny))[: cells_to_run(words)]
            except ValueError as error:
                problems[str(command)] = str(error)
                continue
            conf, rule = cells[0].conf, cells[0].rule  # what all cells of a sweep have in common
            common = (conf.results_dir, conf.track, conf.cost, conf.save, conf.merge, conf.retain, conf.tune, rule)
            sweeps[repr(common)][str(command)] = cells
        for sweep in sweeps.values():
            code = run([cell for cells in sweep.values() for cell in cells], [])
            failure = f"the sweep ended with exit code {code}" if code else ""
            problems |= {command: problem_of(cells) or failure for command, cells in sweep.items()}
    return problems


def problem_of(cells: list[Cell]) -> str:
    """Return what is not recorded of cells that were trained, or an empty text."""
    messages: list[str] = []
    backlog = Backlog(cells, messages.append)
    if not all(backlog.lookup.cost_of(cell) for cell in cells):
        messages.append("no cost")
    if cells[0].conf.cost is not Cost.only and (backlog.unraced or backlog.todo or not backlog.recorded):
        messages.append(f"not trained: {[*backlog.unraced, *backlog.todo] or cells}")
    return "; ".join(messages)


@pytest.mark.parametrize("command", RUNS.values(), ids=str)
def test_a_documented_run_trains(command: Command, problems: dict[str, str]) -> None:
    assert not problems[str(command)]


@pytest.fixture(scope="module")
def recorded(folder: Path, tiny: Path) -> str:
    """Put the records of a sweep in the user's results; return the id of a command that measured costs."""
    cells: list[dict[str, Any]] = [{"rank": rank, "target": target} for rank in (1, 4, 8, 64) for target in ("q", "qv")]
    cells += [{"method": name, "rank": None, "target": None} for name in ("full", "ia3")]
    cells += [{"method": "adapter", "target": None}, {"base": "nf4"}, {"base": "int8"}]
    made = []
    for number, cell in enumerate(cells):
        score = 0.6 + number / 100
        made += [record_of(seed=seed, select=score, report=score, **cell) for seed in range(3)]
        made += [race_record(**cell), probe_of(**cell)]
    store(folder / "results", *made)
    words = ["-m", "method=lora,ia3", "cost=only"]
    assert run(composed([*shortened(words, tiny), f"results_dir={folder / 'results'}"]), words) == 0
    return next((folder / "results" / ".runs").glob("*.json")).stem


def without_browser(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command of bench.report with figures as html, because a browser takes a second for each."""
    return tuple("format=html" if word == "format=pdf" else word for word in words) + (
        ("format=html",) if words == ("figures",) else ()
    )


# Of commands that are then the same, the last one.
REPORTS = {without_browser(command.words[3:]): command for command in COMMANDS["bench.report"]}


@pytest.mark.parametrize("words", REPORTS, ids=[str(command) for command in REPORTS.values()])
def test_a_documented_report_is_shown(
    words: tuple[str, ...], user: Path, recorded: str, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {
        "run=ID": f"run={recorded}",
        "study=NAME": "study=methods-reviews",
        "results_dir=results/studies/NAME": "results_dir=results",
    }
    code = report([names.get(word, word) for word in words])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert out


@pytest.fixture(scope="module")
def kept(folder: Path, tiny: Path, tiny_sst2: Path) -> dict[str, str]:
    """Trials whose adapters are kept: their ids, by the option of bench.predict that they answer."""
    ids = {}
    for option, words in {
        "--text": ["method=lora", "task=sst2", f"task.path={tiny_sst2}", "save=adapter"],
        "--question": ["method=lora", "task=quiz", "model=tiny-llama", "save=adapter"],
    }.items():
        (cell,) = composed([*shortened(words, tiny), f"results_dir={folder / 'kept'}", f"save_dir={folder / 'saved'}"])
        assert run([cell], words) == 0
        ids[option] = cell.id
    return ids | {"--input": ids["--text"]}


@pytest.mark.parametrize("command", COMMANDS["bench.predict"], ids=str)
def test_a_documented_prediction_answers(
    command: Command, user: Path, kept: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    (option,) = set(kept) & set(command.words)
    assert command.words[3] == "record=ID"
    words = [f"record={kept[option]}", "results_dir=kept", *command.words[4:]]
    code = predict(words)
    out, err = capfd.readouterr()
    assert code == 0, err
    answers = (user / "answers.jsonl").read_text("utf-8") if "--output" in words else out
    assert answers.strip()


@pytest.mark.parametrize("command", COMMANDS["make"], ids=str)
def test_a_documented_target_of_make_exists(command: Command) -> None:
    done = subprocess.run(["make", "-n", *command.words[1:]], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS["python"], ids=str)
def test_a_documented_script_knows_its_options(command: Command) -> None:
    text = (REPOSITORY / command.words[1]).read_text("utf-8")
    assert not [word for word in command.words[2:] if word.startswith("--") and f'"{word}"' not in text]


@pytest.mark.parametrize("command", COMMANDS["pip"], ids=str)
def test_a_documented_installation_names_extras_and_files_that_exist(command: Command) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [word[2:-1].split(",") for word in command.words if word.startswith(".[")]
    assert {extra for names in extras for extra in names} <= set(project["optional-dependencies"])
    assert all((REPOSITORY / word).exists() for word in command.words if word.endswith(".txt"))


def test_the_documented_tests_are_what_make_runs() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert all(f"$(BIN)/python -m {shlex.join(command.words[2:])}\n" in makefile for command in COMMANDS["pytest"])


def test_no_kind_of_command_is_left_out() -> None:
    kinds = {"bench.run", "bench.report", "bench.predict", "make", "python", "pip", "pytest", "venv", "elsewhere"}
    assert set(COMMANDS) == kinds
    assert all((REPOSITORY / path).exists() for path in TESTED_ELSEWHERE.values())
    sweeps = [word for command in COMMANDS["elsewhere"] for word in command.words if word.endswith(".yaml")]
    assert sweeps
    assert all((REPOSITORY / word).exists() for word in sweeps)
