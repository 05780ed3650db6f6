"""What a part has found so far, on disk at every step: a part that is stopped loses nothing that it has finished."""

import json
import math
from pathlib import Path
from typing import Any

from bench.files.atomic import replace_file


class Page:
    """Claims about numbers, and whatever else there is to tell. folder: the part's own, for all that it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: dict[str, Any] = {"claims": []}

    def claim(self, what: str, value: float | None, *, least: float | None = None, most: float | None = None) -> None:
        """Say between which bounds a value must lie. None, for what could not be found out, lies nowhere."""
        there = value is not None and not math.isnan(value)
        holds = there and (least is None or value >= least) and (most is None or value <= most)  # type: ignore[operator]
        self.told["claims"].append({"what": what, "value": value, "least": least, "most": most, "holds": holds})
        self._keep()

    def note(self, **numbers: Any) -> None:
        """Keep what makes no claim."""
        self.told |= numbers
        self._keep()

    def row(self, table: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row of a table; gives it back."""
        self.told.setdefault(table, {})[name] = row
        self._keep()
        return row

    def _keep(self) -> None:
        replace_file(self.folder / "page.json", json.dumps(self.told).encode())


def one_line(error: Exception) -> str:
    """An error, short enough for a claim."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
