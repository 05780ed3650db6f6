"""What may be compared: rates on common seeds, copies of records, machines, versions, tasks and metrics."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_records import MIB, probe_of, record_of, store
from test_tables import cell, made

from bench.records import record as records
from bench.records.record import Record
from bench.report.__main__ import cli
from bench.report.arguments import parse
from bench.report.cells import fairness
from bench.report.figures.figures import FIGURES
from bench.report.recommend import Limit, limits_of, recommend_cells
from bench.report.record_frame import Study
from bench.report.tables.formats import FORMATS, notes_with_legend

Ask = Callable[..., tuple[int, str, str]]
XEON = {"device": "cpu", "device_name": "a Xeon", "threads": 2, "dtype": "fp32"}
EPYC = {"device": "cpu", "device_name": "an EPYC", "threads": 2, "dtype": "bf16"}


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """Run the report's command line in this process; return exit code, stdout without line breaks, and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli([*words, f"results_dir={tmp_path}"])
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), err

    return call


def at_rate(lr: float, selects: dict[int, float], **more: Any) -> list[Record]:
    """Return trials of one rate, given their score on select by seed."""
    return [record_of(lr=lr, seed=seed, select=select, report=select, **more) for seed, select in selects.items()]


def flat(cells: list[list[Record]]) -> list[Record]:
    return [record for cell_records in cells for record in cell_records]


def row_of(*cells: list[Record]) -> dict[str, Any]:
    ((_, row),) = Study.of(flat(list(cells))).cells.iterrows()
    return dict(row)


# ---- Learning rates ------------------------------------------------------------------------------------------------


def test_a_rate_with_more_seeds_does_not_win_by_their_number() -> None:
    """The better rate was trained with three seeds, the worse one with five."""
    better, worse = dict.fromkeys(range(3), 0.861), dict.fromkeys(range(5), 0.811)
    assert row_of(at_rate(5e-4, better), at_rate(1e-5, worse))["lr"] == 5e-4


def test_rates_are_compared_on_their_common_seeds() -> None:
    """Seed 2 is lucky, and only the second rate has it."""
    first, second = {0: 0.80, 1: 0.82}, {0: 0.78, 1: 0.79, 2: 0.99}
    row = row_of(at_rate(1e-3, first), at_rate(1e-4, second))
    assert (row["lr"], row["seeds"]) == (1e-3, 2)


def test_a_rate_that_lost_a_seed_is_excluded_and_a_rate_with_fewer_seeds_is_not() -> None:
    lost = [*at_rate(1e-2, {0: 0.95}), record_of(lr=1e-2, seed=1, outcome="diverged")]
    assert row_of(lost, at_rate(1e-3, {0: 0.9, 1: 0.8}), at_rate(1e-4, {0: 0.85}))["lr"] == 1e-3


def test_the_only_rate_is_shown_even_if_it_lost_a_seed() -> None:
    row = row_of([*at_rate(1e-2, {0: 0.9, 1: 0.8}), record_of(lr=1e-2, seed=2, outcome="oom")])
    assert (row["lr"], row["seeds"], row["outcome"]) == (1e-2, 2, "2 ok, 1 oom")


def test_without_common_seeds_no_rate_is_chosen_and_a_note_says_so() -> None:
    trials = [*at_rate(1e-3, {0: 0.9}), *at_rate(1e-4, {1: 0.8})]
    table = made("cells", trials)
    assert table.body["accuracy %"][0] == table.body["lr"][0] == "-"
    assert "No learning rate is chosen for lora r=8 qv: its rates have no seed in common." in table.notes


# ---- Copies ----------------------------------------------------------------------------------------------------------


def named(record: Record, model: str, written: str | None = None) -> Record:
    """Return the same record as made with the model in a folder of another name."""
    provenance = record.provenance | ({"written": written} if written else {})
    return replace(record, cell=record.cell | {"model": model}, provenance=provenance)


def test_one_model_under_two_names_counts_every_seed_once() -> None:
    trials = at_rate(1e-3, {0: 0.9, 1: 0.8, 2: 0.7})
    study = Study.of([*trials, *(named(trial, "the-same") for trial in trials)])
    assert len(study.cells) == 1
    assert study.cells["seeds"][0] == 3


def test_the_newest_copy_counts_but_never_replaces_a_final_one() -> None:
    (old,) = at_rate(1e-3, {0: 0.5})
    new = named(replace(old, scores={"metric": "accuracy", "select": 0.9, "report": 0.9}), "other", "2026-01-02T00:00")
    old = named(old, "minilm", "2026-01-01T00:00")
    lost = named(record_of(seed=0, outcome="interrupted"), "third", "2026-01-03T00:00")
    for order in ([old, new, lost], [lost, new, old]):
        assert row_of(order)["report_score"] == 0.9


def test_a_filter_by_one_name_shows_all_seeds_of_the_model(ask: Ask, tmp_path: Path) -> None:
    first, second = at_rate(1e-3, {0: 0.9, 1: 0.8})
    store(tmp_path, probe_of(), first, named(second, "the-same"))
    code, out, _ = ask("model=the-same", "table=cells", "format=csv")
    assert code == 0
    assert "85.0 +- 7.1 (2)" in out


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\\b", "C:", ""])
def test_no_name_in_a_record_becomes_a_path(name: str, ask: Ask, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (good,) = at_rate(1e-3, {0: 0.9})
    records.write(results / "bad.json", replace(good, cell=good.cell | {"model": name}))
    store(results, good)
    before = {path for path in tmp_path.rglob("*") if results not in path.parents}
    assert cli([f"results_dir={results}"]) == 0
    assert {path for path in tmp_path.rglob("*") if results not in path.parents} == before
    with pytest.raises(records.RecordError, match=r"cell\.model is .* which is not a valid file name"):
        records.read(results / "bad.json")


# ---- Machines --------------------------------------------------------------------------------------------------------


def measured(machine: dict[str, Any], speed: float, *rights: float, **more: Any) -> list[Record]:
    """Return a cell measured on `machine` at `speed` samples per second, with 1,200 rows per training."""
    probe, *trials = cell(*rights, **more)
    cost = {**(probe.cost or {}), "samples_per_second": speed, "peak_resident_bytes": 900 * MIB, "latency": None}
    probe = replace(probe, cost=cost, provenance=machine)
    packed = {"samples": 1200, "train_seconds": 1.0, "pack": 9}
    return [probe, *(replace(trial, cost=packed, provenance=machine) for trial in trials)]


def mixed() -> list[list[Record]]:
    """Return two cells measured on a Xeon and one measured on an EPYC."""
    return [
        measured(XEON, 100.0, 0.8, 0.8, rank=1),
        measured(XEON, 120.0, 0.8, 0.9, rank=8),
        measured(EPYC, 9000.0, 0.9, 0.9, rank=64),
    ]


def test_a_column_of_costs_holds_costs_of_a_single_machine() -> None:
    for name in ("cells", "cost"):
        table = made(name, *mixed())
        assert list(table.body["samples/s"]) == ["100", "120", "-"]
        assert "9,000" not in table.body.to_string()
        assert list(table.body["trainable"]) == ["1,234,567"] * 3
        (note,) = (line for line in table.notes if line.startswith("Speed and peak memory"))
        assert "a Xeon, fp32, 2 threads" in note
        assert "lora r=64 qv" in note


def test_training_time_is_that_of_a_single_trial_and_not_of_a_pack() -> None:
    """1,200 rows at 100 rows per second take 12 s, whatever the trials took in a pack."""
    assert made("cost", *mixed()).body["train s"][0] == "12"
    figure = FIGURES["score_by_time"](Study.of(flat(mixed())))
    assert figure is not None
    (shown,) = (trace for trace in figure.data if trace.name == "lora")
    assert list(shown.x) == [12.0, 10.0]
    text, _ = recommend_cells(Study.of(flat(mixed())), [Limit("train_seconds", 11.0, "11 seconds")])
    assert "take lora r=8 qv" in text
    assert "Left out, because their cost was not measured or was disturbed by other load: 1 cell." in text


def test_costs_of_two_machines_have_no_ratio(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *flat(mixed()))
    _, out, _ = ask("compare", "a=lora r=1 qv", "b=lora r=64 qv")
    assert "1.00 times the trained parameters of lora r=64 qv." in out
    assert "times the time per step" not in out
    assert "measured on another machine" in out
    _, out, _ = ask("compare", "a=lora r=1 qv", "b=lora r=8 qv")
    assert "times the time per step" in out


def test_two_cells_of_the_rarer_machine_are_compared(ask: Ask, tmp_path: Path) -> None:
    second_epyc = measured(EPYC, 4500.0, 0.9, 0.8, rank=16)
    store(tmp_path, *flat([*mixed(), measured(XEON, 90.0, 0.9, 0.8, rank=2), second_epyc]))
    _, out, _ = ask("compare", "a=lora r=64 qv", "b=lora r=16 qv")
    assert "samples/s 9,000 4,500" in out


# ---- Other load on the machine --------------------------------------------------------------------------------------


def under_load(cell_records: list[Record]) -> list[Record]:
    """Return the cell as recorded by a probe that other load disturbed."""
    load = {"contended": "other processes used 1.2 of 2 cores", "latency": {"adapted": {"1": {"median": 0.25}}}}
    return [
        replace(record, cost=(record.cost or {}) | load) if record.kind == "probe" else record
        for record in cell_records
    ]


def disturbed() -> list[list[Record]]:
    """Return two cells; the better one is also the faster one, but was measured under other load."""
    return [measured(XEON, 100.0, 0.7, 0.8, rank=1), under_load(measured(XEON, 120.0, 0.8, 0.9, rank=8))]


@pytest.mark.parametrize(
    ("name", "heads"),
    [("cells", ["samples/s"]), ("cost", ["samples/s", "tokens/s", "s/step", "train s", "latency ms"])],
)
def test_a_cost_measured_under_other_load_is_marked_in_every_table(name: str, heads: list[str]) -> None:
    table = made(name, *disturbed())
    for head in heads:
        calm, marked = table.body[head]
        assert not calm.startswith("~")
        assert marked.startswith("~")
    assert list(table.body["trainable"]) == ["1,234,567"] * 2
    for write in FORMATS.values():
        assert "~120" in write(table).replace(r"\textasciitilde{}", "~")
    assert any(note.startswith("~: measured under other load") for note in notes_with_legend(table))
    assert not any(note.startswith("~") for note in notes_with_legend(made(name, *mixed())))


def test_a_pivot_over_speed_marks_disturbed_costs() -> None:
    row = made("capacity", *disturbed(), metric="samples_per_second").body.to_dict("records")[0]
    assert (row["r=1"], row["r=8"]) == ("100", "~120")
    row = made("capacity", *disturbed(), metric="trainable_params").body.to_dict("records")[0]
    assert not row["r=8"].startswith("~")


def test_no_cell_is_best_by_a_cost_measured_under_other_load() -> None:
    study = Study.of(flat([*disturbed(), measured(XEON, 90.0, 0.6, 0.7, rank=2)]))
    for limit in (Limit("train_seconds", 60.0, "a minute"), Limit("latency_adapted", 1.0, "1,000 ms")):
        text, _ = recommend_cells(study, [limit])
        assert "take lora r=8" not in text
    assert "take lora r=8 qv" in recommend_cells(study, [])[0]
    figure = FIGURES["score_by_time"](study)
    assert figure is not None
    front, points = figure.data
    assert list(front.x) == [12.0]
    assert sorted(points.x) == [12.0, pytest.approx(1200 / 90)]


def test_a_cost_measured_under_other_load_has_no_ratio(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *flat(disturbed()))
    _, out, _ = ask("compare", "a=lora r=1 qv", "b=lora r=8 qv")
    assert "times the peak memory of lora r=8 qv" in out
    assert "times the time per step" not in out
    assert "samples/s 100 ~120" in out
    assert "~: measured under other load" in out


# ---- Memory of a process -------------------------------------------------------------------------------------------


def with_own(cell_records: list[Record], own: int, whole: int) -> list[Record]:
    memory = {"peak_own_bytes": own * MIB, "peak_resident_bytes": whole * MIB}
    return [
        replace(record, cost=(record.cost or {}) | memory) if record.kind == "probe" else record
        for record in cell_records
    ]


def test_memory_is_compared_without_the_servers_share_and_limited_with_it(tmp_path: Path) -> None:
    """The whole process must fit into a limit."""
    cells = [with_own(cell(0.8, 0.9), 100, 600), with_own(cell(0.7, 0.8, rank=1), 50, 550)]
    assert list(made("cells", *cells).body["peak MiB (own)"]) == ["50", "100"]
    body = made("cost", *cells).body
    assert list(zip(body["own MiB"], body["resident MiB"], strict=True)) == [("50.0", "550.0"), ("100.0", "600.0")]
    study = Study.of(flat(cells))
    limit = limits_of(parse(["recommend", "memory_gb=0.6", f"results_dir={tmp_path}"]))  # 572 MiB
    assert "take lora r=1 qv" in recommend_cells(study, limit)[0]


def test_records_without_the_cells_own_memory_show_the_whole_process() -> None:
    assert list(made("cells", cell(0.8, 0.9)).body["peak MiB (resident)"]) == ["512"]


# ---- Versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cells", "methods", "cost", "outcomes"])
def test_a_table_of_mixed_versions_or_commits_has_a_note(name: str) -> None:
    older, newer = ({"commit": commit, "dirty": False, "packages": {"torch": torch}} for commit, torch in VERSIONS)
    all_records = [replace(record, provenance=older) for record in cell(0.8, 0.9)]
    bad = [record_of(method=method, seed=3, outcome="failed") for method in ("lora", "ia3")]
    all_records += [replace(record, provenance=newer) for record in [*cell(0.7, 0.8, method="ia3"), *bad]]
    notes = made(name, all_records).notes
    assert "Mixed versions, in records: torch 2.13.0 (6), 2.11.0 (4); commit 2222222222 (6), 1111111111 (4)." in notes
    assert not any("Mixed" in line for line in made("cells", cell(0.8)).notes)


VERSIONS = [("1" * 40, "2.11.0"), ("2" * 40, "2.13.0")]


def test_records_of_two_versions_of_the_numerics_share_no_table(ask: Ask, tmp_path: Path) -> None:
    old, new = cell(0.8, 0.9), cell(0.7, 0.8, method="ia3")
    store(tmp_path, *old, *(replace(record, identity=record.identity | {"numerics": 2}) for record in new))
    ask()
    page = (tmp_path / "minilm" / "sst2" / "table.md").read_text()
    assert "Table 1 of 2, not to be compared with the others: numerics=2." in page
    assert "Table 2 of 2, not to be compared with the others: numerics=unset." in page


# ---- Tasks and their metrics -----------------------------------------------------------------------------------------


def scored_by(metric: str, cell_records: list[Record]) -> list[Record]:
    return [replace(record, scores=record.scores and record.scores | {"metric": metric}) for record in cell_records]


def two_tasks() -> list[list[Record]]:
    return [
        cell(0.8, 0.9, task="sst2"),
        scored_by("matthews_correlation", cell(0.5, 0.6, task="cola")),
        cell(0.7, 0.7, rank=1, task="sst2"),
        scored_by("matthews_correlation", cell(0.4, 0.4, rank=1, task="cola")),
    ]


@pytest.mark.parametrize("name", ["cells", "capacity"])
def test_a_row_names_its_task_and_its_metric(name: str) -> None:
    body = made(name, *two_tasks()).body
    assert set(zip(body["task"], body["metric"], strict=True)) == {
        ("cola", "matthews correlation"),
        ("sst2", "accuracy"),
    }
    assert not [head for head in body if head in {"accuracy %", "matthews correlation %"}]


def test_methods_by_task_name_the_metric_of_every_task() -> None:
    assert {"cola matthews correlation %", "sst2 accuracy %"} <= set(made("methods", *two_tasks()).body)


def test_a_single_task_has_no_column() -> None:
    body = made("cells", cell(0.8, 0.9), cell(0.7, 0.8, rank=1)).body
    assert not {"task", "metric"} & set(body)
    assert "accuracy %" in body


# ---- Verdicts --------------------------------------------------------------------------------------------------------


def test_compare_and_recommend_correct_for_the_whole_table(ask: Ask, tmp_path: Path) -> None:
    """Alone, the two cells differ with p below 5%; in a table with twelve more, they are one pair of 91."""
    pair = [*cell(0.86, 0.86, 0.86, rank=4), *cell(0.82, 0.82, 0.82, method="ia3", offset=50)]
    store(tmp_path, *pair)
    assert "the difference is significant" in ask("compare", "a=lora", "b=ia3")[1]
    assert "is significantly worse" in ask("recommend")[1]
    for number in range(12):
        store(tmp_path, *cell(0.84, 0.84, 0.84, method=f"method{number}", offset=100 + 10 * number))
    _, out, _ = ask("compare", "a=lora", "b=ia3")
    assert "both hold for all pairs of the table's 14 cells together): they cannot be distinguished." in out
    assert "It does not differ significantly from the runner-up" in ask("recommend")[1]


def test_with_one_seed_there_is_no_test_and_every_output_says_so(ask: Ask, tmp_path: Path) -> None:
    """This holds for any difference, because other seeds may score differently."""
    cells = [cell(0.95), cell(0.55, method="ia3", offset=9)]
    store(tmp_path, *flat(cells))
    _, out, _ = ask("compare", "a=lora", "b=ia3")
    assert "over examples, for these trained models only); with one seed there is no test between methods" in out
    assert not any(word in out for word in ("p =", "significant", "chance"))
    assert "with one seed there is no test between methods" in ask("recommend")[1]
    notes = made("cells", *cells).notes
    assert "95%: t interval over examples for this trained model only: other seeds score differently." in notes
    assert "Ties are not marked: with one seed there is no test between methods; train at least three." in notes
    assert not any("over seeds" in line for line in notes)


def test_cells_of_one_seed_among_others_are_named() -> None:
    notes = made("cells", cell(0.8, 0.82), cell(0.8, 0.81, method="ia3", offset=5), cell(0.9, method="full")).notes
    assert any(line.startswith("Not tested: full r=8 qv;") for line in notes)
    assert "95%: t interval over seeds and examples; with one seed, over examples for this trained model only." in notes


def test_a_users_method_shares_our_table_and_a_users_loader_does_not() -> None:
    """The source of a method is part of the method, like its name. A table shares the code that loads the data."""
    ours = record_of()
    call = {"call": "own_bias.attach"}
    method = {**ours.identity["method"], "name": "own", "attach": call}
    own = replace(ours, identity={**ours.identity, "method": method, "sources": {"own_bias.attach": "sha256:1"}})
    assert fairness(own) == fairness(ours)
    loaded = replace(own, identity={**own.identity, "sources": {"own_task.load": "sha256:2"}})
    assert fairness(loaded) != fairness(ours)
    other = replace(loaded, identity={**own.identity, "sources": {"own_task.load": "sha256:3"}})
    assert fairness(other) != fairness(loaded)
