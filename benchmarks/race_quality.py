"""How good is the race for a learning rate? Beside all candidates, trained whole with three seeds.

    python benchmarks/race_quality.py            trains what is missing, then writes results/perf/race-quality.{json,md}
    python benchmarks/race_quality.py --read     from what is recorded

A rate is good if its mean score on the report part is at most one standard error of the difference below the best
rate's. The standard error is over seeds and examples, paired by example (bench/report/stats/variances.py). The race
has seen neither the report part nor these seeds. Best of many is biased upwards, so that this asks more than a fair
judge would.
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
    """Train every candidate whole, and hold every race; what is recorded is not trained again."""
    command = [sys.executable, "-m", "bench.run", "-m", f"method={','.join(METHODS)}", "track=off"]
    command += [f"results_dir={results}"]
    for lrs in ("all", "tuned"):
        subprocess.run([*command, f"lrs={lrs}"], cwd=REPOSITORY, check=False)


def judged(members: list[Record]) -> dict[str, Any] | None:
    """What the race of a cell chose, and how that stands beside the best rate; None where something is not recorded."""
    race = next((one.race for one in members if one.race), None)
    truth = next((one.truth for one in members if one.truth), None)
    by_rate: dict[float, list[Record]] = defaultdict(list)
    for one in members:
        if one.trial and one.outcome == "ok":
            by_rate[one.trial["lr"]].append(one)
    if race is None or race["lr"] is None or truth is None or race["lr"] not in by_rate:
        return None
    rates = sorted(rate for rate, trials in by_rate.items() if len(trials) == len(by_rate[race["lr"]]))
    answers = [np.array([one.predictions["report"] for one in by_rate[rate] if one.predictions]) for rate in rates]
    found = variances_of(answers, np.array(truth["report"]), "accuracy")
    best, chosen = int(found.means.argmax()), rates.index(race["lr"])
    variance = found.of_differences[best, chosen] + found.over_seeds[best] + found.over_seeds[chosen]
    rule, count = race["rule"], len(race["candidates"])
    finished = sum(one["outcome"] == "finished" for one in race["candidates"])
    return {
        "title": members[0].cell["title"],
        "family": members[0].config["method"]["family"],
        "published": race["published"],
        "chosen": race["lr"],
        "best": rates[best],
        "published_score": float(found.means[rates.index(race["published"])]),
        "chosen_score": float(found.means[chosen]),
        "best_score": float(found.means[best]),
        "standard_error": float(np.sqrt(variance)),
        "rates": len(rates),
        "race_trials": count * rule["first_part"] + finished * (1 - rule["first_part"]),
    }


def told(cells: list[dict[str, Any]]) -> str:
    """The page."""
    good = [one["best_score"] - one["chosen_score"] <= one["standard_error"] for one in cells]
    lost = [100 * (one["best_score"] - one["chosen_score"]) for one in cells]
    gained = [100 * (one["chosen_score"] - one["published_score"]) for one in cells]
    cost = float(np.mean([one["race_trials"] for one in cells]))
    families = len({one["family"] for one in cells})
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
    for one, fine in zip(cells, good, strict=True):
        scores = " | ".join(f"{100 * one[f'{name}_score']:.1f}" for name in ("published", "chosen", "best"))
        lines.append(
            f"| {one['title']} | {one['published']:g} | {one['chosen']:g} | {one['best']:g} | {scores} | "
            f"{100 * one['standard_error']:.1f} | {'yes' if fine else 'no'} |"
        )
    return "\n".join([*lines, "", "Command: `python benchmarks/race_quality.py`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=REPOSITORY / "outputs" / "race-quality")
    parser.add_argument("--read", action="store_true", help="train nothing")
    given = parser.parse_args()
    if not given.read:
        train(given.results)
    by_cell: dict[str, list[Record]] = defaultdict(list)
    for record in read_all(given.results, print):
        by_cell[record.cell["id"]].append(record)
    cells = sorted(filter(None, map(judged, by_cell.values())), key=lambda one: one["title"])
    if not cells:
        parser.error(f"{given.results} holds no cell with a race and all candidates; run it without --read")
    path = REPOSITORY / "results" / "perf" / "race-quality"
    path.with_suffix(".json").write_text(json.dumps({"cells": cells, "provenance": provenance()}, indent=1) + "\n")
    path.with_suffix(".md").write_text(told(cells))


if __name__ == "__main__":
    main()
