"""The results of a part so far, written at every step: a part that is stopped loses nothing that it has finished."""

import json
import math
from pathlib import Path
from typing import Any

from bench.files.atomic import replace_file


class Page:
    """Claims about numbers, and other results. folder: the part's own, for all its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {"claims": []}

    def claim(self, what: str, value: float | None, *, least: float | None = None, most: float | None = None) -> None:
        """Claim that a value lies between bounds. The claim does not hold for None, an unknown value."""
        known = value is not None and not math.isnan(value)
        holds = known and (least is None or value >= least) and (most is None or value <= most)  # type: ignore[operator]
        self.content["claims"].append({"what": what, "value": value, "least": least, "most": most, "holds": holds})
        self._keep()

    def note(self, **numbers: Any) -> None:
        """Keep results without a claim."""
        self.content |= numbers
        self._keep()

    def row(self, table: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row of a table, and return the row."""
        self.content.setdefault(table, {})[name] = row
        self._keep()
        return row

    def _keep(self) -> None:
        replace_file(self.folder / "page.json", json.dumps(self.content).encode())


def one_line(error: Exception) -> str:
    """Return an error on one line, short enough for a claim."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
