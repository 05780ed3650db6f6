"""Every table of hand-made records: its entries, marks and notes, in every format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_records import MIB, probe_of, race_record, record_of, store

from bench.records.record import Record
from bench.report.__main__ import cli
from bench.report.comparable import comparable
from bench.report.record_frame import Study
from bench.report.stats.ties import intervals_of, standings, with_intervals
from bench.report.tables.formats import FORMATS, LEGEND
from bench.report.tables.scores import TABLES
from bench.report.tables.table import BEST, TIED, Entry, Table

Ask = Callable[..., tuple[int, str, str]]
TRUTH = [row % 2 for row in range(400)]


def predictions(right: float, seed: int) -> list[int]:
    """Return predictions that are right on the share `right` of the rows; the seed chooses the wrong rows."""
    wrong = np.random.default_rng(seed).permutation(len(TRUTH))[: round((1 - right) * len(TRUTH))]
    return [1 - label if row in set(wrong.tolist()) else label for row, label in enumerate(TRUTH)]


MEMORY = {"weights": MIB, "gradients": 2 * MIB, "optimizer": 4 * MIB, "activations": 8 * MIB}


def cell(
    *rights: float,
    family: str | None = None,
    trainable: int = 1_234_567,
    offset: int = 0,
    tuned: bool = True,
    **more: Any,
) -> list[Record]:
    """Return a cell's probe, a trial per share of right answers on the report part, and a race if tuned."""
    probe = probe_of(trainable=trainable, **more)
    costs = {**(probe.cost or {}), "head_params": 770, "memory": MEMORY}
    records = [replace(probe, truth={"select": TRUTH, "report": TRUTH}, cost=costs)]
    for seed, right in enumerate(rights):
        answers = predictions(right, offset + seed)
        times = {"train_seconds": 9.0, "eval_seconds": 1.0, "samples": 60 * 1234.5}  # 60 s at the speed of probe_of
        trial = record_of(seed=seed, select=right, report=right, cost=times, **more)
        records.append(replace(trial, predictions={"select": answers, "report": answers}))
    if tuned and rights:
        records.append(race_record(**more))
    config = {**records[0].config, "method": {"family": family}}
    return [replace(record, config=config) for record in records]


def made(name: str, *cells: list[Record], metric: str = "report_score") -> Table:
    table = TABLES[name](Study.of(record for records in cells for record in records), metric)
    assert table is not None
    return table


def rows_of(table: Table) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows by the leading texts of each."""
    leading = [name for name in table.body if name in {"task", "method", "rank", "target", "base"}]
    return {tuple(row[name] for name in leading): row for row in table.body.to_dict("records")}  # type: ignore[misc]


def ablation() -> list[list[Record]]:
    """Return cells of two targets by rank: qv r=2 was not run, and q r=8 ran out of memory."""
    return [
        cell(0.70, 0.71, rank=1, target="q"),
        cell(0.72, 0.73, rank=2, target="q"),
        [*cell(rank=8, target="q"), record_of(outcome="oom", rank=8, target="q")],
        cell(0.80, 0.82, rank=1, target="qv"),
        cell(0.90, 0.91, rank=8, target="qv"),
    ]


def test_rank_by_target_has_targets_by_rank() -> None:
    table = made("rank_by_target", *ablation())
    assert list(table.body) == ["task", "method", "target", "r=1", "r=2", "r=8"]
    rows = rows_of(table)
    assert rows["sst2", "lora", "q"]["r=1"] == "70.5 +- 0.7"
    assert rows["sst2", "lora", "q"]["r=8"] == "OOM"
    assert rows["sst2", "lora", "qv"]["r=2"] == "-"
    assert rows["sst2", "lora", "qv"]["r=8"].standing == BEST  # type: ignore[attr-defined]
    assert "Missing from the grid: lora r=2 qv." in table.notes


def test_rows_begin_with_the_fewest_weight_types() -> None:
    targets = ["q", "k", "qv", "kv+down", "qkvo", "mlp", "all"]
    study = Study.of([record_of(target=target, rank=rank) for target in reversed(targets) for rank in (1, 4)])
    table = TABLES["rank_by_target"](study, "report_score")
    assert table is not None
    assert list(table.body["target"]) == targets


def test_any_metric_can_replace_the_score() -> None:
    rows = rows_of(made("rank_by_target", *ablation(), metric="samples_per_second"))
    assert rows["sst2", "lora", "qv"]["r=8"] == "1,234"


def test_a_cell_out_of_memory_is_never_blank_in_any_table() -> None:
    study = Study.of(record for records in ablation() for record in records)
    for name in ("cells", "rank_by_target", "capacity", "methods"):
        table = TABLES[name](study, "report_score")
        assert table is not None
        assert "OOM" in table.body.to_numpy().flatten().tolist(), name


def test_the_best_cell_and_its_ties_are_marked() -> None:
    best, close = cell(0.90, 0.91, 0.90, method="lora"), cell(0.89, 0.90, 0.90, method="ia3", rank=None, offset=10)
    worse = cell(0.60, 0.61, 0.60, method="head", rank=None, target=None, offset=20)
    body = made("cells", best, close, worse).body.set_index("method")["accuracy %"]
    assert [body[name].standing for name in ("lora", "ia3", "head")] == [BEST, TIED, ""]


def test_without_the_truth_only_the_best_is_marked_and_a_note_says_so() -> None:
    cells = [[replace(record, truth=None) for record in records] for records in (cell(0.9), cell(0.89, method="ia3"))]
    table = made("cells", *cells)
    assert sorted(entry.standing for entry in table.body["accuracy %"]) == ["", BEST]
    assert any(note.startswith("Ties are not marked") for note in table.notes)


def test_target_at_budget_groups_cells_of_equal_trainable_parameters() -> None:
    cells = [
        cell(0.7, rank=8, target="q", trainable=1770),
        cell(0.8, rank=4, target="qv", trainable=1770),
        cell(0.6, rank=2, target="qkvo", trainable=1780),
        cell(0.9, rank=64, target="q", trainable=9770),
    ]
    table = made("target_at_budget", *cells)
    assert {(row["target"], row["rank"]) for _, row in table.body.iterrows()} == {
        ("q", "8"),
        ("qv", "4"),
        ("qkvo", "2"),
    }
    assert set(table.body["trained below the head"]) == {"1,000", "1,010"}


def test_methods_have_a_column_for_each_task_and_an_average_of_all() -> None:
    cells = [cell(0.8, task="sst2"), cell(0.6, task="rte"), cell(0.9, task="sst2", method="ia3", rank=None)]
    rows = rows_of(made("methods", *cells))
    assert rows["lora", "8", "qv"]["average"] == "70.0"
    assert rows["ia3", "-", "qv"]["average"] == "-"
    assert rows["ia3", "-", "qv"]["rte"] == "-"
    assert list(rows["lora", "8", "qv"])[-3:] == ["rte", "sst2", "average"]


def test_cost_shows_memory_by_purpose_and_omits_unknown_columns() -> None:
    body = made("cost", cell(0.8)).body
    assert (body["weights MiB"][0], body["activations MiB"][0]) == ("1.0", "8.0")
    assert body["train s"][0] == "60"
    assert "allocated MiB" not in body
    assert "latency ms" not in body


def retaining(
    records: list[Record], before: float, *after: float | None, texts: str = "sha256:0123456789"
) -> list[Record]:
    """Return a cell's records with the losses of its trials on retention texts, before and after training."""
    probe, *trials, race = records
    retentions = [{"before": before, "after": loss, "tokens": 100, "texts": texts} for loss in after]
    pairs = zip(trials, retentions, strict=True)
    return [probe, race, *(replace(trial, scores={**(trial.scores or {}), "retention": loss}) for trial, loss in pairs)]


def test_intervals_of_the_table_equal_those_of_the_figures_and_the_page() -> None:
    study = Study.of([*cell(0.8, 0.9, method="lora"), *cell(0.7, 0.7, method="ia3"), *cell(method="full")])
    table = TABLES["cells"](study, "report_score")
    assert table is not None
    known = intervals_of(study, study.cells)
    assert len(known) == 2
    shown = dict(zip(table.body["cell"], table.body["95%"], strict=True))
    edges = with_intervals(study).set_index("cell")
    for name, (low, high) in known.items():
        assert low < float(study.cells.set_index("cell").loc[name, "report_score"]) < high  # type: ignore[arg-type]
        assert shown[name] == f"{100 * low:.1f} to {100 * high:.1f}"
        assert tuple(edges.loc[name, ["report_low", "report_high"]]) == (low, high)
    assert "-" in shown.values()
    assert table.notes[0] == "95%: t interval over seeds and examples."


def test_tables_without_a_column_of_rates_note_the_chosen_rates() -> None:
    records = [*cell(0.8, 0.9, method="lora"), *cell(0.7, 0.7, method="ia3")]
    assert "; chosen: ia3 0.001, lora 0.001." in "".join(made("methods", records).notes)
    assert "chosen:" not in "".join(made("cells", records).notes)
    many = [record for number in range(9) for record in cell(0.8, method=f"method{number}")]
    assert "the chosen rates are in table=cells" in "".join(made("methods", many).notes)


def test_retention_shows_the_loss_before_and_after() -> None:
    lora = retaining(cell(0.8, 0.9, method="lora"), 2.5, 2.7, 2.9)
    full = retaining(cell(0.9, 0.9, method="full", rank=None, target=None), 2.5, 3.5, None)
    table = made("retention", lora, full, cell(0.7, 0.7, method="bitfit"))
    rows = rows_of(table)
    assert set(rows) == {("sst2", "lora", "8", "qv"), ("sst2", "full", "-", "-")}
    row = rows["sst2", "lora", "8", "qv"]
    assert (row["loss before"], row["loss after"], row["forgotten"]) == ("2.500", "2.800 +- 0.141", "+0.300")
    assert rows["sst2", "full", "-", "-"]["loss after"] == "3.500"
    assert "texts" not in table.body
    assert table.notes[0].startswith("Loss: mean cross-entropy on texts outside the task, in nats per token")


def test_retention_on_different_texts_is_labelled() -> None:
    lora = retaining(cell(0.8, method="lora"), 2.5, 2.7)
    ia3 = retaining(cell(0.8, method="ia3"), 2.0, 2.1, texts="sha256:abcdef0123")
    assert made("retention", lora, ia3).body["texts"].tolist() == ["abcdef01", "01234567"]
    assert TABLES["retention"](Study.of(cell(0.8)), "report_score") is None


def test_quantisation_compares_one_method_over_several_bases() -> None:
    cells = [cell(0.8), cell(0.79, base="nf4"), cell(0.7, method="ia3", rank=None)]
    body = made("quantisation", *cells).body
    assert list(body["base"]) == ["full precision", "nf4"]
    assert set(body["method"]) == {"lora"}


def test_init_holds_only_soft_prompts() -> None:
    soft = [cell(0.7, method=name, target=None, family="soft prompts") for name in ("prompt", "prompt_text")]
    assert list(made("init", *soft, cell(0.9)).body["method"]) == ["prompt", "prompt_text"]


def test_outcomes_lists_unsuccessful_trials_with_their_errors() -> None:
    bad = [record_of(seed=seed, outcome=outcome) for seed, outcome in enumerate(("oom", "diverged"))]
    body = made("outcomes", bad, cell(0.8, method="ia3")).body
    rows = body[["seed", "outcome", "error"]].to_numpy().tolist()
    assert rows == [["0", "oom", "it broke"], ["1", "diverged", "it broke"]]


def test_a_table_with_nothing_to_compare_is_none() -> None:
    study = Study.of(cell(0.8))
    assert [name for name in TABLES if TABLES[name](study, "report_score") is not None] == [
        "cells", "methods", "rates", "cost",
    ]  # fmt: skip


def test_protocols_are_never_mixed_and_tasks_of_one_setting_share_a_table() -> None:
    records = [*cell(0.8, task="sst2"), *cell(0.6, task="rte"), *cell(0.7, task="sst2", dropout=0.1)]
    parts = comparable(Study.of(records))
    assert [sorted(zip(part.cells["task"], part.cells["report_score"], strict=True)) for part in parts] == [
        [("rte", 0.6), ("sst2", 0.8)] if parts[0].cells["report_score"].max() == 0.8 else [("rte", 0.6), ("sst2", 0.7)],
        [("sst2", 0.7)] if parts[0].cells["report_score"].max() == 0.8 else [("sst2", 0.8)],
    ]


TABLE = Table(
    "any",
    "a_b & <c>",
    pd.DataFrame(
        {"method": ["x_1|y", "z"], "score %": [Entry("90.0 +- 1.0", BEST), Entry("89.0", TIED)]}, dtype=object
    ),
    ["5% of <all> & more"],
    ("method",),
)


def test_markdown_marks_standings_and_aligns_columns() -> None:
    head, rule, first, second, blank, *notes = FORMATS["markdown"](TABLE).splitlines()
    assert [entry.strip() for entry in head.strip("|").split("|")] == ["method", "score %"]
    assert (rule.strip("|").split("|")[0][0], rule.strip("|")[-1]) == (":", ":")
    assert r"x_1\|y" in first
    assert "**90.0 +- 1.0**" in first
    assert "89.0*" in second
    assert (blank, notes) == ("", [" ".join(LEGEND.values()), "5% of <all> & more"])


def test_latex_escapes_texts_and_needs_only_booktabs() -> None:
    text = FORMATS["latex"](TABLE)
    assert r"\caption{a\_b \& <c>. " in text
    assert r"\begin{tabular}{lr}" in text
    assert r"x\_1|y & \textbf{90.0 $\pm$ 1.0} \\" in text
    assert r"z & 89.0$^*$ \\" in text
    assert [line for line in text.splitlines() if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_html_escapes_texts() -> None:
    text = FORMATS["html"](TABLE)
    assert "<caption>a_b &amp; &lt;c&gt;</caption>" in text
    assert '<td style="text-align:right"><b>90.0 &plusmn; 1.0</b></td>' in text
    assert "<p>5% of &lt;all&gt; &amp; more</p>" in text
    assert "<p>Mean &plusmn; spread</p>" in FORMATS["html"](replace(TABLE, notes=["Mean +- spread"]))


def test_csv_writes_standings_as_words() -> None:
    assert FORMATS["csv"](TABLE).splitlines() == ["method,score %", "x_1|y,90.0 +- 1.0 best", "z,89.0 tied"]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli([*arguments, f"results_dir={tmp_path}"]), *capsys.readouterr()

    return call


def test_a_single_table_is_only_printed(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *(record for records in ablation() for record in records))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = ask("table=rank_by_target", "format=latex")
    assert (code, err) == (0, "")
    assert out.startswith(r"\begin{table}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table=nine"], "table=nine is unknown; choose from cells, rank_by_target"),
        (["table=cells", "format=word"], "format=word is unknown; choose from markdown, latex, html, csv"),
        (["table=cells", "metric=beauty"], "metric=beauty is unknown; choose from"),
        (["table=quantisation"], "these records have nothing to compare in it; choose from cells, rank_by_target"),
        (["task=nothing"], "none of the"),
        (["compare", "a=lora"], "b= is missing"),
        (["compare", "a=lora", "b=nobody"], "'nobody' is not the id, title or method of any cell"),
        (["recommend", "memory_gb=much"], "memory_gb=much must be a number above 0 (gigabytes)"),
        (["figures", "figure=nine"], "figure=nine is unknown; choose from score_by_parameters"),
        (["paint"], "unknown command 'paint'; choose from tables, figures, compare"),
    ],
)
def test_a_wrong_command_line_is_a_one_line_error(words: list[str], message: str, ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *(record for records in ablation() for record in records))
    code, out, err = ask(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_compare_shows_difference_interval_p_value_and_cost(ask: Ask, tmp_path: Path) -> None:
    records = [*cell(0.90, 0.91, 0.90), *cell(0.80, 0.81, 0.80, method="ia3", rank=None, trainable=617_284, offset=9)]
    store(tmp_path, *records)
    code, out, err = ask("compare", "a=lora", "b=ia3")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "lora r=8 qv is ahead of ia3 r=None qv by 10.0 points on sst2 (minilm; 95% interval " in text
    assert ", p < 0.001): the difference is significant." in text
    assert "2.00 times the trained parameters" in text
    code, out, _ = ask("compare", "a=ia3", "b=lora")
    assert "lora r=8 qv is ahead of ia3 r=None qv by 10.0 points" in " ".join(out.split())


def test_a_part_of_a_table_has_the_verdicts_of_the_whole_table() -> None:
    """LoRA's two ranks differ significantly alone, but not in the table of twenty others, whichever cells are shown."""
    ranks = [cell(0.86, 0.86, 0.86, rank=4), cell(0.82, 0.82, 0.82, rank=8, offset=50)]
    others = [cell(0.8, 0.8, 0.8, method=f"m{n}", rank=None, offset=100 + 10 * n) for n in range(20)]
    alone = Study.of(record for records in ranks for record in records)
    whole = Study.of(record for records in [*ranks, *others] for record in records)
    lora = whole.cells[whole.cells["method"] == "lora"]
    assert sorted(standings(alone, alone.cells).values()) == [BEST]
    assert sorted(standings(whole, lora).values()) == sorted([BEST, TIED])
    assert set(standings(whole, lora).items()) <= set(standings(whole, whole.cells).items())


def test_cells_that_share_no_table_are_not_compared(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *cell(0.9), *cell(0.8, method="ia3", dropout=0.1))
    code, _, err = ask("compare", "a=lora", "b=ia3")
    assert code == 2
    assert "share no table" in err


def test_recommend_chooses_on_select_and_states_significance(ask: Ask, tmp_path: Path) -> None:
    big = cell(0.90, 0.91, 0.90, method="full", rank=None, target=None, trainable=20_000_000)
    small = cell(0.90, 0.90, 0.90, trainable=70_770, offset=10)
    poor = cell(0.60, 0.60, 0.61, method="head", rank=None, target=None, trainable=770, offset=20)
    store(tmp_path, *big, *small, *poor)
    code, out, err = ask("recommend", "memory_gb=8")
    text = " ".join(out.split())
    assert (code, err) == (0, "")
    assert "take full r=None None at learning rate 0.001." in text
    assert "It does not differ significantly from the runner-up, lora r=8 qv" in text
    assert "the smallest such cell is lora r=8 qv" in text
    code, out, _ = ask("recommend", "params=1e5")
    text = " ".join(out.split())
    assert "take lora r=8 qv" in text
    assert "The runner-up, head r=None None, is significantly worse" in text
    code, out, _ = ask("recommend", "params=10")
    assert "no recorded cell stays under 10 trained parameters" in " ".join(out.split())
    code, out, _ = ask("recommend", "latency_ms=5")
    assert "the cost of 3 cells was not measured" in " ".join(out.split())


def test_recommend_says_if_the_runner_up_is_better_on_the_report_part(ask: Ask, tmp_path: Path) -> None:
    chosen = [
        replace(record, scores={**record.scores, "select": 0.95}) if record.scores else record
        for record in cell(0.60, 0.61, 0.60)
    ]
    store(tmp_path, *chosen, *cell(0.90, 0.90, 0.91, method="ia3", offset=9))
    text = " ".join(ask("recommend")[1].split())
    assert "take lora r=8 qv" in text
    assert "The runner-up, ia3 r=8 qv, is significantly better on the report part (p < 0.001)." in text


def test_recommend_says_when_there_are_too_few_cells(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *cell(0.9))
    code, out, _ = ask("recommend")
    assert code == 0
    assert "too few cells to choose from: 1 scored cell of 1" in " ".join(out.split())
