"""The dashboard in a real browser, opened from disk: its contents, its behaviour, and that it requests only itself."""

import csv
import http.client
import io
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from sample_records import MIB, probe_of, race_record, record_of, store

from bench.config.compose import cells as cells_of_grid
from bench.records.record import Record
from bench.report.compare import difference
from bench.report.dashboard.dashboard import CURVE_POINTS, dashboard, embedded, payload, thinned
from bench.report.dashboard.serve import LivePage, bound, serve_dashboard
from bench.report.record_frame import Study
from bench.report.rerun import TARGETS, command_of
from bench.report.stats.ties import standings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
EVIL = "<script>document.title='owned'</script>"
CLOSING = "</script><script>document.title='owned'</script><!--"


def a_cell(
    name: str, *, scores: tuple[float, ...] = (), outcomes: tuple[str, ...] = (), probe: dict[str, Any] | None = None,
    error: str = "it broke", config: dict[str, Any] | None = None, tuned: bool = True, **settings: Any,
) -> list[Record]:  # fmt: skip
    """Return the records of a cell with this id: a trial per score or outcome, a probe, and a race if tuned."""
    trials = [record_of(seed=seed, select=score, report=score, **settings) for seed, score in enumerate(scores)]
    trials += [record_of(seed=len(scores) + seed, outcome=outcome, **settings) for seed, outcome in enumerate(outcomes)]
    records = [*trials, probe_of(**(probe or {}), **settings), *([race_record(**settings)] if tuned and scores else [])]
    return [
        replace(
            record,
            cell={**record.cell, "id": name},
            trial=record.trial and {**record.trial, "id": f"{name}-{record.trial['lr']}-{record.trial['seed']}"},
            error=record.error and {"type": "Trouble", "message": error, "traceback": f"Traceback\n{error}"},
            identity={**record.identity, "model": f"sha256:{record.cell['model']}"},
            config={**record.config, **(config or {})},
        )
        for record in records
    ]


def small() -> Study:
    """Return a study of two tasks: a cell per outcome, a cell with random weights and a cell with hostile names."""
    return Study.of(
        [
            *a_cell("aa", scores=(0.80, 0.82, 0.84), probe={"trainable": 5_000, "resident": 600 * MIB}),
            *a_cell("bb", method="adapter", target=None, scores=(0.80, 0.82), probe={"trainable": 9_000}, rank=64),
            *a_cell("cc", method="ia3", rank=None, target="kv+down", scores=(0.70,), probe={"trainable": 1_000}),
            *a_cell("dd", method="full", rank=None, target=None, scores=(0.90, 0.91), probe={"trainable": 2_000_000}),
            *a_cell("ee", rank=16, outcomes=("oom", "oom"), probe={"trainable": 20_000}, error="CUDA out of memory"),
            *a_cell("ff", method="adapter", target=None, rank=1, outcomes=("diverged",), probe={"trainable": 700}),
            *a_cell("gg", method="dora", outcomes=("failed",), error=CLOSING),
            *a_cell("hh", model="bert-random", random=True, scores=(0.99,), rank=2, probe={"trainable": 10}),
            *a_cell("ii", task="cola", scores=(0.50, 0.52), rank=4, probe={"trainable": 2_500}),
            *a_cell("jj", model=EVIL, method=CLOSING, target="a|b_%\\", scores=(0.60,), rank=32, base="=1+1"),
        ]
    )


def large() -> Study:
    """Return a study of a thousand cells, each with three trials with long loss curves."""
    steps = list(range(1, 2 * CURVE_POINTS + 1))
    records = []
    for number in range(1000):
        settings = {
            "method": f"method{number % 40}", "rank": 1 + number // 40, "task": f"task{number % 5}",
            "config": {"method": {"attach": {"r": number}}, "model": {"name": "minilm"}},
        }  # fmt: skip
        for record in a_cell(
            f"{number:04x}",
            scores=(0.5, 0.6, 0.7 + number % 89 / 300),
            probe={"trainable": 1000 + 37 * number},
            **settings,
        ):
            losses = [0.69 * 0.999**step + 1e-3 * ((step * number) % 17) for step in steps]
            records.append(replace(record, curve={"step": steps, "loss": losses} if record.trial else None))
    return Study.of(records)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "small.html").write_text(dashboard(small(), "a <b>grid</b>"), encoding="utf-8")
    return {"small": folder / "small.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


class Watched:
    """A browser tab that records the URLs it requests and the errors it reports."""

    def __init__(self, browser: Any, **settings: Any) -> None:
        self.tab = browser.new_context(viewport={"width": 1400, "height": 900}, **settings).new_page()
        self.tab.set_default_timeout(5000)
        self.requested: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.errors.append(dialog.message))

    def check(self) -> None:
        assert self.errors == []
        assert [url for url in self.requested if not re.match(r"(file:///[^?]*\.html(#|$)|data:,$|about:)", url)] == []


@pytest.fixture(scope="module")
def first(browser: Any) -> Watched:
    """One tab for all tests: opening a new tab takes as long as most tests."""
    return Watched(browser)


Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, first: Watched, pages: dict[str, Path]) -> Iterator[Show]:
    """Open a page; afterwards, check that its tab requested only the page and reported no errors."""
    opened: list[Watched] = []

    def open_page(view: str = "", page: Path | None = None, **settings: Any) -> Any:
        opened.append(Watched(browser, **settings) if opened or settings else first)
        tab = opened[-1].tab
        tab.goto("about:blank")  # changing only the hash would load nothing
        tab.goto((page or pages["small"]).as_uri() + view)
        return tab

    yield open_page
    first.tab.set_viewport_size({"width": 1400, "height": 900})
    for watched in opened:
        if watched is not first:
            watched.tab.context.close()
        watched.check()


def shown(tab: Any) -> list[str]:
    """Return the ids of the cells in the table, in order."""
    cells: list[str] = tab.eval_on_selector_all("#table tbody tr", "rows => rows.map(row => row.dataset.cell)")
    return cells


def entries(tab: Any, column: str) -> list[str]:
    texts: list[str] = tab.eval_on_selector_all(
        "#table tbody tr",
        "(rows, name) => rows.map(r => r.querySelector(`[data-label='${name}']`).textContent)",
        column,
    )
    return texts


def choose(tab: Any, facet: str, *values: str) -> None:
    tab.locator(f"#facet-{facet} summary").click()
    for value in values:
        tab.locator(f"#facet-{facet} label", has_text=value).first.locator("input").click()
    tab.keyboard.press("Escape")


def visit(tab: Any, view: str) -> None:
    """Change the hash as a link does and wait until the page has handled it."""
    tab.evaluate(
        """view => new Promise(seen => {
            const before = location.href;
            location.hash = view;
            if (location.href === before) seen();
            else addEventListener('hashchange', () => seen(), { once: true });
        })""",
        view,
    )


def copied(tab: Any, button: str) -> str:
    tab.evaluate("navigator.clipboard.writeText = text => { window.clip = text; return Promise.resolve(); }")
    tab.get_by_role("button", name=button, exact=True).click()
    tab.locator("#said", has_text="Copied").wait_for()
    return str(tab.evaluate("window.clip"))


@needs_browser
def test_filters_widen_within_a_facet_and_narrow_across_facets(show: Show) -> None:
    tab = show()
    assert len(shown(tab)) == 10
    assert tab.locator("#count").text_content() == "10 cells"
    choose(tab, "method", "adapter", "ia3")
    assert set(shown(tab)) == {"bb", "cc", "ff"}
    assert tab.locator("#count").text_content() == "3 of 10 cells"
    choose(tab, "outcome", "diverged")
    assert shown(tab) == ["ff"]
    assert tab.locator("#plot .point").count() == 0  # it has no score
    tab.get_by_role("button", name="Clear filters").click()
    choose(tab, "rank", "none")
    assert set(shown(tab)) == {"cc", "dd"}
    assert tab.locator("#plot .point").count() == 2
    choose(tab, "target", "kv+down")
    assert shown(tab) == ["cc"]
    tab.get_by_role("button", name="Clear filters").click()
    choose(tab, "task", "cola")
    choose(tab, "model", "minilm")
    assert shown(tab) == ["ii"]


@needs_browser
def test_search_matches_words_in_any_order_and_error_messages(show: Show) -> None:
    tab = show()
    tab.get_by_label("Search").fill("R=8  lora")
    assert shown(tab) == ["aa"]
    tab.get_by_label("Search").fill("cuda memory")
    assert shown(tab) == ["ee"]
    tab.get_by_label("Search").fill("no such thing")
    assert tab.locator("#table").text_content() == "No cell passes these filters."
    assert tab.locator("#count").text_content() == "0 of 10 cells"


@needs_browser
def test_sorting_announces_its_direction_and_puts_missing_values_last(show: Show) -> None:
    tab = show("#task=sst2")
    score = tab.get_by_role("columnheader", name="accuracy")
    assert score.get_attribute("aria-sort") == "none"
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") == "descending"  # the best first
    assert shown(tab)[:5] == ["dd", "aa", "bb", "cc", "jj"]
    assert tab.evaluate("document.activeElement.textContent") == "accuracy %"  # the focus stays
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") == "ascending"
    assert shown(tab)[:5] == ["jj", "cc", "bb", "aa", "dd"]
    assert set(shown(tab)[5:]) == {"ee", "ff", "gg", "hh"}
    tab.get_by_role("columnheader", name="trainable params").get_by_role("button").click()
    assert shown(tab)[:3] == ["hh", "ff", "cc"]


@needs_browser
def test_entries_are_formatted_for_reading(show: Show) -> None:
    tab = show()
    scores = dict(zip(shown(tab), entries(tab, "accuracy %"), strict=True))
    assert scores["aa"] == "82.0 \u00b1 2.0 (3)"
    assert scores["cc"] == "70.0 (1)"
    assert (scores["ee"], scores["ff"], scores["gg"]) == ("OOM", "DIVERGED", "FAILED")
    assert scores["hh"] == "\u2013"  # random weights
    assert dict(zip(shown(tab), entries(tab, "trainable params"), strict=True))["dd"] == "2,000,000"
    assert dict(zip(shown(tab), entries(tab, "rank"), strict=True))["cc"] == "\u2013"
    assert entries(tab, "peak memory (resident) MiB").count("600") == 1


@needs_browser
def test_columns_can_be_chosen(show: Show) -> None:
    tab = show()
    assert tab.locator("#table thead th").all_text_contents() == [
        "compare", "model", "task", "method", "rank", "target", "trainable params",
        "peak memory (resident) MiB", "samples/s", "lr", "tuning", "accuracy %", "outcome", "cell",
    ]  # fmt: skip
    tab.locator("#columns summary").click()
    for name in ("model", "task", "lr", "cell"):
        tab.locator("#columns").get_by_label(name, exact=True).uncheck()
    tab.locator("#columns").get_by_label("step ms").check()
    headings = ["compare", "method", "rank", "target", "trainable params", "peak memory (resident) MiB", "samples/s",
                "step ms", "tuning", "accuracy %", "outcome"]  # fmt: skip
    assert tab.locator("#table thead th").all_text_contents() == headings
    assert entries(tab, "step ms")[0] == "333"
    tab.get_by_role("button", name="Default columns").click()
    assert tab.locator("#table thead th").count() == 14


def fronts(study: Study, x: str, y: str, better: tuple[str, str]) -> set[str]:
    """Return the Pareto front by definition.

    A cell is on it if no other cell of its table is at least as good on both axes and better on one.
    """
    scored = study.cells.dropna(subset=[x, y])
    signs = [1 if direction == "low" else -1 for direction in better]
    best = set()
    for _, row in scored.iterrows():
        others = scored[scored["table"] == row["table"]]
        gaps = [sign * (others[key] - row[key]) for sign, key in zip(signs, (x, y), strict=True)]
        beaten = (gaps[0] <= 0) & (gaps[1] <= 0) & ((gaps[0] < 0) | (gaps[1] < 0))
        best |= set() if beaten.any() else {row["cell"]}
    return best


@needs_browser
def test_the_plotted_front_equals_the_pareto_front(show: Show) -> None:
    tab, study = show(), small()

    def best() -> set[str]:
        return set(tab.eval_on_selector_all("#plot .best", "points => points.map(point => point.dataset.cell)"))

    assert (
        best() == fronts(study, "trainable_params", "report_score", ("low", "high")) == {"aa", "cc", "dd", "ii", "jj"}
    )
    assert tab.locator("#plot .point").count() == 6
    assert "3 tables" in str(tab.locator("#plot-note").text_content())
    tab.locator("#ybetter").select_option("low")
    assert best() == fronts(study, "trainable_params", "report_score", ("low", "low"))
    tab.locator("#x").select_option("peak_resident_bytes")
    tab.locator("#y").select_option("trainable_params")
    assert best() == fronts(study, "peak_resident_bytes", "trainable_params", ("low", "low"))
    tab.locator("#xbetter").select_option("high")
    tab.locator("#ybetter").select_option("high")
    assert best() == fronts(study, "peak_resident_bytes", "trainable_params", ("high", "high"))


@needs_browser
def test_a_logarithmic_axis_spreads_small_values(show: Show) -> None:
    tab = show("#task=sst2")

    def left(cell: str) -> float:
        return float(tab.locator(f"#plot [data-cell={cell}]").bounding_box()["x"])

    assert tab.locator("#xlog").is_checked()
    wide = left("aa") - left("cc")
    tab.locator("#xlog").uncheck()
    assert left("aa") - left("cc") < wide / 20
    assert left("dd") > left("aa")


@needs_browser
def test_a_point_describes_and_opens_its_cell(show: Show) -> None:
    tab = show("#task=sst2&model=minilm")
    tab.locator("#plot [data-cell=cc]").hover()
    tip = str(tab.locator("#tip").inner_text())
    assert "ia3 r=None kv+down" in tip
    assert "70.0 (1)" in tip
    assert "on the Pareto front" in tip
    tab.locator("#plot [data-cell=cc]").click()
    assert tab.locator("#page-title").text_content() == "ia3 r=None kv+down"
    tab.go_back()
    tab.locator("#overview").wait_for()
    tab.locator("#plot [tabindex='0']").focus()
    assert tab.locator("#tip").is_visible()
    first = tab.evaluate("document.activeElement.dataset.cell")
    tab.keyboard.press("ArrowRight")
    second = tab.evaluate("document.activeElement.dataset.cell")
    assert second != first
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**cell={second}")


@needs_browser
def test_a_method_has_the_same_mark_everywhere(show: Show) -> None:
    tab = show()

    def marks(where: str) -> set[tuple[str, str]]:
        return {tuple(mark) for mark in tab.eval_on_selector_all(
            f"{where} path[class^=c]", "all => all.map(mark => [mark.getAttribute('class'), mark.getAttribute('d')])"
        )}  # fmt: skip

    assert marks("#plot [data-cell=aa]") == marks("#plot [data-cell=ii]") == marks("tr[data-cell=ee]")
    assert len(marks("#legend")) == 6  # all distinct
    tab.get_by_role("button", name="ia3", exact=True).click()
    assert shown(tab) == ["cc"]


@needs_browser
def test_a_cell_page_shows_trials_command_settings_and_errors(show: Show) -> None:
    tab = show()
    tab.locator("tr[data-cell=aa] a").click()
    tab.locator("#page-title:focus").wait_for()
    text = str(tab.locator("#page").inner_text())
    assert tab.title().startswith("lora r=8 qv")
    assert "82.0 \u00b1 2.0 (3) accuracy %" in text
    assert tab.locator("#page svg path.curve").count() == 3 + 1  # and one in the legend
    assert tab.locator("#page [aria-label=Trials] tbody tr").count() == 3
    assert "python -m bench.run model=minilm task=sst2 method=lora rank=8 target=qv 'seeds=[0,1,2]'" in text
    for line in ("protocol.warmup\n0.06", "dtype\nfp32", "identity.model\nsha256:minilm"):
        assert line in text
    tab.get_by_role("link", name="All cells").click()
    tab.locator("[data-keep=open-aa]:focus").wait_for()
    visit(tab, "#cell=gg")
    tab.locator("#page .error summary", has_text="Trouble").click()
    assert tab.locator("#page .error pre").inner_text() == f"Traceback\n{CLOSING}"
    visit(tab, "#cell=hh")
    assert "Random weights" in str(tab.locator("#page").inner_text())
    assert "99.0" not in str(tab.locator("#page").inner_text())
    visit(tab, "#cell=<img src=x>")
    assert "have no cell <img src=x>" in str(tab.locator("#page").inner_text())


@needs_browser
def test_two_cells_are_compared_side_by_side(show: Show) -> None:
    tab = show()
    tab.get_by_role("checkbox", name="compare lora r=8 qv, minilm, sst2").check()
    assert "tick one more row" in str(tab.locator("#picked").inner_text())
    tab.get_by_role("checkbox", name="compare adapter r=64 None").check()
    tab.get_by_role("link", name="Side by side").click()
    tab.locator("#page [aria-label=Costs]").wait_for()
    rows = {
        row.split("\t")[0]: row.split("\t")[1:] for row in tab.locator("#page").inner_text().split("\n") if "\t" in row
    }
    assert rows["accuracy %"] == ["82.0 \u00b1 2.0 (3)", "81.0 \u00b1 1.4 (2)", "\u22121.0 points"]
    assert tab.locator("#verdict").inner_text() == "Not tested: the records hold no right answers."
    assert rows["trainable params"] == ["5,000", "9,000", "\u00d7\u00a01.80"]
    assert tab.locator("#page [aria-label=Costs] strong").first.inner_text() == "5,000"
    assert "different tables" not in str(tab.locator("#page").inner_text())
    visit(tab, "#pick=aa,ii&compare=1")
    assert "different tables" in str(tab.locator("#page").inner_text())
    assert "identity.data" not in str(tab.locator("#page").inner_text())  # it is the same in these records


def judged() -> Study:
    """Return a study of three cells of three seeds and a cell of one seed, 60 to 90% right on 400 known answers."""
    random, truth = np.random.default_rng(0), [row % 2 for row in range(400)]
    records = []
    for name, right in (("aa", 0.90), ("bb", 0.89), ("cc", 0.60), ("dd", 0.75)):
        scores = (right, right, right)[: 1 if name == "dd" else 3]
        for record in a_cell(name, method=name, scores=scores):
            answers = [label if random.random() < right else 1 - label for label in truth]
            scored = {"metric": "accuracy", "report": float(np.mean(np.array(answers) == truth)), "select": right}
            predictions = {"select": [0, 1], "report": answers}
            trial = {"scores": scored, "predictions": predictions} if record.trial else {}
            records.append(replace(record, truth={"select": [0, 1], "report": truth}, **trial))
    return Study.of(records)


def test_verdicts_and_intervals_of_the_page_equal_those_of_compare() -> None:
    study = judged()
    ((test,), cells) = payload(study, "")["tests"], study.cells.set_index("cell", drop=False)
    assert test["cells"] == ["aa", "bb", "cc"]
    for place, cell in enumerate(test["cells"]):
        for offset, other in enumerate(test["cells"][place + 1 :]):
            compared, reach = difference(study, cells.loc[cell], cells.loc[other]), test["reach"][place][offset] * 1e-5
            assert (abs(compared.score) > reach) == (compared.p <= 0.05)
            assert compared.interval == pytest.approx((compared.score - reach, compared.score + reach), abs=1.1e-5)
    assert standings(study, study.cells) == {"aa": "best", "bb": "tied"}


@needs_browser
def test_two_cells_of_a_table_show_their_interval_and_verdict(show: Show, tmp_path: Path) -> None:
    page, study = tmp_path / "page.html", judged()
    page.write_text(dashboard(study), encoding="utf-8")
    tab = show("#pick=aa,cc&compare=1", page)
    cells = study.cells.set_index("cell", drop=False)
    low, high = (100 * edge for edge in difference(study, cells.loc["cc"], cells.loc["aa"]).interval or ())
    assert tab.locator("#verdict").inner_text() == (
        f"95% interval \u2212{-low:.1f} to \u2212{-high:.1f} points: the difference is significant."
        " Interval and verdict hold for all pairs of the table together."
    )
    visit(tab, "#pick=bb,aa&compare=1")
    assert "they cannot be distinguished" in tab.locator("#verdict").inner_text()
    visit(tab, "#pick=aa,dd&compare=1")
    assert tab.locator("#verdict").inner_text().startswith("Not tested: with one seed")


@needs_browser
def test_untuned_cells_have_no_verdict_and_are_on_no_front(show: Show, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    cells = [*a_cell("aa", scores=(0.8, 0.81)), *a_cell("bb", method="ia3", scores=(0.9, 0.9), tuned=False)]
    page.write_text(dashboard(Study.of([*cells, *a_cell("cc", method="full", scores=(0.7, 0.7))])), encoding="utf-8")
    tab = show("#x=report_score&y=select_score", page)
    assert dict(zip(shown(tab), entries(tab, "tuning"), strict=True)) == {
        "aa": "tuned (7 rates)", "bb": "one rate, untuned", "cc": "tuned (7 rates)",
    }  # fmt: skip
    assert tab.eval_on_selector_all("#plot .point.best", "points => points.map(point => point.dataset.cell)") != []
    assert tab.locator("#plot .point.best[data-cell=bb]").count() == 0
    assert "Cells with untuned rates are not on any front." in tab.locator("#plot-note").inner_text()
    assert "No verdict on ia3 r=8 qv" in tab.locator("#table-note").inner_text()
    visit(tab, "#pick=aa,bb&compare=1")
    assert tab.locator("#verdict").inner_text() == (
        "No verdict: ia3 r=8 qv was trained at one rate, untuned, so the difference may come from the learning rates. "
        "To tune: python -m bench.run model=minilm task=sst2 method=ia3 rank=8 target=qv 'seeds=[0,1]'"
    )


@needs_browser
def test_a_cell_page_shows_its_race_and_flags(show: Show, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    cells = [*a_cell("aa", scores=(0.8,)), *a_cell("bb", method="head", scores=(0.9,))]
    page.write_text(dashboard(Study.of(cells)), encoding="utf-8")
    tab = show("#cell=aa", page)
    race = tab.locator("#page [aria-label=Race] tbody tr")
    assert race.count() == 7
    assert race.nth(3).inner_text().split("\t") == ["0.001", "0.4000", "finished, chosen"]
    assert race.nth(0).inner_text().split("\t")[2] == "dropped"
    text = str(tab.locator("#page").inner_text())
    assert "Flag below head: it scores less than the tuned linear probe (method=head) of the same table." in text
    visit(tab, "#")
    assert entries(tab, "flags") == ["\u2013", "below head"]


@needs_browser
def test_a_comparison_lists_only_differing_settings(show: Show, tmp_path: Path) -> None:
    same = {"epochs": 3, "deep": {"r": 8}}
    study = Study.of([
        *a_cell("aa", scores=(0.5,), config={"method": {"name": "x", **same}}),
        *a_cell("bb", scores=(0.6,), rank=1, config={"method": {"name": "x", **same, "deep": {"r": 1}}}),
    ])  # fmt: skip
    page = tmp_path / "page.html"
    page.write_text(dashboard(study), encoding="utf-8")
    tab = show("#pick=aa,bb&compare=1", page)
    assert tab.locator("#page .differing tbody tr").all_inner_texts() == ["method.deep.r\t8\t1"]


@needs_browser
def test_costs_of_two_machines_have_no_ratio(show: Show, tmp_path: Path) -> None:
    """This also holds for cells of two tables, each showing the costs of its own machine. Counts may be compared."""
    xeon, epyc = ({"device_name": name, "dtype": "fp32", "packages": {"torch": name}} for name in ("a Xeon", "an EPYC"))
    study = Study.of([
        *a_cell("aa", scores=(0.5,), provenance=xeon),
        *a_cell("bb", scores=(0.6,), rank=1, provenance=xeon),
        *a_cell("cc", scores=(0.7,), rank=2, provenance=epyc),
        *a_cell("dd", scores=(0.8,), rank=2, provenance=epyc, dropout=0.1),
    ])  # fmt: skip
    page = tmp_path / "page.html"
    page.write_text(dashboard(study), encoding="utf-8")
    tab = show("", page)
    assert entries(tab, "samples/s").count("\u2013") == 1
    note = tab.locator("#table-note").inner_text()
    assert "cells measured on another machine show none" in note
    assert "Mixed versions, in records: torch" in note
    visit(tab, "#pick=aa,dd&compare=1")
    rows = {
        row.split("\t")[0]: row.split("\t")[1:] for row in tab.locator("#page").inner_text().split("\n") if "\t" in row
    }
    assert [entry == "\u2013" for entry in rows["samples/s"]] == [False, False, True]
    assert rows["trainable params"][-1].startswith("\u00d7")
    assert "measured on different machines, so no ratio is shown" in tab.locator("#page").inner_text()


@needs_browser
def test_a_cost_measured_under_other_load_is_marked_and_never_best(show: Show, tmp_path: Path) -> None:
    calm, fast = a_cell("aa", scores=(0.5,)), a_cell("bb", scores=(0.6,), rank=1)
    disturbed = {"contended": "other processes used 1.2 of 2 cores", "samples_per_second": 9999.0}
    fast = [
        replace(record, cost={**record.cost, **disturbed}) if record.kind == "probe" and record.cost else record
        for record in fast
    ]
    page = tmp_path / "page.html"
    page.write_text(dashboard(Study.of([*calm, *fast])), encoding="utf-8")
    tab = show("#x=samples_per_second", page)
    assert sorted(entry.startswith("~") for entry in entries(tab, "samples/s")) == [False, True]
    assert tab.eval_on_selector_all("#plot .best", "points => points.map(point => point.dataset.cell)") == ["aa"]
    assert "~: measured under other load" in tab.locator("#table-note").inner_text()
    visit(tab, "#pick=aa,bb&compare=1")
    rows = {
        row.split("\t")[0]: row.split("\t")[1:] for row in tab.locator("#page").inner_text().split("\n") if "\t" in row
    }
    assert rows["samples/s"][-1] == "\u2013"
    assert rows["trainable params"][-1].startswith("\u00d7")


@needs_browser
def test_copies_equal_the_shown_table(show: Show) -> None:
    tab = show(
        "#task=sst2&model=minilm&method=lora&method=ia3&sort=-report_score&cols=method,rank,trainable_params,report_score"
    )
    assert copied(tab, "Markdown") == (
        "| method | rank | trainable params | accuracy % |\n| --- | ---: | ---: | ---: |\n"
        "| lora | 8 | 5,000 | 82.0 \u00b1 2.0 (3) |\n| ia3 | - | 1,000 | 70.0 (1) |\n| lora | 16 | 20,000 | OOM |\n"
    )
    assert copied(tab, "LaTeX") == (
        "\\begin{tabular}{lrrr}\n\\toprule\nmethod & rank & trainable params & accuracy \\% \\\\\n\\midrule\n"
        "lora & 8 & 5,000 & 82.0 $\\pm$ 2.0 (3) \\\\\nia3 & - & 1,000 & 70.0 (1) \\\\\nlora & 16 & 20,000 & OOM \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )
    rows = list(csv.DictReader(io.StringIO(copied(tab, "CSV"))))
    assert rows[0] == {"method": "lora", "rank": "8", "trainable_params": "5000", "report_score": "0.82",
                       "report_std": "0.02", "seeds": "3"}  # fmt: skip
    assert rows[2]["report_score"] == ""
    assert tab.locator("#said").text_content() == "Copied 3 rows as CSV."


@needs_browser
def test_copies_escape_hostile_texts(show: Show) -> None:
    tab = show("#rank=32&cols=model,target,base")
    assert "| \\<script>document.title='owned'\\</script> | a\\|b_%\\\\ | =1+1 |" in copied(tab, "Markdown")
    assert "& a|b\\_\\%\\textbackslash{} & =1+1 \\\\" in copied(tab, "LaTeX")
    assert list(csv.reader(io.StringIO(copied(tab, "CSV"))))[1] == [EVIL, "a|b_%\\", "'=1+1"]  # not a formula


@needs_browser
def test_copying_works_without_a_clipboard_interface(show: Show) -> None:
    tab = show("#cell=aa")
    tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    tab.evaluate("document.addEventListener('copy', () => { window.clip = document.activeElement.value; })")
    tab.get_by_role("button", name="Copy", exact=True).click()
    tab.locator("#said", has_text="Copied the command.").wait_for()
    assert str(tab.evaluate("window.clip")).startswith("python -m bench.run model=minilm")
    tab.evaluate("document.execCommand = () => false")
    tab.get_by_role("button", name="Copy", exact=True).click()
    assert tab.locator("#by-hand textarea").input_value().startswith("python -m bench.run model=minilm")


@needs_browser
def test_the_hash_restores_the_whole_view(show: Show) -> None:
    tab = show()
    tab.get_by_label("Search").fill("r=")
    choose(tab, "method", "lora", "adapter")
    choose(tab, "target", "(none)")
    tab.get_by_role("columnheader", name="trainable params").get_by_role("button").click()
    tab.locator("#columns summary").click()
    tab.locator("#columns").get_by_label("task", exact=True).uncheck()
    tab.locator("#x").select_option("samples_per_second")
    tab.locator("#y").select_option("seeds")
    tab.locator("#ylog").uncheck()
    tab.locator("#xbetter").select_option("low")
    tab.get_by_role("checkbox", name="compare adapter r=64 None").check()
    tab.wait_for_url("**pick=bb")

    def seen(page: Any) -> list[Any]:
        fields = "[...document.querySelectorAll('select, input')].map(field => [field.id, field.value, field.checked])"
        return [
            shown(page),
            page.locator("#table thead").inner_text(),
            page.locator("#picked").inner_text(),
            page.evaluate(fields),
        ]

    again = show("#" + tab.url.partition("#")[2])
    assert shown(tab) == ["ff", "bb"]
    assert seen(again) == seen(tab)
    for word in ("q=r%3D", "method=lora", "method=adapter", "target=", "sort=", "cols=", "xbetter=low", "y=seeds"):
        assert word in tab.url
    tab.locator("tr[data-cell=bb] a").click()
    tab.go_back()  # opening a cell added a history entry; going back restores the view
    tab.locator("#overview").wait_for()
    assert seen(tab) == seen(again)


@needs_browser
def test_an_invalid_hash_shows_the_default_view(show: Show) -> None:
    tab = show("#sort=constructor&cols=__proto__&x=nope&xlog=maybe&pick=zz,aa&compare=1&page=-3&method=nope&unknown=1")
    assert tab.locator("#table").text_content() == "No cell passes these filters."
    tab.get_by_role("button", name="Clear filters").click()
    assert len(shown(tab)) == 10
    assert tab.locator("#x").input_value() == "trainable_params"


@needs_browser
def test_the_keyboard_reaches_everything(show: Show) -> None:
    tab = show("#sort=-report_score&task=sst2")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "table"
    for _ in range(30):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.dataset.keep ?? ''").startswith("open-"):
            break
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    assert tab.locator("#page-title").text_content() == "full r=None None"
    tab.go_back()
    tab.locator("#overview").wait_for()
    tab.locator("#facet-method summary").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.locator("#facet-method.on").count() == 1
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.textContent").startswith("method: ")


@needs_browser
def test_controls_have_names_and_tables_have_table_roles(show: Show) -> None:
    tab = show()
    for view in ("#", "#cell=aa", "#pick=aa,bb&compare=1"):
        visit(tab, view)
        tree = tab.locator("body").aria_snapshot()
        assert not re.search(r"^\s*- (button|checkbox|combobox|searchbox|link|region)(:|$| \[)", tree, re.MULTILINE), (
            tree
        )
    assert tab.locator("table th[scope=col]").count() > 0
    visit(tab, "#")
    assert tab.get_by_role("table").get_by_role("row").count() == 11
    assert tab.get_by_role("status").first.text_content() == "10 cells"
    tab.set_viewport_size({"width": 420, "height": 900})
    assert tab.get_by_role("table").get_by_role("rowheader").count() == 10  # also as cards
    assert tab.evaluate("document.documentElement.scrollWidth") == 420
    assert tab.evaluate("document.getElementById('table').scrollWidth") <= 420  # no horizontal scrolling


@needs_browser
def test_texts_of_records_never_run_as_code(show: Show) -> None:
    tab = show()
    assert tab.title() == "a <b>grid</b>"
    assert tab.locator("h1").inner_text() == "a <b>grid</b>"
    for view in ("#cell=jj", "#cell=gg", "#pick=gg,jj&compare=1", "#model=" + EVIL, "#q=" + CLOSING):
        visit(tab, view)
        assert tab.title() != "owned"
    assert tab.locator("script").count() == 2
    assert entries(show("#rank=32"), "model") == [EVIL]
    own = (REPOSITORY / "bench" / "report" / "dashboard" / "dashboard.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", own)


@needs_browser
def test_the_page_runs_only_its_own_script_and_requests_nothing(browser: Any, pages: dict[str, Path]) -> None:
    tab = browser.new_page()
    refused: list[str] = []
    tab.on("requestfailed", lambda request: refused.append(request.failure))
    tab.goto(pages["small"].as_uri())
    added = (
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1'; "
        "document.body.append(script)"
    )
    tab.evaluate(f"() => {{ {added}; new Image().src = 'http://127.0.0.1:9/x.png'; }}")
    assert tab.evaluate("window.ran") is None
    assert tab.evaluate("fetch('http://127.0.0.1:9/').then(() => 1, () => 0)") == 0
    assert refused == ["csp"]
    tab.close()


@needs_browser
def test_the_dark_theme_follows_the_system_and_can_be_chosen(show: Show) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = show(), show(color_scheme="dark")
    assert light.evaluate(ground) == "rgb(255, 255, 255)"
    assert dark.evaluate(ground) != light.evaluate(ground)
    light.get_by_label("Theme").select_option("dark")
    assert light.evaluate(ground) == dark.evaluate(ground)
    light.reload()
    assert light.evaluate(ground) == dark.evaluate(ground)
    light.get_by_label("Theme").select_option("system")
    assert light.evaluate(ground) == "rgb(255, 255, 255)"
    dark.get_by_label("Theme").select_option("light")
    assert dark.evaluate(ground) == "rgb(255, 255, 255)"


@needs_browser
def test_a_page_of_a_thousand_cells_is_small_and_fast(show: Show, tmp_path: Path) -> None:
    study, page = large(), tmp_path / "large.html"
    page.write_text(dashboard(study), encoding="utf-8")
    assert page.stat().st_size < 5e6
    begun = time.monotonic()
    tab = show("", page)
    assert tab.locator("#plot .point").count() == 1000
    opened = time.monotonic() - begun
    assert len(shown(tab)) == 100
    begun = time.monotonic()
    tab.get_by_label("Search").fill("method7 r=3")
    assert tab.locator("#count").text_content() == "1 of 1,000 cells"
    tab.get_by_label("Search").fill("")
    tab.get_by_role("button", name="Next").click()
    assert tab.locator("#count").text_content() == "1,000 cells, page 2 of 10"
    worked = time.monotonic() - begun
    assert len(copied(tab, "CSV").splitlines()) == 1001  # every row that passes the filters, not only the current page
    print(f"{page.stat().st_size / 1e6:.2f} MB, opened in {opened:.2f} s, three changes in {worked:.2f} s")
    assert opened < 2
    assert worked < 2


def test_curves_are_thinned_to_their_means() -> None:
    steps, losses = thinned({"step": list(range(1, 1001)), "loss": [float(step) for step in range(1, 1001)]})
    assert len(steps) == len(losses) == CURVE_POINTS
    assert (steps[0], losses[0], steps[-1], losses[-1]) == (10, 5.5, 1000, 995.5)
    assert thinned({"step": [1, 2], "loss": [0.5, None]}) == ([1, 2], [0.5, None])
    assert thinned({}) == ([], [])


def test_embedded_data_cannot_leave_its_element() -> None:
    text = "</script><!-- & \u2028\u2029 \ud800 ]]>"
    encoded = embedded({"text": text})
    assert not set(encoded) & set("<>&\u2028\u2029")
    assert encoded.isascii()
    assert json.loads(encoded) == {"text": text}


def test_equal_records_make_equal_pages() -> None:
    assert dashboard(small()) == dashboard(small())


@pytest.mark.parametrize("words", [
    "method=lora target=qkvo rank=64 seeds=[4,3] lrs=[0.1,1e-5]",
    "method=lora target.parts=[q,down] quant=nf4 quant.double=true optim=lion checkpointing=true protocol.tokens=4096",
    "method=prefix model=bert-base model.weights=random protocol.epochs=7 protocol.train_rows=32 precision=bf16",
    "method=rslora protocol.steps=4 protocol.warmup_steps=0 protocol.eval_steps=2 protocol.head_lr=0.1 protocol=quick",
    "task=quiz model=tiny-llama method=lora task.form=options task.loss_on=prompt prompt=course task.shots=2 retain=a",
])  # fmt: skip
def test_the_command_runs_the_same_cell(words: str) -> None:
    given = words.split()
    (cell,) = cells_of_grid([*given, *([] if "lrs=" in words else ["lrs=published"])], multirun=False)
    fields = {"id": cell.id, "title": cell.title, "model": cell.source.label, "task": cell.task, "method": cell.method,
              "rank": cell.rank, "target": cell.target, "scale": cell.scale, "base": cell.base, "optim": cell.optim,
              "checkpointing": cell.checkpointing, "random": cell.source.random}  # fmt: skip
    records = [
        replace(record_of(), cell=fields, trial={"id": trial.id, "lr": trial.lr, "seed": trial.seed},
                identity=cell.identity, config=cell.config)
        for trial in cell.trials
    ]  # fmt: skip
    command = shlex.split(command_of(records))
    assert command[:3] == ["python", "-m", "bench.run"]
    (again,) = cells_of_grid(command[3:], multirun=False)
    assert again.id == cell.id
    assert set(again.trials) == set(cell.trials)
    assert again.config["retain"] == cell.config["retain"]


def test_named_targets_equal_those_of_the_configuration() -> None:
    assert set(TARGETS) == {path.stem for path in (REPOSITORY / "conf" / "target").glob("*.yaml")} - {"default"}


# Background jobs of a shell and their children ignore Ctrl-C, and the tests may run in such a job.
SERVER = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from bench.records import record as records
from bench.report.dashboard.dashboard import dashboard
from bench.report.record_frame import Study
from bench.report.dashboard.serve import serve_dashboard
folder = Path(sys.argv[1])
make = lambda: dashboard(Study.of(records.read_all(folder, print)))
serve_dashboard(make, None, lambda line: print(line, flush=True))
"""


@needs_browser
def test_a_served_page_shows_new_records(browser: Any, tmp_path: Path) -> None:
    store(tmp_path, *a_cell("aa", scores=(0.5,)))
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1]
            assert address.startswith("http://127.0.0.1:")
            tab = browser.new_page()
            messages: list[str] = []
            tab.on("console", lambda message: messages.append(message.text))
            tab.goto(f"{address}/#sort=-rank&q=lora")
            assert shown(tab) == ["aa"]
            store(tmp_path, *a_cell("bb", rank=64, scores=(0.6,)))
            tab.locator("tr[data-cell=bb]").wait_for(timeout=10000)
            assert shown(tab) == ["bb", "aa"]
            assert tab.url == f"{address}/#q=lora&sort=-rank"
            assert messages == []
            tab.close()
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=10) == 0
            assert server.stdout.read() == "ended\n"
        finally:
            server.kill()


def test_a_served_page_is_rendered_again_only_when_due(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["one", "two", ValueError("gone"), "three"])
    now = 0.0
    monkeypatch.setattr("bench.report.dashboard.serve.time.monotonic", lambda: now)

    def make() -> str:
        text = next(texts)
        if isinstance(text, Exception):
            raise text
        return text

    page = LivePage(make)
    assert page.now()[0] == "one"
    for now, text in ((0.5, "one"), (1.5, "two"), (2.6, "two"), (3.7, "three")):  # noqa: B007  (the clock reads it)
        assert page.now()[0] == text


def test_the_server_answers_only_this_machine() -> None:
    import threading

    server = bound(LivePage(lambda: "<head></head>"), None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    try:
        assert server.server_address[0] == "127.0.0.1"

        def ask(path: str, host: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            status_and_body = answer.status, answer.read()
            connection.close()
            return status_and_body

        version = ask("/version", f"localhost:{port}")[1]
        assert ask("/", f"127.0.0.1:{port}") == (200, b'<head><meta name="served" content="%s"></head>' % version)
        assert ask("/", f"example.org:{port}")[0] == 403
        assert ask("/../etc/passwd", f"127.0.0.1:{port}")[0] == 404
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", port))  # the same machine at another address
        with pytest.raises(ValueError, match=f"^port {port} is taken.*$"):
            serve_dashboard(lambda: "", port, print)
    finally:
        server.shutdown()
        server.server_close()
