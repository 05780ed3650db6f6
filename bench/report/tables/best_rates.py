"""The table of best rates: where the loss on select is lowest, how that moves with the rank, and what carrying a rate
over from one cell to others would cost.
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

FULL = "full"  # the method whose best rate the others are set against
FINISHED = "finished"
MEANING = (
    "best lr: the lowest point of a parabola through the lowest loss on select and its two neighbours, over the "
    "logarithm of the rate (the tried rate itself where a neighbour was dropped); < or >: no lower or no higher rate "
    "was tried."
)
CARRIED = (
    "loses: points of the score between the cell's own best rate and the best rate of its method's first row, which "
    "tune=once would train it at; both are chosen by the loss on select, and the seeds are the same."
)
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class BestRate:
    """Of one cell. tried: the rate with the lowest loss. lr: where the loss is lowest between the rates.

    edge: `<` where no lower rate was tried, `>` where no higher one was.
    """

    tried: float
    lr: float
    edge: str = ""

    def __str__(self) -> str:
        return f"{self.edge}{self.lr:.2g}"


def best_rates(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - every table is called alike
    """The best rate of every cell of which at least ENOUGH rates were trained to the end."""
    best = {name: one for name, some in study.members.items() if (one := best_of(some)) is not None}
    found = study.cells[study.cells["cell"].isin(best) & ~study.cells["random"].astype(bool)]
    if len(found) < 2:  # nothing to compare
        return None
    rows = found.to_dict("records")
    full = {row["table"]: best[row["cell"]].lr for row in rows if row["method"] == FULL}
    lost = dict(_lost(study, rows, best))
    columns: dict[str, Any] = {**who(found, scored=False), "best lr": [str(best[row["cell"]]) for row in rows]}
    if full:
        columns["x full"] = [
            ratio_text(best[row["cell"]].lr / full[row["table"]]) if row["table"] in full else DASH for row in rows
        ]
    if lost:
        columns["loses"] = [text(lost.get(row["cell"]), "{:+.1f}") for row in rows]
    members = [record for row in rows for record in study.members[row["cell"]]]
    notes = [MEANING, *([CARRIED] if lost else []), *_moves(rows, best, lost, full), *mixture(members)]
    return Table("best_rates", title_of(study, found), pd.DataFrame(columns, dtype=object), notes, WORDS)


def best_of(members: Iterable[Record]) -> BestRate | None:
    """The best rate of a cell by its trials or, where that is more rates, by its race; None: too few came to the end.

    Loss: the lowest on select; of trials the mean over the seeds that all rates have.
    """
    found = list(members)
    record = race_of(found)
    race = record.race if record and record.race else {"candidates": []}
    losses = max(_trained(found), _raced(race), key=len)
    if len(losses) < ENOUGH:
        return None
    trained = {lr for one in found if one.trial and (lr := rate_of(one)) is not None}
    tried, rates = {*rates_of(race), *trained}, sorted(losses)  # tried: whatever became of them
    lowest = min(rates, key=lambda lr: (losses[lr], lr))
    if lowest in (min(tried), max(tried)):
        return BestRate(lowest, lowest, "<" if lowest == min(tried) else ">")
    place = rates.index(lowest)
    if place in (0, len(rates) - 1):
        return BestRate(lowest, lowest)
    around = [(math.log10(lr), losses[lr]) for lr in rates[place - 1 : place + 2]]
    return BestRate(lowest, 10 ** _vertex(*around))


def _trained(members: Iterable[Record]) -> dict[float, float]:
    by_rate: dict[float, dict[int, float]] = defaultdict(dict)
    for one in members:
        known = [loss for _, loss in (one.scores or {}).get("select_losses") or [] if loss is not None]
        if one.trial and (lr := rate_of(one)) is not None and known:
            by_rate[lr][int(one.trial["seed"])] = min(known)
    seeds = set.intersection(*map(set, by_rate.values())) if by_rate else set()
    return {lr: fmean(some[seed] for seed in seeds) for lr, some in by_rate.items()} if seeds else {}


def _raced(race: Mapping[str, Any]) -> dict[float, float]:
    finished = [one for one in race["candidates"] if one["outcome"] == FINISHED]
    return {one["lr"]: one["lowest"] for one in finished if one["lowest"] is not None}


def _vertex(before: tuple[float, float], lowest: tuple[float, float], after: tuple[float, float]) -> float:
    """Where the parabola through three points has its lowest one."""
    (a, fa), (b, fb), (c, fc) = before, lowest, after
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    return b if left == right else b - ((b - a) * left - (b - c) * right) / (2 * (left - right))


def _families(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Cells that differ in rank and target alone, several of each, with the name of what they have in common."""
    by_family: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_family[tuple(value_name(row[key]) for key in ("table", "method", *MORE))].append(row)
    for (_, method, *more), members in by_family.items():
        if len(members) > 1:
            said = [f"{name}={value}" for name, value in zip(MORE, more, strict=True) if value != DASH]
            yield " ".join([method, *said]), members


def _lost(study: Study, rows: Iterable[Row], best: Mapping[str, BestRate]) -> Iterator[tuple[str, float]]:
    """Points that each cell but the first of its family loses at the rate of the first, where that was trained."""
    for _, (first, *others) in _families(rows):
        for row in others:
            members = study.members[row["cell"]]
            if len({rate_of(one) for one in members if one.trial}) == 1:  # which says nothing of any other
                continue
            own, carried = (_reports(members, best[name].tried) for name in (row["cell"], first["cell"]))
            if seeds := own.keys() & carried.keys():
                yield row["cell"], 100 * fmean(own[seed] - carried[seed] for seed in seeds)


def _reports(members: Iterable[Record], lr: float) -> dict[int, float]:
    """The scores at a rate, by seed."""
    trials = [one for one in members if one.trial and one.scores and rate_of(one) == lr]
    return {int((one.trial or {})["seed"]): (one.scores or {})["report"] for one in trials}


def _moves(
    rows: Iterable[Row], best: Mapping[str, BestRate], lost: Mapping[str, float], full: Mapping[str, float]
) -> Iterator[str]:
    """A line for each family: how its best rate moves with the rank, and what carrying a rate over costs."""
    for family, members in _families(rows):
        said = []
        inside = [row for row in members if pd.notna(row["rank"]) and not best[row["cell"]].edge]
        points = [(math.log10(row["rank"]), math.log10(best[row["cell"]].lr)) for row in inside]
        if len({x for x, _ in points}) >= ENOUGH:
            said.append(f"ten times the rank has {ratio_text(10 ** _slope(points))} times the best rate")
        if ratios := [best[row["cell"]].lr / full[row["table"]] for row in members if row["table"] in full]:
            mean = 10 ** fmean(map(math.log10, ratios))
            low, high, middle = map(ratio_text, (min(ratios), max(ratios), mean))
            said.append(f"{low} to {high} times full fine-tuning's best rate (geometric mean {middle})")
        if losses := [lost[row["cell"]] for row in members if row["cell"] in lost]:
            title = members[0]["title"]
            cost = f"{fmean(losses):.1f} points on average, {max(losses):.1f} at most"
            said.append(f"the best rate of {title} costs the others {cost}")
        if said:
            yield f"{family}: {'; '.join(said)}."


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the line of least squares."""
    x, y = (fmean(axis) for axis in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
