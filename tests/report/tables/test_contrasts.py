"""Our differences between ranks and targets next to the paper's: the same pairs, with the intervals of `compare`."""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from sample_records import race_record, record_of, store

from bench.records import record as records
from bench.report.arguments import parse
from bench.report.commands import tables
from bench.report.compare import difference
from bench.report.record_frame import Study
from bench.report.tables.contrasts import against_paper, contrasts
from bench.report.tables.table import DASH


def _records(
    ranks: tuple[int, ...], targets: tuple[str, ...], seeds: int = 3, *, tuned: bool = True
) -> list[records.Record]:
    """Return LoRA trials and their truth; each next pair of target and rank has two more of 100 answers right."""
    stored = []
    for step, (target, rank) in enumerate((target, rank) for target in targets for rank in ranks):
        for seed in range(seeds):
            wrong = {(7 * seed + 3 * place) % 100 for place in range(30 - 2 * step)}
            answers = [int(place in wrong) for place in range(100)]
            score = 1 - len(wrong) / 100
            trial = record_of(rank=rank, target=target, seed=seed, select=score, report=score)
            stored.append(replace(trial, predictions={"select": [0, 1], "report": answers}))
        stored += [race_record(rank=rank, target=target)] if tuned else []
        truth = {"select": [0, 1], "report": [0] * 100}
        stored.append(replace(record_of("probe", rank=rank, target=target), truth=truth))
    return stored


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.of(_records((1, 8), ("q", "qv")))


def rows(body: pd.DataFrame) -> dict[str, dict[str, str]]:
    return {row["difference"]: row.to_dict() for _, row in body.iterrows()}


def test_contrasts_equal_the_pairs_of_the_papers_tables() -> None:
    six, five = [str(pair) for pair in contrasts("6")], [str(pair) for pair in contrasts("5")]
    assert len(six) == len(set(six)) == 3 * 4 + 2 * 5
    assert {"q r=8 - q r=1", "qkvo r=64 - qkvo r=1", "q r=1 - qv r=1", "qkvo r=64 - qv r=64"} <= set(six)
    assert five == [f"{setting} - qv r=4" for setting in ("q r=8", "k r=8", "v r=8", "o r=8", "qk r=4", "qkvo r=2")]


def test_our_differences_have_the_interval_of_compare_and_the_papers_their_spread(study: Study) -> None:
    table = against_paper(study, "6")
    assert table is not None
    row = rows(table.body)["q r=8 - q r=1"]
    a, b = (study.cells[study.cells["title"] == title].iloc[0] for title in ("lora r=8 q", "lora r=1 q"))
    pair = difference(study, a, b)
    assert pair.interval is not None
    low, high = (100 * edge for edge in pair.interval)
    assert row["sst2, ours"] == f"+2.0 ({low:.1f} to {high:.1f})"
    assert row["wikisql, the paper's"] == "+1.6 +- 0.7"
    assert row["mnli, the paper's"] == "+0.0 +- 0.1"


def test_a_missing_pair_is_a_dash_and_a_study_without_pairs_has_no_table(study: Study) -> None:
    table = against_paper(study, "6")
    assert table is not None
    assert rows(table.body)["qkvo r=8 - qv r=8"]["sst2, ours"] == DASH
    assert against_paper(study, "5") is None
    assert against_paper(Study.of([record_of(method="ia3", seed=seed) for seed in range(3)]), "6") is None


def test_with_one_seed_the_interval_is_over_examples_and_a_note_says_so() -> None:
    table = against_paper(Study.of(_records((1, 8), ("q",), seeds=1)), "6")
    assert table is not None
    assert "with one seed" in table.notes[1]
    assert "(" in rows(table.body)["q r=8 - q r=1"]["sst2, ours"]


def test_untuned_rates_have_no_interval_and_a_note_says_so() -> None:
    table = against_paper(Study.of(_records((1, 8), ("q",), tuned=False)), "6")
    assert table is not None
    assert rows(table.body)["q r=8 - q r=1"]["sst2, ours"] == "+2.0"
    assert "No interval where" in table.notes[2]


def test_the_command_shows_differences_below_the_published_values(tmp_path: Path) -> None:
    store(tmp_path / "results", *_records((1, 8), ("q", "qv")))
    output, console = io.StringIO(), Console(file=io.StringIO())
    arguments = parse(["table=rank_by_target", "published=true", f"results_dir={tmp_path / 'results'}"])
    tables(arguments, Console(file=output, width=300), console)
    assert output.getvalue().index("Source: Hu et al. 2021") < output.getvalue().index("Differences in points")
