"""Critical differences of a table for the dashboard, which has no Python to run the tests itself."""

from typing import Any

import numpy as np

from bench.report.record_frame import Study
from bench.report.stats.ties import pairs_in
from bench.report.stats.variances import LEVEL

MOST = 300  # largest table, in cells, whose pairs all go to the page: 45,000 numbers
UNIT = 1e-5  # must equal the unit in dashboard.js


def reaches(study: Study, key: str) -> dict[str, Any] | None:
    """Return the smallest significant difference of every pair of cells: half the width of its 95% interval.

    Args:
        study: All cells that verdicts take into account.
        key: Key of the table, as in the column `table`.

    Returns:
        `cells` holds the ids of the tested cells. `reach` holds one list per cell with its critical differences to the
        cells after it, in UNIT. They are rounded down for a significant difference and up otherwise, so that the page
        reaches the same verdict. `reach` is None for a table of more than MOST cells; `compare` still tests its pairs.
        None if fewer than two cells were tested.
    """
    pairs = pairs_in(study, key)
    if pairs is None or pairs.tested.sum() < 2:
        return None
    tested = np.flatnonzero(pairs.tested)
    names = [pairs.names[index] for index in tested]
    if len(tested) > MOST:
        return {"cells": names, "reach": None}
    block = np.ix_(tested, tested)
    units, significant = pairs.reach[block] / UNIT, pairs.p[block] <= LEVEL
    rounded = np.where(significant, np.floor(units), np.ceil(units)).astype(int)
    return {"cells": names, "reach": [row[index + 1 :].tolist() for index, row in enumerate(rounded)]}
