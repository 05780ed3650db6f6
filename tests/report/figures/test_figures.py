"""Figures of hand-made records: their traces, the look of each method, and files of every format."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from sample_records import record_of, store
from test_tables import cell

from bench.report.__main__ import cli
from bench.report.figures.figures import FIGURES, OVER_TASKS
from bench.report.figures.styles import COLOURS, FIRST, look_of
from bench.report.record_frame import Study
from bench.report.stats.pareto import front

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def study() -> Study:
    records = [
        *cell(0.70, 0.72, rank=1, trainable=1_000),
        *cell(0.80, 0.82, rank=8, trainable=8_000, offset=5),
        *cell(0.75, 0.76, method="ia3", rank=None, trainable=5_000, offset=9),
        record_of(seed=0, lr=1e-2, select=0.4, report=0.4, rank=8),
    ]
    return Study.of(records)


def test_the_front_holds_the_cells_that_no_other_cell_beats() -> None:
    generator = np.random.default_rng(0)
    cells = pd.DataFrame(
        {"cost": generator.integers(0, 20, 60) * 1.0, "report_score": generator.integers(0, 20, 60) / 20}
    )
    cells.loc[3, "cost"] = cells.loc[7, "report_score"] = np.nan
    pairs = list(zip(cells["cost"], cells["report_score"], strict=True))

    def beaten(cost: float, score: float) -> bool:
        return any(x <= cost and y >= score and (x, y) != (cost, score) for x, y in pairs)

    mask = front(cells, "cost")
    for (cost, score), on_front in zip(pairs, mask, strict=True):
        if np.isnan(cost) or np.isnan(score) or beaten(cost, score):
            assert not on_front
    assert {pair for pair, on_front in zip(pairs, mask, strict=True) if on_front} == {
        pair for pair in pairs if not np.isnan(sum(pair)) and not beaten(*pair)
    }


def test_score_by_parameters_has_a_mark_for_each_cell_with_its_interval() -> None:
    figure = FIGURES["score_by_parameters"](study())
    assert figure is not None
    line, *marks = figure.data
    assert (line.name, list(line.x), list(line.y)) == (
        "Pareto front",
        [1_000, 5_000, 8_000],
        pytest.approx([71.0, 75.5, 81.0]),
    )
    assert {trace.name: sorted(trace.x) for trace in marks} == {"lora": [1_000, 8_000], "ia3": [5_000]}
    for trace in marks:
        assert all(0 < edge < 10 for edge in [*trace.error_y.array, *trace.error_y.arrayminus])
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.title.text == "accuracy on report, %"


def test_the_rank_ablation_has_a_line_for_each_target() -> None:
    figure = FIGURES["score_by_rank"](study())
    assert figure is not None
    (line,) = figure.data
    assert (line.name, list(line.x), list(line.y)) == ("lora qv", [1, 8], pytest.approx([71.0, 81.0]))


def test_learning_rates_show_select_scores_of_cells_with_several_rates() -> None:
    figure = FIGURES["learning_rates"](study())
    assert figure is not None
    (line,) = figure.data
    assert (list(line.x), list(line.y)) == ([1e-3, 1e-2], pytest.approx([81.0, 40.0]))
    assert figure.layout.yaxis.title.text == "accuracy on select, %"


def test_the_expected_best_rises_with_the_number_of_tried_rates() -> None:
    """Two rates score 81 and 40. The expected best of one draw is their mean; the best of two is 81 in 3 of 4 cases."""
    figure = FIGURES["expected_score"](study())
    assert figure is not None
    (line,) = figure.data
    assert (list(line.x), list(line.y)) == ([1, 2], pytest.approx([60.5, 0.75 * 81 + 0.25 * 40]))


def test_ranks_over_five_tasks_have_a_critical_difference() -> None:
    draw, rights = OVER_TASKS["critical_difference"], {"lora": 0.9, "ia3": 0.8, "full": 0.7}
    tasks = [f"task{number}" for number in range(5)]
    cells = [
        cell(right, method=name, rank=None, target=None, task=task) for name, right in rights.items() for task in tasks
    ]
    figure = draw(Study.of(record for records in cells for record in records))
    assert figure is not None
    *marks, line = figure.data
    assert [mark.x[0] for mark in marks] == [3, 2, 1]
    assert line.x[0] == 1
    assert "mean rank over 5 tasks" in figure.layout.xaxis.title.text
    assert draw(study()) is None


def test_memory_is_stacked_by_purpose() -> None:
    figure = FIGURES["memory"](study())
    assert figure is not None
    assert [(bar.name, bar.y[0]) for bar in figure.data] == [
        ("weights", 1),
        ("gradients", 2),
        ("optimizer", 4),
        ("activations", 8),
    ]
    assert figure.layout.barmode == "stack"


def test_seeds_and_curves_show_every_seed_of_the_chosen_rate() -> None:
    dots, lines = FIGURES["seeds"](study()), FIGURES["curves"](study())
    assert dots is not None
    assert sorted(y for trace in dots.data for y in trace.y) == pytest.approx([70, 72, 75, 76, 80, 82])
    assert lines is not None
    assert len(lines.data) == 6


def test_figures_without_data_are_omitted() -> None:
    assert [name for name in FIGURES if FIGURES[name](Study.of(cell(0.8, rank=None)))] == [
        "learning_rates", "curves", "memory", "seeds",
    ]  # fmt: skip


def test_a_method_looks_the_same_everywhere_and_common_methods_differ() -> None:
    many = [*FIRST, *(f"method {number}" for number in range(44))]
    assert len({look_of(name, many) for name in many}) == 56
    for name in FIRST:
        assert look_of(name, many) == look_of(name, [name])
    alone = [look_of(name, [name]) == look_of(name, [name, "lora", "ia3"]) for name in ("loha", "boft", "x")]
    assert alone == [True] * 3
    css = (REPOSITORY / "bench" / "report" / "dashboard" / "dashboard.css").read_text()
    assert re.findall(r"--c\d: light-dark\((#\w+),", css) == list(COLOURS)
    for trace in FIGURES["score_by_parameters"](study()).data[1:]:  # type: ignore[union-attr]
        assert (trace.marker.color, trace.marker.symbol) == look_of(trace.name, ["lora", "ia3"])


@pytest.mark.parametrize("form", ["html", "svg", "png", "pdf"])
def test_figures_are_written_in_every_format(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if form != "html" and CHROMIUM is None:
        pytest.skip("no Chromium here")
    store(tmp_path, *cell(0.70, rank=1, trainable=1_000), *cell(0.80, rank=8, trainable=8_000))
    assert cli(["figures", "figure=score_by_parameters", f"format={form}", f"results_dir={tmp_path}"]) == 0
    path = tmp_path / "minilm" / "sst2" / "figures" / f"score_by_parameters.{form}"
    assert capsys.readouterr().out == f"rendered: {path}\n"
    begins = {"html": b"<!doctype html>", "svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}[form]
    assert path.read_bytes().startswith(begins)


def test_figures_under_a_filter_do_not_replace_those_of_all_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, *cell(0.70, rank=1, trainable=1_000), *cell(0.80, rank=8, trainable=8_000))
    store(tmp_path, *cell(0.75, method="ia3", rank=None, target=None, trainable=500))
    arguments = ["figures", "figure=score_by_parameters", "format=html", f"results_dir={tmp_path}"]
    assert cli(arguments) == 0
    folder = tmp_path / "minilm" / "sst2" / "figures"
    whole = (folder / "score_by_parameters.html").read_text()
    capsys.readouterr()
    assert cli([*arguments, "method=lora", "task=sst2,../x"]) == 0
    filtered = folder / "method=lora+task=.._x,sst2" / "score_by_parameters.html"
    assert capsys.readouterr().out == f"rendered: {filtered}\n"
    assert (folder / "score_by_parameters.html").read_text() == whole
    assert "ia3" in whole
    assert "ia3" not in filtered.read_text()


def test_an_unknown_format_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, *cell(0.70, rank=1), *cell(0.80, rank=8))
    assert cli(["figures", "format=bmp", f"results_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == "error: format=bmp is unknown; choose from svg, png, pdf, html\n"
