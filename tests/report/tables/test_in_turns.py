"""cost=only measures the costs of a grid in interleaved rounds and trains nothing."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records import record as records
from bench.report.record_frame import Study
from bench.report.tables.cost_turns import turns

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_cost_only_measures_in_turns_and_trains_nothing(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    given = [argument for argument in tiny if not argument.startswith("rank=")]
    done = inline("-m", "method=lora,bitfit,ia3", "rank=4,8", *given, "cost=only")
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [line.rpartition(":")[0] for line in done.stdout.splitlines() if line.startswith("round")]
    cells = ["lora r=4 qv", "lora r=8 qv", "bitfit", "ia3 kv+down"]
    assert rounds == [f"round {number}/3 {cell}" for number in (1, 2, 3) for cell in cells]
    probes = list(records.read_all(tmp_path / "results", pytest.fail))
    assert [probe.kind for probe in probes] == ["probe"] * 4
    first = next(probe.cell["id"] for probe in probes if probe.cell["title"] == cells[0])
    for probe in probes:
        assert probe.cost is not None
        measured = probe.cost["turns"]
        assert measured["first"] == first
        assert probe.cost["samples_per_second"] == sorted(measured["samples_per_second"])[1]
        if probe.cell["id"] == first:
            assert measured["ratios"] == [1.0] * 3
    table = turns(Study.of(probes))
    assert table is not None
    assert list(table.body["to"]) == [cells[0]] * 4
    assert "1.00 (1.00 to 1.00)" in done.stdout
    assert "4 cells, 0 trials" in done.stdout


def test_cost_only_replaces_a_recorded_cost_and_keeps_trials(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    inline("method=lora", *tiny, "seeds=[0]")
    (path,) = (tmp_path / "results").rglob("*seed0.json")
    before = path.read_bytes()
    assert inline("method=lora", *tiny, "cost=only").returncode == 0
    assert path.read_bytes() == before
    (probe,) = (record for record in records.read_all(tmp_path / "results", pytest.fail) if record.kind == "probe")
    assert probe.cost is not None
    assert "turns" in probe.cost
    assert "1 recorded, 0 to train" in inline("method=lora", *tiny, "seeds=[0]").stdout


def test_cost_only_stops_before_any_work_if_an_input_is_missing(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline("method=lora", *tiny, "cost=only", "task.path=/nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()
