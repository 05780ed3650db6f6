"""What must stand under a table about its learning rates and its flags."""

from collections import defaultdict
from typing import Any

import pandas as pd

from bench.report.flags import BELOW_HEAD, FLAGS, HEAD, listed, probe_scores
from bench.report.record_frame import Study
from bench.report.stats.ties import MOST, some_of
from bench.report.tables.table import DASH
from bench.report.tuning import TUNED, WHOLE, race_of

QUICK = "quick"


def rate_notes(study: Study, cells: pd.DataFrame, *, named: bool) -> list[str]:
    """How the learning rates were found. named: whether to name the chosen ones."""
    tried = sorted({int(count) for count in cells["rates"] if count})
    line = f"Learning rates tried per cell: {', '.join(map(str, tried)) or DASH}{_chosen(cells) if named else ''}."
    return [line, *rate_rules(study, cells[cells["tuning"] == TUNED]), *_carried(study, cells)]


def _carried(study: Study, cells: pd.DataFrame) -> list[str]:
    """One line where cells train at the rate of another cell's race."""
    titles = dict(zip(study.cells["cell"], study.cells["title"], strict=True))
    by_leader: dict[str, list[str]] = defaultdict(list)
    for name, title in zip(cells["cell"], cells["title"], strict=True):
        record = race_of(study.members[name])
        if record and record.race and (leader := record.race.get("of")):
            by_leader[titles.get(leader, leader)].append(title)
    return [
        f"At the rate that the race of {leader} found (tune=once): {some_of(found)}."
        for leader, found in by_leader.items()
    ]


def _chosen(cells: pd.DataFrame) -> str:
    """The chosen rates by method."""
    known = cells[cells["lr"].notna()].groupby("method")["lr"]
    by_method = [f"{method} {' or '.join(f'{lr:g}' for lr in sorted(rates.unique()))}" for method, rates in known]
    if len(by_method) > MOST:
        return "; the table of cells has the chosen ones"
    return f"; chosen: {', '.join(by_method)}" if by_method else ""


def rate_rules(study: Study, tuned: pd.DataFrame) -> list[str]:
    """One line for each rule by which rates were raced for; cells are named where there are several rules."""
    by_rule: dict[str, list[str]] = defaultdict(list)
    for name, title in zip(tuned["cell"], tuned["title"], strict=True):
        record = race_of(study.members[name])
        if record and record.race:
            by_rule[rule_text(record.race["rule"])].append(title)
    if len(by_rule) == 1:
        return [f"Tuned by a race: {text}" for text in by_rule]
    return [f"Tuned by a race, {some_of(titles)}: {text}" for text, titles in by_rule.items()]


def rule_text(rule: dict[str, Any]) -> str:
    """The rule of a race in a sentence or two."""
    count, apart, first = rule["candidates"], rule["apart"], rule["first_part"]
    distance = {0.5: "half a decade", 1.0: "a decade"}.get(apart, f"{apart:g} decades")
    part = {0.333: "a third", 0.5: "half"}.get(round(first, 3), f"{100 * first:.0f}%")
    wider = f", up to {rule['widenings']} more where the best is at an edge" if rule.get("widenings") else ""
    text = (
        f"{count} candidates {distance} apart around the published rate{wider}; each trains {part} of the schedule on "
        f"seed {rule['seed']}, the best {rule['finalists']} all of it, and the lowest loss on select wins."
    )
    if count >= WHOLE:
        return text
    return f"{text} That is the quick rule (protocol={QUICK}); protocol=standard in its place runs the whole one."


def flag_notes(study: Study, cells: pd.DataFrame, *, named: bool) -> list[str]:
    """What each flag means that one of the cells has. named: whether to name the cells, where no column shows flags."""
    lines = []
    for flag, meaning in FLAGS.items():
        titles = [title for title, found in zip(cells["title"], cells["flags"], strict=True) if flag in listed(found)]
        if titles:
            where = f" ({some_of(list(dict.fromkeys(titles)))})" if named else ""
            lines.append(f"Flag {flag}{where}: {meaning}.")
    return [*lines, *_unknown_heads(study, cells)]


def _unknown_heads(study: Study, cells: pd.DataFrame) -> list[str]:
    """One line where some cells cannot be compared with a linear probe, as none is recorded."""
    asked = cells[cells["report_score"].notna() & cells["tuning"].notna() & (cells["method"] != HEAD)]
    unknown = set(asked["table"]) - set(probe_scores(study.cells))
    return (
        [f"Whether a cell is {BELOW_HEAD} is not known (-): no tuned method={HEAD} is among these records."]
        if unknown
        else []
    )
