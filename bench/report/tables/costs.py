"""Tables of everything but the score: memory, speed, forgetting, and failed trials."""

from dataclasses import replace

import pandas as pd

from bench.records.record import first_line
from bench.report.cells import MEMORY
from bench.report.record_frame import Study
from bench.report.stats.ties import standings
from bench.report.tables.entries import (
    SCORE,
    SHORT,
    WORDS,
    column,
    flags_column,
    head_of,
    table_of,
    title_of,
    tuning_column,
    who,
)
from bench.report.tables.notes import mixture
from bench.report.tables.table import DASH, MIB, Table, peak_of, text, timed

WELL = ("ok", "finished", "dropped", "waiting")  # outcomes of trials and race candidates that are not failures


def cost(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - all tables share one signature
    """Build the table of costs: parameters, bytes, memory and its parts, speed, latency, time."""
    cells = study.cells
    sizes = {
        "allocated MiB": "peak_allocated_bytes",
        "reserved MiB": "peak_reserved_bytes",
        "own MiB": "peak_own_bytes",
        "resident MiB": "peak_resident_bytes",
    }
    sizes |= {f"{part} MiB": f"memory_{part}" for part in MEMORY}
    speeds = {"samples/s": "samples_per_second", "tokens/s": "tokens_per_second", "train s": "train_seconds"}
    latency = {"latency ms": "latency_adapted", "merged ms": "latency_merged"}
    columns = {
        "trainable": cells["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
        "%": cells["trainable_percent"].map(lambda value: text(value, "{:.3f}")),
        "adapter KiB": (cells["adapter_bytes"] / 1024).map(lambda value: text(value, "{:,.0f}")),
        **{name: (cells[key] / MIB).map(lambda value: text(value, "{:,.1f}")) for name, key in sizes.items()},
        **{name: timed(cells, key, "{:,.0f}") for name, key in speeds.items()},
        "s/step": timed(cells, "step_seconds_median", "{:.3f}"),
        **{name: timed(cells, key, "{:.1f}", 1000) for name, key in latency.items()},
    }
    known = {name: texts for name, texts in columns.items() if (texts != DASH).any()}
    return table_of("cost", study, cells, pd.DataFrame({"task": cells["task"], **who(cells), **known}))


def quantisation(study: Study, metric: str = SCORE) -> Table | None:
    """Build the table of one method on quantised and unquantised bases.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if no cell was trained on several bases.
    """
    keys = ["task", *SHORT]
    several = study.cells.groupby(keys, dropna=False)["base"].transform(lambda bases: bases.fillna("").nunique()) > 1
    cells = study.cells[several]
    if cells.empty:
        return None
    verdicts, (peak_name, peak) = standings(study, cells), peak_of(cells)
    body = pd.DataFrame(
        {
            "task": cells["task"],
            **who(cells),
            "base": cells["base"].fillna("full precision"),
            "weights MiB": (cells["memory_weights"] / MIB).map(lambda value: text(value, "{:,.1f}")),
            peak_name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(cells, "samples_per_second", "{:,.0f}"),
            **tuning_column(cells),
            head_of(cells, metric): column(cells, metric, verdicts),
            **flags_column(cells),
        }
    )
    return table_of("quantisation", study, cells, body)


def retention(study: Study, metric: str = SCORE) -> Table | None:
    """Build the table of what a language model forgets: its loss on other texts before and after training.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if no cell has these losses.
    """
    cells = study.cells[study.cells["retention_after"].notna()]
    if cells.empty:
        return None
    spread = cells["retention_std"].map(lambda value: "" if pd.isna(value) else f" +- {value:.3f}")
    several = len(cells["retention_texts"].unique()) > 1
    body = pd.DataFrame(
        {
            "task": cells["task"],
            **who(cells),
            **tuning_column(cells),
            head_of(cells, metric): column(cells, metric, standings(study, cells)),
            **flags_column(cells),
            "loss before": cells["retention_before"].map("{:.3f}".format),
            "loss after": cells["retention_after"].map("{:.3f}".format) + spread,
            "forgotten": (cells["retention_after"] - cells["retention_before"]).map("{:+.3f}".format),
            **({"texts": cells["retention_texts"].str.removeprefix("sha256:").str[:8]} if several else {}),
        }
    )
    table = table_of("retention", study, cells, body)
    loss = "Loss: mean cross-entropy on texts outside the task, in nats per token; forgotten: the increase in loss."
    return replace(table, notes=[loss, *table.notes])


def outcomes(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001
    """Build the table of failed trials and failed race candidates, with the first line of each error.

    Returns:
        The table; None if nothing failed.
    """
    candidates = _candidates(study)
    runs = study.trials[[*candidates]]
    if len(candidates):
        runs = pd.concat([runs, candidates], ignore_index=True)
    failed = runs[~runs["outcome"].isin(WELL)].merge(study.cells[["cell", "task", "title"]], on="cell")
    if failed.empty:
        return None
    body = pd.DataFrame(
        {
            "task": failed["task"],
            "method": failed["title"],
            "lr": failed["lr"].map(lambda value: text(value, "{:g}")),
            "seed": failed["seed"].map(text),
            "outcome": failed["outcome"],
            "error": failed["error"].map(text),
        }
    )
    members = [record for name in failed["cell"].unique() for record in study.members[name]]
    of_races = f" and {len(candidates)} race candidates" if len(candidates) else ""
    notes = [f"{len(failed)} of {len(study.trials)} trials{of_races}.", *mixture(members)]
    return Table("outcomes", title_of(study, study.cells), body, notes, WORDS)


def _candidates(study: Study) -> pd.DataFrame:
    """Return one row per race candidate, with the columns of trials. Seeds read like `1000 (race)`."""
    rows = [
        {
            "cell": record.cell["id"],
            "lr": candidate["lr"],
            "seed": f"{record.race['rule'].get('seed')} (race)",
            "outcome": candidate["outcome"],
            "error": first_line(candidate.get("error")) or None,
        }
        for members in study.members.values()
        for record in members
        if record.race
        for candidate in record.race["candidates"]
    ]
    return pd.DataFrame(rows, columns=["cell", "lr", "seed", "outcome", "error"])
