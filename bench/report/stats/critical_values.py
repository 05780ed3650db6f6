"""The tests of a table for a page that has no Python: how far two scores must lie apart to be told apart."""

from typing import Any

import numpy as np

from bench.report.record_frame import Study
from bench.report.stats.ties import pairs_in
from bench.report.stats.variances import LEVEL

MOST = 300  # cells of a table whose pairs are all on the page: 45,000 numbers
UNIT = 1e-5  # dashboard.js has it too


def reaches(study: Study, key: str) -> dict[str, Any] | None:
    """How far the scores of any two cells of a table must lie apart to be told apart: half of the 95% interval's width.

    Returns:
        The ids of the tested cells, and of each the reaches to those behind it, in UNIT: rounded down where the
        two are told apart and up where they are not, so that the page gives the same verdict. Those of a table with
        more cells than MOST are None: `compare` has them.
    """
    pairs = pairs_in(study, key)
    if pairs is None or pairs.tested.sum() < 2:
        return None
    tested = np.flatnonzero(pairs.tested)
    names = [pairs.names[place] for place in tested]
    if len(tested) > MOST:
        return {"cells": names, "reach": None}
    here = np.ix_(tested, tested)
    units, apart = pairs.reach[here] / UNIT, pairs.p[here] <= LEVEL
    rounded = np.where(apart, np.floor(units), np.ceil(units)).astype(int)
    return {"cells": names, "reach": [row[place + 1 :].tolist() for place, row in enumerate(rounded)]}
