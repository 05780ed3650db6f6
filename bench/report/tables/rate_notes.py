"""The notes under a table about its learning rates and its flags."""

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
    """Say how the learning rates were found.

    Args:
        study: Comparable cells.
        cells: The cells shown.
        named: Whether to name the chosen rates.
    """
    tried = sorted({int(count) for count in cells["rates"] if count})
    line = (
        f"Learning rates tried per cell: {', '.join(map(str, tried)) or DASH}{_chosen_rates(cells) if named else ''}."
    )
    return [line, *rate_rules(study, cells[cells["tuning"] == TUNED]), *_carried_rates(study, cells)]


def _carried_rates(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return one note per race whose rate other cells reuse."""
    titles = dict(zip(study.cells["cell"], study.cells["title"], strict=True))
    by_leader: dict[str, list[str]] = defaultdict(list)
    for name, title in zip(cells["cell"], cells["title"], strict=True):
        record = race_of(study.members[name])
        if record and record.race and (leader := record.race.get("of")):
            by_leader[titles.get(leader, leader)].append(title)
    return [
        f"Trained at the rate chosen by the race of {leader} (tune=once): {some_of(followers)}."
        for leader, followers in by_leader.items()
    ]


def _chosen_rates(cells: pd.DataFrame) -> str:
    """List the chosen rates by method."""
    known = cells[cells["lr"].notna()].groupby("method")["lr"]
    by_method = [f"{method} {' or '.join(f'{lr:g}' for lr in sorted(rates.unique()))}" for method, rates in known]
    if len(by_method) > MOST:
        return "; the chosen rates are in table=cells"
    return f"; chosen: {', '.join(by_method)}" if by_method else ""


def rate_rules(study: Study, tuned: pd.DataFrame) -> list[str]:
    """Return one note per rule of the races. The notes name their cells if there are several rules."""
    by_rule: dict[str, list[str]] = defaultdict(list)
    for name, title in zip(tuned["cell"], tuned["title"], strict=True):
        record = race_of(study.members[name])
        if record and record.race:
            by_rule[rule_text(record.race["rule"])].append(title)
    if len(by_rule) == 1:
        return [f"Tuned by a race: {text}" for text in by_rule]
    return [f"Tuned by a race, {some_of(titles)}: {text}" for text, titles in by_rule.items()]


def rule_text(rule: dict[str, Any]) -> str:
    """Describe the rule of a race in a sentence or two."""
    count, apart, first = rule["candidates"], rule["apart"], rule["first_part"]
    distance = {0.5: "half a decade", 1.0: "a decade"}.get(apart, f"{apart:g} decades")
    part = {0.333: "a third", 0.5: "half"}.get(round(first, 3), f"{100 * first:.0f}%")
    wider = f", up to {rule['widenings']} more where the best is at an edge" if rule.get("widenings") else ""
    text = (
        f"{count} candidates {distance} apart around the published rate{wider}; each trains {part} of the schedule on "
        f"seed {rule['seed']}, the best {rule['finalists']} train all of it, and the lowest loss on select wins."
    )
    if count >= WHOLE:
        return text
    return f"{text} This is the quick rule (protocol={QUICK}); use protocol=standard for the whole rule."


def flag_notes(study: Study, cells: pd.DataFrame, *, named: bool) -> list[str]:
    """Explain the flags that the cells have.

    Args:
        study: Comparable cells.
        cells: The cells shown.
        named: Whether to name the flagged cells, because no column shows flags.
    """
    lines = []
    for flag, meaning in FLAGS.items():
        titles = [title for title, flags in zip(cells["title"], cells["flags"], strict=True) if flag in listed(flags)]
        if titles:
            where = f" ({some_of(list(dict.fromkeys(titles)))})" if named else ""
            lines.append(f"Flag {flag}{where}: {meaning}.")
    return [*lines, *_unknown_heads(study, cells)]


def _unknown_heads(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return a note if some cells cannot be compared with a linear probe, because none is recorded."""
    scored = cells[cells["report_score"].notna() & cells["tuning"].notna() & (cells["method"] != HEAD)]
    unknown = set(scored["table"]) - set(probe_scores(study.cells))
    if not unknown:
        return []
    return [f"Whether a cell is {BELOW_HEAD} is unknown (-): these records hold no tuned method={HEAD}."]
