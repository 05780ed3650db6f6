"""The report shows the content of the records: the right score for the right reason, and never a blank."""

import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from sample_records import MIB, probe_of, record_of, store

import bench.report.studies
from bench.records import record as records
from bench.records.record import Record
from bench.report import cells, commands
from bench.report.__main__ import cli
from bench.report.arguments import Arguments
from bench.report.studies import study_folder, study_names
from bench.report.tables import terminal

Ask = Callable[..., tuple[int, str, str]]
METHODS: list[dict[str, Any]] = [
    {"method": "full", "rank": None, "target": None}, {"method": "head", "rank": None, "target": None},
    {"method": "adapter_pfeiffer", "rank": 64, "target": None}, {"method": "ia3", "rank": None, "target": "kv+down"},
    {"method": "lora", "rank": 1, "target": "qv"}, {"method": "lora", "rank": 8, "target": "qv"},
]  # fmt: skip


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command line in this process, as in a pipe: ask("model=minilm") returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli(list(arguments)), *capsys.readouterr()

    return call


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of all tables in a Markdown file, keyed by heading."""
    table_rows = []
    for block in (folder / "table.md").read_text().split("\n\n"):
        if block.startswith("|"):
            heads, _, *rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in block.splitlines()]
            table_rows += [dict(zip(heads, (entry.strip("*") for entry in row), strict=True)) for row in rows]
    return table_rows


def entry(tmp_path: Path, ask: Ask, *stored: Record) -> dict[str, str]:
    """Return the single row that the records make."""
    code, _, err = ask(f"results_dir={store(tmp_path, *stored)}")
    assert (code, err) == (0, "")
    (row,) = rows_of(tmp_path / stored[0].cell["model"] / "sst2")
    assert all(row.values())
    return row


def seeds_of(selects: list[float], reports: list[float], **more: Any) -> list[Record]:
    pairs = enumerate(zip(selects, reports, strict=True))
    return [record_of(seed=seed, select=select, report=shown, **more) for seed, (select, shown) in pairs]


def test_the_learning_rate_is_chosen_on_select_and_never_on_report(ask: Ask, tmp_path: Path) -> None:
    good, lucky = seeds_of([0.9, 0.8], [0.6, 0.5], lr=1e-4), seeds_of([0.7, 0.7], [0.99, 0.98], lr=1e-3)
    row = entry(tmp_path, ask, probe_of(), *good, *lucky)
    assert row["lr"] == "0.0001"
    assert row["accuracy %"].startswith("55.0 ")


def test_a_learning_rate_is_chosen_by_its_mean_and_not_by_its_best_seed(ask: Ask, tmp_path: Path) -> None:
    steady, wild = seeds_of([0.8, 0.8], [0.7, 0.7], lr=1e-4), seeds_of([0.95, 0.5], [0.9, 0.9], lr=1e-3)
    assert entry(tmp_path, ask, *steady, *wild)["lr"] == "0.0001"


def test_a_learning_rate_that_lost_seeds_does_not_win_by_its_remaining_seeds(ask: Ask, tmp_path: Path) -> None:
    steady, wild = seeds_of([0.4, 0.4], [0.7, 0.7], lr=1e-4), seeds_of([0.95], [0.9], lr=1e-3)
    row = entry(tmp_path, ask, *steady, *wild, record_of(seed=1, lr=1e-3, outcome="diverged"))
    assert row["lr"] == "0.0001"
    assert row["outcome"] == "3 ok, 1 diverged"


def test_the_lowest_of_equally_good_learning_rates_is_shown(ask: Ask, tmp_path: Path) -> None:
    equal = [record_of(select=0.8, report=shown, lr=lr) for shown, lr in ((0.7, 1e-3), (0.6, 1e-5), (0.9, 1e-4))]
    assert entry(tmp_path, ask, *equal)["lr"] == "1e-05"


def test_mean_spread_and_count_are_over_the_seeds(ask: Ask, tmp_path: Path) -> None:
    """The mean of 70, 72 and 77 is 73; the squares 9 + 1 + 16 over n - 1 = 2 have the root 3.6."""
    row = entry(tmp_path, ask, *seeds_of([0.5] * 3, [0.70, 0.72, 0.77]))
    assert row["accuracy %"] == "73.0 +- 3.6 (3)"
    (stored,) = pd.read_csv(tmp_path / "minilm" / "sst2" / "table.csv").to_dict("records")
    assert stored["report_score"] == pytest.approx(0.73)
    assert stored["report_std"] == pytest.approx(statistics.stdev([0.70, 0.72, 0.77]))
    assert stored["seeds"] == 3


def test_one_seed_has_no_spread(ask: Ask, tmp_path: Path) -> None:
    assert entry(tmp_path, ask, *seeds_of([0.5], [0.7]))["accuracy %"] == "70.0 (1)"


def test_a_copy_of_a_record_is_not_another_seed(ask: Ask, tmp_path: Path) -> None:
    (record,) = seeds_of([0.5], [0.7])
    records.write(tmp_path / "backup" / "one.json", record)
    assert entry(tmp_path, ask, record)["accuracy %"] == "70.0 (1)"


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("outcome", ["oom", "failed", "diverged", "interrupted"])
def test_a_failure_replaces_the_score(outcome: str, ask: Ask, tmp_path: Path, *, random: bool) -> None:
    row = entry(tmp_path, ask, *(record_of(seed=seed, outcome=outcome, random=random) for seed in range(3)))
    assert row["accuracy %"] == outcome.upper()
    assert row["outcome"] == f"3 {outcome}"
    assert row["trainable"] == row["samples/s"] == row["lr"] == "-"


def test_failures_next_to_a_score_are_shown_as_outcome(ask: Ask, tmp_path: Path) -> None:
    row = entry(tmp_path, ask, *seeds_of([0.5], [0.7]), *(record_of(seed=seed, outcome="oom") for seed in (1, 2)))
    assert (row["accuracy %"], row["outcome"]) == ("70.0 (1)", "2 oom, 1 ok")


def test_random_weights_have_a_cost_and_no_score(ask: Ask, tmp_path: Path) -> None:
    row = entry(tmp_path, ask, probe_of(random=True), *seeds_of([0.9], [0.9], random=True))
    assert row["accuracy %"] == "-"
    assert row["trainable"] == "1,234,567"
    (stored,) = pd.read_csv(tmp_path / "minilm" / "sst2" / "table.csv").to_dict("records")
    assert pd.isna(stored["report_score"])
    assert stored["random"]


def test_a_cell_with_only_a_cost_is_shown(ask: Ask, tmp_path: Path) -> None:
    row = entry(tmp_path, ask, probe_of())
    assert (row["accuracy %"], row["outcome"], row["lr"]) == ("-", "-", "-")


def test_the_cost_is_that_of_the_probe(ask: Ask, tmp_path: Path) -> None:
    trial = record_of(cost={"samples_per_second": 1.0, "train_seconds": 9.0})
    row = entry(tmp_path, ask, probe_of(resident=512 * MIB), trial)
    assert row["samples/s"] == "1,234"
    assert row["peak MiB (resident)"] == "512"
    assert row["%"] == "0.321"


def test_cells_trained_differently_never_share_a_table(ask: Ask, tmp_path: Path) -> None:
    default, dropped = record_of(method="lora"), record_of(method="ia3", rank=None, dropout=0.1)
    code, out, _ = ask(f"results_dir={store(tmp_path, default, dropped)}")
    assert code == 0
    assert out.count("accuracy %") == 2
    assert "Table 1 of 2, not to be compared with the others: protocol.dropout=0.1." in out
    assert "Table 2 of 2, not to be compared with the others: protocol.dropout=null." in out
    tables = (tmp_path / "minilm" / "sst2" / "table.md").read_text().split("Table 1 of 2")
    assert ["ia3" in part and "lora" not in part for part in tables] == [True, False]
    stored = pd.read_csv(tmp_path / "minilm" / "sst2" / "table.csv")
    assert dict(zip(stored["method"], stored["table"], strict=True)) == {"ia3": 1, "lora": 2}


def test_cells_that_differ_in_method_rank_and_target_share_a_table(ask: Ask, tmp_path: Path) -> None:
    code, out, _ = ask(f"results_dir={store(tmp_path, *(record_of(**cell) for cell in METHODS))}")
    assert code == 0
    assert out.count("accuracy %") == 1
    assert "not to be compared" not in out
    order = [(row["method"], row["rank"]) for row in rows_of(tmp_path / "minilm" / "sst2")]
    assert order == [
        ("adapter_pfeiffer", "64"), ("full", "-"), ("head", "-"), ("ia3", "-"), ("lora", "1"), ("lora", "8"),
    ]  # fmt: skip


def test_every_model_and_task_has_separate_files(ask: Ask, tmp_path: Path) -> None:
    trials = [record_of(model=model, task=task) for model in ("minilm", "bert-base") for task in ("sst2", "reviews")]
    code, out, _ = ask(f"results_dir={store(tmp_path, *trials)}")
    assert code == 0
    for model in ("minilm", "bert-base"):
        for task in ("sst2", "reviews"):
            assert f"{model} on {task}\n" in out
            for name in ("table.md", "table.csv"):
                assert f"rendered: {tmp_path / model / task / name}\n" in out
                assert (tmp_path / model / task / name).exists()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILTERS = ("model=b", "task=sst2", "method=lora", "method=lora,ia3,full")


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Store results of two models on two tasks."""
    for model, task in product(("a", "b"), ("sst2", "rte")):
        store(tmp_path, *(record_of(method=method, model=model, task=task) for method in ("lora", "ia3", "full")))
    return tmp_path


def test_filters_show_only_what_they_name(ask: Ask, several: Path) -> None:
    code, out, _ = ask(f"results_dir={several}", "model=b", "task=sst2", "method=lora,ia3")
    assert code == 0
    assert [line for line in out.splitlines() if " on " in line and line.count(" ") == 2] == ["b on sst2"]
    assert [method for method in ("lora", "ia3", "full") if method in out] == ["lora", "ia3"]


@pytest.mark.parametrize("given", FILTERS)
def test_a_filter_never_overwrites_files(given: str, ask: Ask, several: Path) -> None:
    assert ask(f"results_dir={several}")[0] == 0
    before = contents(several)
    code, out, _ = ask(f"results_dir={several}", given)
    assert code == 0
    assert "rendered" not in out
    assert "Nothing is written under a filter" in out
    assert contents(several) == before


@pytest.mark.parametrize("given", ["model=b", "task=sst2", "method=lora,ia3,full"])
def test_the_table_of_a_model_on_a_task_is_the_same_under_any_filter(given: str, ask: Ask, several: Path) -> None:
    _, whole, _ = ask(f"results_dir={several}")
    _, filtered, _ = ask(f"results_dir={several}", given)
    tables = [f"\n{part.strip()}\n" for part in re.split(r"\n(?=\w+ on \w+\n)", filtered.partition("\nNothing")[0])[1:]]
    assert len(tables) == (4 if "method" in given else 2)
    assert all(table in whole for table in tables)


def test_files_that_cannot_be_written_are_a_one_line_error(ask: Ask, tmp_path: Path) -> None:
    (store(tmp_path, record_of()) / "minilm" / "sst2" / "table.md").mkdir()
    code, _, err = ask(f"results_dir={tmp_path}")
    assert code == 2
    assert re.fullmatch(r"error: .*table\.md.* cannot be written \(.*\); a filter, such as task=, only prints\n", err)


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store a user's records and a committed study in a repository's results; return the folder of the studies."""
    monkeypatch.chdir(tmp_path)
    store(Path("results"), record_of(method="lora"))
    folder = tmp_path / "results" / "studies"
    store(folder / "heads", *(record_of(method=method) for method in ("head", "full")))
    monkeypatch.setattr(bench.report.studies, "STUDIES", folder)
    return folder


def test_a_study_is_never_mixed_with_the_records_of_the_user(ask: Ask, studies: Path) -> None:
    _, own, _ = ask()
    _, study, _ = ask("study=heads")
    methods = ("lora", "head", "full")
    rows = [[name for name in methods if f"\n{name} " in out] for out in (own, study)]
    assert rows == [["lora"], ["head", "full"]]


def test_study_only_reads_and_results_dir_writes(ask: Ask, studies: Path) -> None:
    before = contents(studies.parent)
    code, out, _ = ask("study=heads")
    assert code == 0
    assert "Nothing is written into a study" in out
    assert contents(studies.parent) == before
    assert ask(f"results_dir={studies / 'heads'}")[0] == 0
    assert (studies / "heads" / "minilm" / "sst2" / "table.md").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["study=tails"], "study=tails is unknown; choose from heads"),
    (["study=../studies/heads"], "study=../studies/heads is unknown; choose from heads"),
    (["study=heads", "results_dir=results"], "results_dir=results and study=heads name two folders; give one of them"),
    (
        ["study=heads", "method=lora"],
        "none of the 2 records in {folder}/heads passes the filter; method is one of full, head",
    ),
    (["compare", "study=tails", "a=lora", "b=ia3"], "study=tails is unknown; choose from heads"),
])  # fmt: skip
def test_an_invalid_study_is_a_one_line_error(arguments: list[str], message: str, ask: Ask, studies: Path) -> None:
    assert ask(*arguments) == (2, "", f"error: {message.format(folder=studies)}\n")


@pytest.mark.usefixtures("studies")
def test_an_installed_package_says_that_it_has_no_studies(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.report.studies, "STUDIES", Path("nowhere"))
    code, out, err = ask("study=heads")
    assert (code, out) == (2, "")
    assert err.startswith("error: study=heads: studies are part of the repository and not of the installed package;")
    assert err.count("\n") == 1


@pytest.mark.parametrize("with_perf", [True, False])
def test_without_records_the_report_says_what_to_do(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_perf: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if with_perf:
        store(Path("results", "perf"), record_of())
    code, out, err = ask()
    assert (code, out) == (2, "")
    assert err.startswith("error: nothing is recorded in results yet: run 'python -m bench.run -m method=lora,adapter")
    assert all(f"study={name}" in err for name in study_names())
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", study_names())
def test_every_committed_study_is_shown_and_documents_how_it_was_made(name: str, ask: Ask) -> None:
    code, out, err = ask(f"study={name}")
    assert (code, err) == (0, "")
    assert " on " in out
    readme = (study_folder(name) / "README.md").read_text(encoding="utf-8")
    assert "python -m bench.run " in readme
    assert "CPU" in readme or "GPU" in readme


@pytest.mark.parametrize(("arguments", "message"), [
    (["model=nobody"], "none of the 2 records in {folder} passes the filter; model is one of minilm"),
    (["colour=red"], "unknown setting 'colour=red'; valid settings: results_dir=, study=, run=, model=, task="),
    (["minilm"], "unknown setting 'minilm'"),
    (["results_dir={folder}/nowhere"], "results_dir={folder}/nowhere is not a folder; run 'python -m bench.run' first"),
    (["results_dir={folder}/empty"], "nothing is recorded in {folder}/empty yet: run 'python -m bench.run"),
    (["results_dir={folder}/file.txt"], "results_dir={folder}/file.txt is not a folder"),
])  # fmt: skip
def test_wrong_input_is_a_one_line_error(arguments: list[str], message: str, ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, record_of(), probe_of())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = ask(f"results_dir={tmp_path}", *(argument.format(folder=tmp_path) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message.format(folder=tmp_path)}")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_torn_record_is_a_one_line_error_and_the_rest_is_shown(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, record_of())
    torn = tmp_path / "minilm" / "[torn] :x:.json"
    torn.write_text('{"schema": 1,')
    code, out, err = ask(f"results_dir={tmp_path}")
    assert code == 0
    assert err.startswith(f"{torn}: not a complete JSON file")
    assert err.count("\n") == 1
    assert "50.0 (1)" in out


def many() -> list[Record]:
    all_records = [probe_of(**cell) for cell in METHODS]
    for number, cell in enumerate(METHODS):
        all_records += seeds_of([0.5] * 3, [0.7 + number / 100, 0.72, 0.9], **cell)
    return all_records


def test_csv_holds_all_digits_of_the_numbers(ask: Ask, tmp_path: Path) -> None:
    assert ask(f"results_dir={store(tmp_path, *many())}")[0] == 0
    stored = pd.read_csv(tmp_path / "minilm" / "sst2" / "table.csv").set_index("cell")
    for record in (record for record in many() if record.kind == "probe"):
        assert record.cost is not None
        row = stored.loc[record.cell["id"]]
        for key in (*cells.COUNTS, *cells.RATES):
            assert row[key] == record.cost.get(key) or (record.cost.get(key) is None and pd.isna(row[key]))
    text = (tmp_path / "minilm" / "sst2" / "table.csv").read_text()
    assert ",1234567," in text
    assert ",0.30000000000000004," in text


def test_csv_markdown_and_terminal_agree(ask: Ask, tmp_path: Path) -> None:
    _, out, _ = ask(f"results_dir={store(tmp_path, *many())}")
    stored = pd.read_csv(tmp_path / "minilm" / "sst2" / "table.csv").set_index("cell")
    rows = rows_of(tmp_path / "minilm" / "sst2")
    assert len(rows) == len(stored) == len(METHODS)
    for row in rows:
        numbers = stored.loc[row["cell"]]
        assert row["accuracy %"] == f"{100 * numbers.report_score:.1f} +- {100 * numbers.report_std:.1f} (3)"
        assert row["lr"] == f"{numbers.lr:g}"
        (line,) = [line for line in out.splitlines() if row["cell"] in line]
        assert re.split(r"\s{2,}", line.strip()) == list(row.values())


def test_every_markdown_row_has_the_same_number_of_columns(ask: Ask, tmp_path: Path) -> None:
    all_records = [*many(), record_of(method="adapter", outcome="oom"), record_of(method="late", batch=64)]
    assert ask(f"results_dir={store(tmp_path, *all_records)}")[0] == 0
    text = (tmp_path / "minilm" / "sst2" / "table.md").read_text()
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {13}
    assert text.startswith("# minilm on sst2\n\n| ")


def test_the_caption_names_budget_protocol_and_every_machine(ask: Ask, tmp_path: Path) -> None:
    broken = record_of(seed=9, outcome="failed", provenance={})  # no worker was ready, so the device is unknown
    other = record_of(seed=8, provenance={"dtype": "bf16", "device_name": "a GPU [x]"})
    code, out, _ = ask(f"results_dir={store(tmp_path, broken, other, record_of(lr=1.0), record_of(method='ia3'))}")
    assert code == 0
    caption = " ".join(out.split())
    assert "Learning rates tried per cell: 1, 2." in caption
    assert "batch 32, weight decay 0.01, warm-up 0.06, clip 1.0; precision auto (" in caption
    assert "fp32 on a CPU" in caption
    assert "bf16 on a GPU [x]" in caption
    assert "None on" not in caption
    assert "With 100 report examples one standard error of an accuracy is about 5.0 points." in caption


def test_the_caption_shows_chance_majority_and_notes_on_the_data(ask: Ask, tmp_path: Path) -> None:
    notes = {"dtype": "fp32", "device_name": "a CPU", "notes": ["all parts come out of one file"]}
    scores = {"metric": "accuracy", "select": 0.5, "report": 0.5, "chance": 0.25, "majority": 0.322}
    trials = [replace(record_of(seed=seed, provenance=notes), scores=scores) for seed in (0, 1)]
    code, out, _ = ask(f"results_dir={store(tmp_path, *trials)}")
    caption = " ".join(out.split())
    assert code == 0
    assert "Guessing scores 25.0 % on the report part, its most frequent answer 32.2 %." in caption
    assert caption.count("Note: all parts come out of one file.") == 1


def on_terminal(width: int, tmp_path: Path, stored: list[Record]) -> list[str]:
    """Return the lines that a terminal of this width shows above the caption."""
    screen = StringIO()
    shown_on(Console(file=screen, width=width, force_terminal=True, color_system=None), tmp_path, stored)
    return re.split(r"\n(?:Bold: |Mean \+- )", screen.getvalue())[0].strip("\n").splitlines()[2:]


def shown_on(console: Console, tmp_path: Path, stored: list[Record]) -> None:
    commands.tables(Arguments("tables", store(tmp_path, *stored)), console, console)


@pytest.mark.parametrize(("width", "gone"), [
    (60, ["cell", "lr", "tuning", "%", "target", "outcome", "samples/s", "peak"]),
    (80, ["cell", "lr", "tuning", "%", "target", "outcome"]),
    (100, ["cell", "lr", "tuning"]),
    (140, []),
])  # fmt: skip
def test_a_narrow_terminal_shows_whole_rows_of_fewer_columns(width: int, gone: list[str], tmp_path: Path) -> None:
    lines = on_terminal(width, tmp_path, many())
    assert max(map(len, lines)) <= width
    rule = next(number for number, line in enumerate(lines) if set(line) <= set("─ "))
    heads, rows = " ".join(lines[:rule]), lines[rule + 1 :]
    assert len(rows) == len(METHODS)
    assert all(re.search(r"\d\d\.\d \+- \d+\.\d \(3\)", row) for row in rows)
    assert not [row for row in rows if "…" in row]
    assert "accuracy %" in heads
    names = set(heads.replace("accuracy %", "").split()) - {"MiB", "(resident)"}
    every = {"method", "rank", "target", "trainable", "%", "peak", "samples/s", "lr", "tuning", "outcome", "cell"}
    assert names == every - set(gone)


def test_a_narrow_terminal_names_the_omitted_columns(tmp_path: Path) -> None:
    for width, message in ((140, ""), (100, "on this narrow terminal: cell, lr, tuning; a wider one shows them.")):
        screen = StringIO()
        shown_on(Console(file=screen, width=width, force_terminal=True, color_system=None), tmp_path, many())
        assert ("Left out" in screen.getvalue()) == bool(message)
        assert message in " ".join(screen.getvalue().split())
    assert "Left out" not in (tmp_path / "minilm" / "sst2" / "table.md").read_text()


def test_a_narrow_terminal_still_shows_failures_and_distinguishes_rows(tmp_path: Path) -> None:
    all_records = [*many(), probe_of(target="qkvo"), *seeds_of([0.5], [0.7], target="qkvo")]
    all_records.append(record_of(target="qkvo", seed=1, outcome="oom"))
    for width in (60, 40):
        lines = on_terminal(width, tmp_path, all_records)
        (row,) = [line for line in lines if "qkvo" in line]
        assert "1 ok, 1 oom" in row
        assert "70.0 (1)" in row


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_pipe_gets_every_column_at_any_window_width(
    width: int, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = ask(f"results_dir={store(tmp_path, *many())}")
    assert code == 0
    rows = [line for line in out.splitlines() if " +- " in line and "Mean" not in line]
    assert len(rows) == len(METHODS)
    assert {len(re.split(r"\s{2,}", row.strip())) for row in rows} == {12}
    assert (
        "Mean +- standard deviation over n seeds (n = 3). Learning rate and checkpoint are chosen on the select part"
        in out
    )


def test_a_pipe_is_as_wide_as_its_longest_name_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    method = "a_method_with_a_name_of_its_own_that_is_longer_than_any_other_on_this_earth_and_in_heaven"
    store(tmp_path, probe_of(method=method), *seeds_of([0.5] * 2, [0.7, 0.8], method=method))
    assert cli([f"results_dir={tmp_path}"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if method in line]
    assert len(row) > terminal.PIPE_WIDTH
    assert len(re.split(r"\s{2,}", row.strip())) == 12


def test_the_report_needs_neither_torch_nor_wandb(tmp_path: Path) -> None:
    store(tmp_path, *many())
    child = (
        "import sys\n"
        "from bench.report.__main__ import cli\n"
        "assert cli(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'wandb', 'transformers', 'peft', 'hydra', 'datasets'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    command = [sys.executable, "-c", child, f"results_dir={tmp_path}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_report_writes_no_record_and_rendering_again_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    ask(f"results_dir={store(tmp_path, *many())}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert ask(f"results_dir={tmp_path}")[0] == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(path.suffix for path in before) == [".csv", ".html", *[".json"] * len(many()), ".md", ".md"]
