"""Tables of what a method takes and leaves besides its score: memory, speed, what is forgotten, what went wrong."""

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

WELL = ("ok", "finished", "dropped", "waiting")  # how a trial or a candidate of a race ends well, or has not ended


def cost(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - every table is called alike
    """What a method costs: parameters, bytes, memory and its parts, speed, latency, time."""
    found = study.cells
    sizes = {
        "allocated MiB": "peak_allocated_bytes",
        "reserved MiB": "peak_reserved_bytes",
        "own MiB": "peak_own_bytes",
        "resident MiB": "peak_resident_bytes",
    }
    sizes |= {f"{part} MiB": f"memory_{part}" for part in MEMORY}
    plain = {"samples/s": "samples_per_second", "tokens/s": "tokens_per_second", "train s": "train_seconds"}
    latency = {"latency ms": "latency_adapted", "merged ms": "latency_merged"}
    columns = {
        "trainable": found["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
        "%": found["trainable_percent"].map(lambda value: text(value, "{:.3f}")),
        "adapter KiB": (found["adapter_bytes"] / 1024).map(lambda value: text(value, "{:,.0f}")),
        **{name: (found[key] / MIB).map(lambda value: text(value, "{:,.1f}")) for name, key in sizes.items()},
        **{name: timed(found, key, "{:,.0f}") for name, key in plain.items()},
        "s/step": timed(found, "step_seconds_median", "{:.3f}"),
        **{name: timed(found, key, "{:.1f}", 1000) for name, key in latency.items()},
    }
    known = {name: column for name, column in columns.items() if (column != DASH).any()}
    return table_of("cost", study, found, pd.DataFrame({"task": found["task"], **who(found), **known}))


def quantisation(study: Study, metric: str = SCORE) -> Table | None:
    """One method over bases that are stored in different ways."""
    keys = ["task", *SHORT]
    several = study.cells.groupby(keys, dropna=False)["base"].transform(lambda bases: bases.fillna("").nunique()) > 1
    found = study.cells[several]
    if found.empty:
        return None
    judged, (name, peak) = standings(study, found), peak_of(found)
    body = pd.DataFrame(
        {
            "task": found["task"],
            **who(found),
            "base": found["base"].fillna("full precision"),
            "weights MiB": (found["memory_weights"] / MIB).map(lambda value: text(value, "{:,.1f}")),
            name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(found, "samples_per_second", "{:,.0f}"),
            **tuning_column(found),
            head_of(found, metric): column(found, metric, judged),
            **flags_column(found),
        }
    )
    return table_of("quantisation", study, found, body)


def retention(study: Study, metric: str = SCORE) -> Table | None:
    """What a language model still knows: its loss on texts before and after it was trained on the task."""
    found = study.cells[study.cells["retention_after"].notna()]
    if found.empty:
        return None
    spread = found["retention_std"].map(lambda value: "" if pd.isna(value) else f" +- {value:.3f}")
    several = len(found["retention_texts"].unique()) > 1
    body = pd.DataFrame(
        {
            "task": found["task"],
            **who(found),
            **tuning_column(found),
            head_of(found, metric): column(found, metric, standings(study, found)),
            **flags_column(found),
            "loss before": found["retention_before"].map("{:.3f}".format),
            "loss after": found["retention_after"].map("{:.3f}".format) + spread,
            "forgotten": (found["retention_after"] - found["retention_before"]).map("{:+.3f}".format),
            **({"texts": found["retention_texts"].str.removeprefix("sha256:").str[:8]} if several else {}),
        }
    )
    table = table_of("retention", study, found, body)
    loss = "Loss: mean cross-entropy on texts that are not the task's, in nats per token; forgotten: what it rose by."
    return replace(table, notes=[loss, *table.notes])


def outcomes(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001
    """Every trial that did not end well, and every candidate of a race that did not, with the first line of why."""
    raced = _raced(study)
    every = pd.concat([study.trials[[*raced]], raced], ignore_index=True) if len(raced) else study.trials[[*raced]]
    bad = every[~every["outcome"].isin(WELL)].merge(study.cells[["cell", "task", "title"]], on="cell")
    if bad.empty:
        return None
    body = pd.DataFrame(
        {
            "task": bad["task"],
            "method": bad["title"],
            "lr": bad["lr"].map(lambda value: text(value, "{:g}")),
            "seed": bad["seed"].map(text),
            "outcome": bad["outcome"],
            "error": bad["error"].map(text),
        }
    )
    members = [record for name in bad["cell"].unique() for record in study.members[name]]
    of_races = f" and {len(raced)} candidates of races" if len(raced) else ""
    notes = [f"{len(bad)} of {len(study.trials)} trials{of_races}.", *mixture(members)]
    return Table("outcomes", title_of(study, study.cells), body, notes, WORDS)


def _raced(study: Study) -> pd.DataFrame:
    """One row per candidate of a race, with columns as trials have them; seed: such as `1000 (race)`."""
    rows = [
        {
            "cell": record.cell["id"],
            "lr": one["lr"],
            "seed": f"{record.race['rule'].get('seed')} (race)",
            "outcome": one["outcome"],
            "error": first_line(one.get("error")) or None,
        }
        for some in study.members.values()
        for record in some
        if record.race
        for one in record.race["candidates"]
    ]
    return pd.DataFrame(rows, columns=["cell", "lr", "seed", "outcome", "error"])
