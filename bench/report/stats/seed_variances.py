"""What variances over seeds are plausible: few seeds say little about one cell, so the cells of a table share a prior.

Each cell has a variance of its own, drawn around a common one. How closely, the cells of the table say themselves
(Smyth 2004, doi:10.2202/1544-6115.1027). Both unknowns of the prior are integrated over a grid instead of estimated.
"""

import numpy as np

from bench.report.stats.bootstrap import Array

SHARED = 2.0 ** np.arange(8)  # degrees of freedom that the prior is worth, equally likely: 1 to 128
SCALES = np.geomspace(0.02, 20, 60)  # the common variance, in means of the observed ones


def draw_variances(observed: Array, degrees: Array, draws: int, random: np.random.Generator) -> Array:
    """Draw the variances of cells over seeds from their posterior distribution.

    Args:
        observed: sample variances of the cells, [cells], above 0.
        degrees: their degrees of freedom, [cells].
        draws: how many.
        random: the source of the draws.

    Returns:
        Variances, [draws, cells].
    """
    from scipy.stats import f

    shared, common = (axis.reshape(-1, 1) for axis in np.meshgrid(SHARED, observed.mean() * SCALES, indexing="ij"))
    likelihood = (f.logpdf(observed / common, degrees, shared) - np.log(common)).sum(axis=1)
    chances = np.exp(likelihood - likelihood.max())
    chosen = random.choice(len(chances), size=draws, p=chances / chances.sum())
    shared, common = shared[chosen], common[chosen]
    squares = shared * common + degrees * observed
    return np.asarray(squares / random.chisquare(shared + degrees, size=(draws, len(observed))))
