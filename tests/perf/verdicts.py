"""How often the report's tests and intervals are wrong on simulated tables whose truth is known.

    python tests/perf/verdicts.py [--tables 2000]

Writes results/perf/verdicts.json and verdicts.md. tests/test_verdicts.py checks four of the settings.
"""

import argparse
import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated_tables import SKILL, errors_of

from bench.provenance import provenance

RESULTS = Path(__file__).parents[2] / "results" / "perf"
SEEDS, EXAMPLES, LUCK = (1, 3, 5), (277, 872, 4183), (0.0, 0.01, 0.02)
ONE_LUCKY = (0.002, 0.02)  # two cells of which one knows hardly any luck
GAP = 0.02
FAMILIES = (6, 20)


def main() -> None:
    """Run the grid and write what it gives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", type=int, default=2000)
    tables = parser.parse_args().tables
    gc.collect = lambda *_: 0  # statsmodels collects in every correction, 20 ms each
    pairs = [_pair(seeds, examples, luck, tables) for seeds in SEEDS for examples in EXAMPLES for luck in LUCK]
    pairs += [_pair(seeds, examples, ONE_LUCKY, tables) for seeds in SEEDS[1:] for examples in EXAMPLES]
    families = [_family(cells, seeds, tables) for cells in FAMILIES for seeds in SEEDS[1:]]
    found = {"tables": tables, "skill": SKILL, "gap": GAP, "pairs": pairs, "families": families}
    versions = {name: provenance()[name] for name in ("version", "commit", "dirty", "python")}
    (RESULTS / "verdicts.json").write_text(json.dumps(found | {"provenance": versions}, indent=1) + "\n")
    (RESULTS / "verdicts.md").write_text(_page(found))


def _pair(seeds: int, examples: int, luck: Any, tables: int) -> dict[str, Any]:
    errors = errors_of(seeds, examples, luck, tables=tables)
    power = errors_of(seeds, examples, luck, tables=tables, gap=GAP, seed=1).level
    found = {"seeds": seeds, "examples": examples, "luck": luck, "power": power, **asdict(errors)}
    print(found, flush=True)
    return found


def _family(cells: int, seeds: int, tables: int) -> dict[str, Any]:
    errors = errors_of(seeds, 872, 0.01, cells=cells, tables=tables)
    found = {"cells": cells, "seeds": seeds, "examples": 872, "luck": 0.01, **asdict(errors)}
    print(found, flush=True)
    return found


def _page(found: dict[str, Any]) -> str:
    about = (
        f"{found['tables']:,} simulated tables of two cells in each row, accuracy {100 * SKILL:.0f}%. Luck: standard "
        "deviation of the true accuracy over seeds, in points. Level: equal cells told apart at 5%. Coverage: 95% "
        "intervals of a score that hold the truth; with one seed, the accuracy of this trained model. Power: cells "
        f"{100 * GAP:.0f} points apart that are told apart. Command: `python tests/perf/verdicts.py`."
    )
    lines = [
        "# How often verdicts are wrong",
        "",
        about,
        "",
        "| seeds | examples | luck | level % | coverage % | power % |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    for row in found["pairs"]:
        shares = (_percent(row[name]) for name in ("level", "coverage", "power"))
        lines.append(f"| {row['seeds']} | {row['examples']:,} | {_luck(row['luck'])} | {' | '.join(shares)} |")
    lines += [
        "",
        "Larger tables, corrected for all pairs (Holm). Wrong: tables of equal cells in which any two are told apart.",
        "",
        "| cells | seeds | examples | luck | wrong % |",
        "|---:|---:|---:|---|---:|",
    ]
    for row in found["families"]:
        who = f"| {row['cells']} | {row['seeds']} | {row['examples']:,} | {_luck(row['luck'])} "
        lines.append(f"{who}| {_percent(row['family'])} |")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _luck(luck: Any) -> str:
    return " and ".join(f"{100 * one:g}" for one in luck) if isinstance(luck, (list, tuple)) else f"{100 * luck:g}"


if __name__ == "__main__":
    main()
