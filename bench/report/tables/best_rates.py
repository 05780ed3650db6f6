"""The table of best learning rates.

It shows where the loss on select is lowest, how the best rate changes with the rank, and what reusing one cell's rate
for others would cost.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from bench.records.record import Record
from bench.report.record_frame import Study
from bench.report.tables.entries import MORE, SCORE, WORDS, title_of, value_name, who
from bench.report.tables.notes import mixture
from bench.report.tables.table import DASH, Table, ratio_text, text
from bench.report.tuning import ENOUGH, race_of, rate_of, rates_of

FULL = "full"  # the reference method: the others show their best rate relative to it
FINISHED = "finished"
MEANING = (
    "best lr: the lowest point of a parabola through the lowest loss on select and its two neighbours, over the "
    "logarithm of the rate (the tried rate itself where a neighbour was dropped); < or >: no lower or no higher rate "
    "was tried."
)
CARRIED = (
    "loses: points of the score lost at the best rate of the method's first row, which tune=once would use, compared "
    "with the cell's own best rate; both rates are chosen by the loss on select, and the seeds are the same."
)
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class BestRate:
    """The best learning rate of one cell.

    Attributes:
        tried: The tried rate with the lowest loss.
        lr: The interpolated rate with the lowest loss.
        edge: `<` if no lower rate was tried, `>` if no higher rate was tried, else empty.
    """

    tried: float
    lr: float
    edge: str = ""

    def __str__(self) -> str:
        return f"{self.edge}{self.lr:.2g}"


def best_rates(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - all tables share one signature
    """Build the table of the best rate of every cell with at least ENOUGH fully trained rates.

    Returns:
        The table; None if there are fewer than two such cells.
    """
    best = {name: rate for name, members in study.members.items() if (rate := best_of(members)) is not None}
    cells = study.cells[study.cells["cell"].isin(best) & ~study.cells["random"].astype(bool)]
    if len(cells) < 2:
        return None
    rows = cells.to_dict("records")
    full = {row["table"]: best[row["cell"]].lr for row in rows if row["method"] == FULL}
    lost = dict(_lost_points(study, rows, best))
    columns: dict[str, Any] = {**who(cells, scored=False), "best lr": [str(best[row["cell"]]) for row in rows]}
    if full:
        columns["x full"] = [
            ratio_text(best[row["cell"]].lr / full[row["table"]]) if row["table"] in full else DASH for row in rows
        ]
    if lost:
        columns["loses"] = [text(lost.get(row["cell"]), "{:+.1f}") for row in rows]
    members = [record for row in rows for record in study.members[row["cell"]]]
    notes = [MEANING, *([CARRIED] if lost else []), *_family_notes(rows, best, lost, full), *mixture(members)]
    return Table("best_rates", title_of(study, cells), pd.DataFrame(columns, dtype=object), notes, WORDS)


def best_of(members: Iterable[Record]) -> BestRate | None:
    """Find the best rate of a cell from its trials, or from its race if that finished more rates.

    The loss of a rate is its lowest loss on select. For trials it is averaged over the seeds that all rates share.

    Returns:
        The best rate; None if fewer than ENOUGH rates were trained to the end.
    """
    records = list(members)
    record = race_of(records)
    race = record.race if record and record.race else {"candidates": []}
    losses = max(_trial_losses(records), _race_losses(race), key=len)
    if len(losses) < ENOUGH:
        return None
    trained = {lr for record in records if record.trial and (lr := rate_of(record)) is not None}
    tried, rates = {*rates_of(race), *trained}, sorted(losses)  # tried includes rates that were not trained to the end
    lowest = min(rates, key=lambda lr: (losses[lr], lr))
    if lowest in (min(tried), max(tried)):
        return BestRate(lowest, lowest, "<" if lowest == min(tried) else ">")
    index = rates.index(lowest)
    if index in (0, len(rates) - 1):
        return BestRate(lowest, lowest)
    neighbours = [(math.log10(lr), losses[lr]) for lr in rates[index - 1 : index + 2]]
    return BestRate(lowest, 10 ** _vertex(*neighbours))


def _trial_losses(members: Iterable[Record]) -> dict[float, float]:
    """Return the lowest loss on select by rate, averaged over the seeds that all rates share."""
    by_rate: dict[float, dict[int, float]] = defaultdict(dict)
    for record in members:
        losses = [loss for _, loss in (record.scores or {}).get("select_losses") or [] if loss is not None]
        if record.trial and (lr := rate_of(record)) is not None and losses:
            by_rate[lr][int(record.trial["seed"])] = min(losses)
    seeds = set.intersection(*map(set, by_rate.values())) if by_rate else set()
    return {lr: fmean(by_seed[seed] for seed in seeds) for lr, by_seed in by_rate.items()} if seeds else {}


def _race_losses(race: Mapping[str, Any]) -> dict[float, float]:
    """Return the lowest loss on select by rate, for candidates that finished the race."""
    finished = [candidate for candidate in race["candidates"] if candidate["outcome"] == FINISHED]
    return {candidate["lr"]: candidate["lowest"] for candidate in finished if candidate["lowest"] is not None}


def _vertex(before: tuple[float, float], lowest: tuple[float, float], after: tuple[float, float]) -> float:
    """Return the position of the lowest point of the parabola through three points."""
    (a, fa), (b, fb), (c, fc) = before, lowest, after
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    return b if left == right else b - ((b - a) * left - (b - c) * right) / (2 * (left - right))


def _families(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield groups of several cells that differ only in rank and target, each with a name for what they share."""
    by_family: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_family[tuple(value_name(row[key]) for key in ("table", "method", *MORE))].append(row)
    for (_, method, *more), members in by_family.items():
        if len(members) > 1:
            settings = [f"{name}={value}" for name, value in zip(MORE, more, strict=True) if value != DASH]
            yield " ".join([method, *settings]), members


def _lost_points(study: Study, rows: Iterable[Row], best: Mapping[str, BestRate]) -> Iterator[tuple[str, float]]:
    """Yield the points that each later cell of a family loses at the first cell's rate, if it was trained at both."""
    for _, (first, *others) in _families(rows):
        for row in others:
            members = study.members[row["cell"]]
            if len({rate_of(record) for record in members if record.trial}) == 1:  # no second rate to compare
                continue
            own, carried = (_report_scores(members, best[name].tried) for name in (row["cell"], first["cell"]))
            if seeds := own.keys() & carried.keys():
                yield row["cell"], 100 * fmean(own[seed] - carried[seed] for seed in seeds)


def _report_scores(members: Iterable[Record], lr: float) -> dict[int, float]:
    """Return the scores on the report part at a rate, by seed."""
    trials = [record for record in members if record.trial and record.scores and rate_of(record) == lr]
    return {int((record.trial or {})["seed"]): (record.scores or {})["report"] for record in trials}


def _family_notes(
    rows: Iterable[Row], best: Mapping[str, BestRate], lost: Mapping[str, float], full: Mapping[str, float]
) -> Iterator[str]:
    """Yield a note for each family: how its best rate changes with the rank, and what reusing a rate costs."""
    for family, members in _families(rows):
        findings = []
        interior = [row for row in members if pd.notna(row["rank"]) and not best[row["cell"]].edge]
        points = [(math.log10(row["rank"]), math.log10(best[row["cell"]].lr)) for row in interior]
        if len({x for x, _ in points}) >= ENOUGH:
            findings.append(f"a rank ten times higher has {ratio_text(10 ** _slope(points))} times the best rate")
        if ratios := [best[row["cell"]].lr / full[row["table"]] for row in members if row["table"] in full]:
            mean = 10 ** fmean(map(math.log10, ratios))
            low, high, middle = map(ratio_text, (min(ratios), max(ratios), mean))
            findings.append(f"{low} to {high} times full fine-tuning's best rate (geometric mean {middle})")
        if losses := [lost[row["cell"]] for row in members if row["cell"] in lost]:
            title = members[0]["title"]
            cost = f"{fmean(losses):.1f} points on average, {max(losses):.1f} at most"
            findings.append(f"the best rate of {title} costs the others {cost}")
        if findings:
            yield f"{family}: {'; '.join(findings)}."


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line."""
    x, y = (fmean(axis) for axis in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
