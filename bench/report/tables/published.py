"""Published results of others, as data. They are shown next to ours in a separate table and never mixed with ours."""

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
    """Read the published values.

    Args:
        table: Number of the table in its paper, such as "6"; None for all tables.

    Returns:
        One row per value, in the order of its table, with the columns COLUMNS. `value` and `spread` are in percent.
        `trainable_params` is rounded as printed in the paper. Anything the paper does not say is None.

    Raises:
        ValueError: There is no such table.
    """
    entries: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    chosen = [entry for entry in entries if table in {None, entry["table"]}]
    if not chosen:
        known = ", ".join(f"{entry['table']} ({entry['source']})" for entry in entries)
        raise ValueError(f"published table {table!r} is unknown; choose from {known}")
    rows = [row for entry in chosen for row in _rows(entry)]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype({"value": float})


def _rows(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row per value. A row's own settings override those of its table."""
    tasks: dict[str, str] = entry["tasks"]
    for row in entry["rows"]:
        merged = {**entry, **row}
        spreads = merged.get("spreads") or [None] * len(tasks)
        for (task, metric), value, spread in zip(tasks.items(), merged["values"], spreads, strict=True):
            shared = {key: merged.get(key) for key in ("source", "table", "model", "split", *SETTING)}
            yield {**shared, "task": task, "metric": metric, "value": value, "spread": spread}


def lora_paper(table: str) -> pd.DataFrame:
    """Return the values of a table of the LoRA paper, one row each, with the columns of `published`."""
    values = published(table)
    return values[values["source"].str.startswith("Hu")]


def published_table(table: str) -> Table:
    """Build a table of the LoRA paper in the shape of ours.

    Args:
        table: Number of the paper's table: "6" by rank, "5" by weight type, or "2" by task.
    """
    published_values = lora_paper(table)
    heading = {"6": "r={rank}", "5": "{target} r={rank}", "2": "{task}"}[table]
    names = [
        name for name in ("model", "task", *SETTING) if name not in heading and len(published_values[name].unique()) > 1
    ]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for _, row in published_values.iterrows():
        key = tuple(text(row[name], "{:,}" if name == "trainable_params" else "{}") for name in names)
        spread = f" +- {row['spread']}" if pd.notna(row["spread"]) else ""
        rows.setdefault(key, {})[heading.format_map(row)] = f"{row['value']}{spread}"
    body = pd.DataFrame(
        [{**dict(zip(names, key, strict=True)), **values} for key, values in rows.items()], dtype=object
    )
    first = published_values.iloc[0]
    source = f"Source: {first['source']}, table {table}; {first['split']} scores in percent."
    return Table("published", f"Published, not ours: table {table}", body.fillna(DASH), [source], names)
