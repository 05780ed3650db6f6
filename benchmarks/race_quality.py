"""How good the race for a learning rate is, compared with all candidates trained in full with three seeds.

    python benchmarks/race_quality.py            trains what is missing, then writes results/perf/race-quality.{json,md}
    python benchmarks/race_quality.py --read     writes them from the existing records

A rate is good if its mean score on the report part is at most one standard error of the difference below the best
rate's. The standard error is over seeds and examples, paired by example (bench/report/stats/variances.py). The race
has seen neither the report part nor these seeds. The best of many rates is biased upwards, so this criterion is
stricter than a fair one.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.records.provenance import provenance
from bench.records.record import Record, read_all
from bench.report.stats.variances import variances_of

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = (  # fourteen cells of seven families at rank 8
    "full", "head", "bitfit", "lora", "dora", "pissa", "adapter", "adapter_pfeiffer", "adapter_parallel", "ia3", "oft",
    "miss", "prefix", "prompt",
)  # fmt: skip


def train(results: Path) -> None:
    """Train every candidate in full and run every race; recorded trials are not trained again."""
    command = [sys.executable, "-m", "bench.run", "-m", f"method={','.join(METHODS)}", "track=off"]
    command += [f"results_dir={results}"]
    for lrs in ("all", "tuned"):
        subprocess.run([*command, f"lrs={lrs}"], cwd=REPOSITORY, check=False)


def judged(members: list[Record]) -> dict[str, Any] | None:
    """Compare the rate that a cell's race chose with the best rate. Returns None if a record is missing."""
    race = next((record.race for record in members if record.race), None)
    truth = next((record.truth for record in members if record.truth), None)
    by_rate: dict[float, list[Record]] = defaultdict(list)
    for record in members:
        if record.trial and record.outcome == "ok":
            by_rate[record.trial["lr"]].append(record)
    if race is None or race["lr"] is None or truth is None or race["lr"] not in by_rate:
        return None
    rates = sorted(rate for rate, trials in by_rate.items() if len(trials) == len(by_rate[race["lr"]]))
    answers = [
        np.array([record.predictions["report"] for record in by_rate[rate] if record.predictions]) for rate in rates
    ]
    variances = variances_of(answers, np.array(truth["report"]), "accuracy")
    best, chosen = int(variances.means.argmax()), rates.index(race["lr"])
    variance = variances.of_differences[best, chosen] + variances.over_seeds[best] + variances.over_seeds[chosen]
    rule, count = race["rule"], len(race["candidates"])
    finished = sum(candidate["outcome"] == "finished" for candidate in race["candidates"])
    return {
        "title": members[0].cell["title"],
        "family": members[0].config["method"]["family"],
        "published": race["published"],
        "chosen": race["lr"],
        "best": rates[best],
        "published_score": float(variances.means[rates.index(race["published"])]),
        "chosen_score": float(variances.means[chosen]),
        "best_score": float(variances.means[best]),
        "standard_error": float(np.sqrt(variance)),
        "rates": len(rates),
        "race_trials": count * rule["first_part"] + finished * (1 - rule["first_part"]),
    }


def page(cells: list[dict[str, Any]]) -> str:
    """Return the page as Markdown."""
    good = [cell["best_score"] - cell["chosen_score"] <= cell["standard_error"] for cell in cells]
    lost = [100 * (cell["best_score"] - cell["chosen_score"]) for cell in cells]
    gained = [100 * (cell["chosen_score"] - cell["published_score"]) for cell in cells]
    cost = float(np.mean([cell["race_trials"] for cell in cells]))
    families = len({cell["family"] for cell in cells})
    summary = (
        f"The race chose a rate within one standard error of the best in {sum(good)} of {len(cells)} cells ({families} "
        f"families, `reviews`, MiniLM, rank 8). Median loss to the best rate: {np.median(lost):.1f} points, largest "
        f"{max(lost):.1f}. Median gain over the published rate: {np.median(gained):.1f} points. A race cost {cost:.1f} "
        "trainings on average, and 3 for the report, in place of 21."
    )
    lines = [
        "# How good the race is",
        "",
        summary,
        "",
        "| cell | published | chosen | best | at published | at chosen | at best | standard error | good |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for cell, fine in zip(cells, good, strict=True):
        scores = " | ".join(f"{100 * cell[f'{name}_score']:.1f}" for name in ("published", "chosen", "best"))
        lines.append(
            f"| {cell['title']} | {cell['published']:g} | {cell['chosen']:g} | {cell['best']:g} | {scores} | "
            f"{100 * cell['standard_error']:.1f} | {'yes' if fine else 'no'} |"
        )
    return "\n".join([*lines, "", "Command: `python benchmarks/race_quality.py`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=REPOSITORY / "outputs" / "race-quality")
    parser.add_argument("--read", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.read:
        train(args.results)
    by_cell: dict[str, list[Record]] = defaultdict(list)
    for record in read_all(args.results, print):
        by_cell[record.cell["id"]].append(record)
    cells = sorted(filter(None, map(judged, by_cell.values())), key=lambda cell: cell["title"])
    if not cells:
        parser.error(f"{args.results} holds no cell with a race and all candidates; run it without --read")
    path = REPOSITORY / "results" / "perf" / "race-quality"
    path.with_suffix(".json").write_text(json.dumps({"cells": cells, "provenance": provenance()}, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(cells))


if __name__ == "__main__":
    main()
