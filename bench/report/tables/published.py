"""What others published, as data: to be shown beside ours, in a table of its own, and never mixed with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.report.tables.table import DASH, Table, text

FILE = Path(__file__).resolve().with_name("published.yaml")
SETTING = ("method", "rank", "target", "trainable_params", "trainable_percent", "note")
COLUMNS = ("source", "table", "model", "task", "metric", "split", *SETTING, "value", "spread")


def published(table: str | None = None) -> pd.DataFrame:
    """One row per published value, in the order of its table; what the paper does not say is None.

    table: its number there, such as "6"; None gives all. The columns are COLUMNS: value and spread in percent,
    trainable_params as printed in the paper, rounded. ValueError: no such table.
    """
    entries: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    chosen = [entry for entry in entries if table in {None, entry["table"]}]
    if not chosen:
        known = ", ".join(f"{entry['table']} ({entry['source']})" for entry in entries)
        raise ValueError(f"published table {table!r} is unknown; choose from {known}")
    found = [row for entry in chosen for row in _rows(entry)]
    return pd.DataFrame(found, columns=list(COLUMNS), dtype=object).astype({"value": float})


def _rows(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row's own settings go before those that its table has in common."""
    tasks: dict[str, str] = entry["tasks"]
    for row in entry["rows"]:
        whole = {**entry, **row}
        spreads = whole.get("spreads") or [None] * len(tasks)
        for (task, metric), value, spread in zip(tasks.items(), whole["values"], spreads, strict=True):
            shared = {key: whole.get(key) for key in ("source", "table", "model", "split", *SETTING)}
            yield {**shared, "task": task, "metric": metric, "value": value, "spread": spread}


def lora_paper(table: str) -> pd.DataFrame:
    """One row per value of a table of the LoRA paper."""
    found = published(table)
    return found[found["source"].str.startswith("Hu")]


def beside(table: str) -> Table:
    """A table of the LoRA paper in the shape of ours: 6 by rank, 5 by weight type, 2 by task."""
    found = lora_paper(table)
    across = {"6": "r={rank}", "5": "{target} r={rank}", "2": "{task}"}[table]
    names = [name for name in ("model", "task", *SETTING) if name not in across and len(found[name].unique()) > 1]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for _, row in found.iterrows():
        key = tuple(text(row[name], "{:,}" if name == "trainable_params" else "{}") for name in names)
        spread = f" +- {row['spread']}" if pd.notna(row["spread"]) else ""
        rows.setdefault(key, {})[across.format_map(row)] = f"{row['value']}{spread}"
    body = pd.DataFrame(
        [{**dict(zip(names, key, strict=True)), **values} for key, values in rows.items()], dtype=object
    )
    source = f"Source: {found['source'].iloc[0]}, table {table}; {found['split'].iloc[0]} scores in percent."
    return Table("published", f"Published, not ours: table {table}", body.fillna(DASH), [source], names)
