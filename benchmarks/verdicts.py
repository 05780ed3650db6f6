"""How often the report's tests and intervals are wrong on simulated tables with known truth.

    python benchmarks/verdicts.py [--tables 2000] [--workers 2]

Writes results/perf/verdicts.json and verdicts.md. tests/report/stats/test_verdicts.py checks a few of the settings.
"""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from itertools import count, product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from simulated_tables import COMMON, OWN, SKILL, by_holm, by_largest, errors_of

from bench.records.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "perf"
SEEDS, EXAMPLES, LUCK = (3, 5), (277, 872, 4183), (0.0, 0.01, 0.02)
SMALL, LARGE = (2, 6), (20, 50)  # numbers of cells
FEWER = ((3, 872, 0.0), (3, 872, 0.01), (3, 872, 0.02), (3, 277, 0.01), (3, 4183, 0.01), (5, 872, 0.01))  # for LARGE
AHEAD = ((3, 872, 0.0), (3, 872, 0.01), (3, 4183, 0.0), (3, 4183, 0.005), (5, 4183, 0.01))  # seeds, examples, luck
UNEVEN = ((2, 1, 0.02, 0.002), (6, 3, 0.02, 0.002), (20, 10, 0.02, 0.002), (6, 1, 0.03, 0.005), (20, 1, 0.05, 0.005))
GAP = 0.02
SPREAD = [*[0.80] * 24, *(0.80 - np.linspace(0.01, 0.25, 29)).tolist()]
POWER_TABLES = 4  # a quarter of the tables is enough for power
JUDGES = {"report": by_largest, "holm": by_holm}

Row = dict[str, Any]


def settings() -> dict[str, list[Row]]:
    """Return the simulated settings, by the table that shows them."""
    numbers = count()

    def row(cells: int, seeds: int, examples: int, luck: Any, **more: Any) -> Row:
        return {
            "cells": cells, "seeds": seeds, "examples": examples, "luck": luck, **more, "seed": next(numbers),
        }  # fmt: skip

    grid = product(SMALL, SEEDS, EXAMPLES, LUCK)
    return {
        "null": [
            *(row(*how) for how in grid),
            *(row(cells, *how) for cells in LARGE for how in FEWER),
            *(row(cells, 3, 872, 0.01, own=0.0) for cells in (*SMALL, *LARGE)),
        ],
        "uneven": [
            row(cells, 3, examples, [much] * many + [little] * (cells - many))
            for examples in EXAMPLES[1:]
            for cells, many, much, little in UNEVEN
        ],
        "ahead": [
            row(cells, *how, skill=[SKILL + GAP] + [SKILL] * (cells - 1)) for cells in (*SMALL, *LARGE) for how in AHEAD
        ],
        "spread": [row(len(SPREAD), 3, examples, luck, skill=SPREAD) for examples in (480, 872) for luck in LUCK],
        "single": [row(2, 1, examples, luck) for examples in EXAMPLES for luck in LUCK],
    }  # fmt: skip


def main() -> None:
    """Run the grid and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    results: dict[str, Any] = {"tables": args.tables, "skill": SKILL, "own": OWN, "gap": GAP}
    with ProcessPoolExecutor(args.workers) as pool:
        jobs: list[tuple[str, Row, dict[str, Future[Row]]]] = []
        for name, rows in settings().items():
            tables = max(1, args.tables // POWER_TABLES) if name in {"ahead", "spread"} else args.tables
            judges = ["report"] if name == "single" else list(JUDGES)
            jobs += [(name, how, {judge: pool.submit(_judged, judge, tables, how) for judge in judges}) for how in rows]
        for name, how, judged in jobs:
            results.setdefault(name, []).append(how | {judge: job.result() for judge, job in judged.items()})
            print(name, results[name][-1], flush=True)
    versions = {name: provenance()[name] for name in ("version", "commit", "dirty", "python")}
    (RESULTS / "verdicts.json").write_text(json.dumps(results | {"provenance": versions}, indent=1) + "\n")
    (RESULTS / "verdicts.md").write_text(page(results))


def _judged(judge: str, tables: int, how: Row) -> Row:
    return asdict(errors_of(**how, tables=tables, judge=JUDGES[judge]))


def page(data: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    worst = max(row["report"]["wrong"] for row in data["null"])
    coverage = [row["report"]["coverage"] for row in data["null"]]
    few = f"{data['tables'] // POWER_TABLES:,} tables"
    parts = [
        "# How often verdicts are wrong",
        (
            f"Each row is a setting with {data['tables']:,} simulated tables and cells of {100 * SKILL:.0f}% accuracy,"
            " unless stated otherwise. Luck: standard deviation of the true accuracy over seeds, in points. Own:"
            " standard deviation of the part of an example's difficulty that one cell has for itself; for the part that"
            f" all cells share it is {COMMON:g}. Holm: Welch's t-test of each pair with Holm's correction, on the same"
            " tables. Command: `python benchmarks/verdicts.py`."
        ),
        "## Equal cells",
        (
            "Wrong: tables in which a cell is called worse than the best although it is as good, at most"
            f" {100 * worst:.1f}%. Any two: tables in which any two cells are called different. Coverage: 95% intervals"
            f" of a score that contain the true value ({100 * min(coverage):.1f} to {100 * max(coverage):.1f}%)."
        ),
        _table(
            ["own", "wrong %", "any two %", "Holm: wrong %", "coverage %"],
            data["null"],
            lambda row: [
                f"{row.get('own', OWN):g}",
                *_both(row, "wrong", "pairs"),
                *_both(row, holm="wrong"),
                *_both(row, "coverage"),
            ],
        ),
        "## Equal cells with unequal luck",
        "The number of cells with each luck is in brackets. Wrong: as above.",
        _table(["wrong %", "Holm: wrong %"], data["uneven"], lambda row: _both(row, "wrong", holm="wrong")),
        f"## One cell is better by {100 * GAP:.0f} points",
        f"Power: worse cells that are called worse than the best ({few}).",
        _table(["power %", "Holm: power %"], data["ahead"], lambda row: _both(row, "power", holm="power")),
        "## 53 cells",
        (
            f"24 equally good cells (80%) and 29 that are worse by 1 to 25 points ({few}). Left: mean number of cells"
            " that are not called worse than the best; 24 would be perfect."
        ),
        _table(
            ["left", "Holm: left", "wrong %", "Holm: wrong %"],
            data["spread"],
            lambda row: [*(f"{row[judge]['left']:.1f}" for judge in JUDGES), *_both(row, "wrong", holm="wrong")],
        ),
        "## One seed",
        "There is no test. Coverage: 95% intervals that contain the accuracy of the trained model.",
        _table(["coverage %"], data["single"], lambda row: _both(row, "coverage")),
    ]
    return "\n\n".join(part if part.startswith("|") else _wrapped(part) for part in parts) + "\n"


def _wrapped(text: str) -> str:
    return fill(text, 120, break_on_hyphens=False)


def _table(heads: list[str], rows: list[Row], entries: Callable[[Row], list[str]]) -> str:
    who = ["cells", "seeds", "examples", "luck"]
    lines = [[*who, *heads], [*["---:"] * 3, "---", *["---:"] * len(heads)]]
    lines += [
        [str(row["cells"]), str(row["seeds"]), f"{row['examples']:,}", _luck(row["luck"]), *entries(row)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _both(row: Row, *names: str, holm: str | None = None) -> list[str]:
    shares = [*(row["report"][name] for name in names), *([row["holm"][holm]] if holm else [])]
    return [f"{100 * share:.1f}" for share in shares]


def _luck(luck: Any) -> str:
    if not isinstance(luck, list):
        return f"{100 * luck:g}"
    return " and ".join(f"{100 * value:g} ({luck.count(value)})" for value in dict.fromkeys(luck))


if __name__ == "__main__":
    main()
