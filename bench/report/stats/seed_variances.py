"""Draw plausible variances over seeds from a posterior.

Few seeds say little about the variance of one cell, so the cells of a table share a prior. The prior draws the variance
of each cell around a common variance. The cells of the table determine how closely (Smyth 2004,
doi:10.2202/1544-6115.1027). Both parameters of the prior are integrated over a grid instead of estimated.
"""

import numpy as np

from bench.report.stats.bootstrap import Array

SHARED = 2.0 ** np.arange(8)  # degrees of freedom of the prior, equally likely: 1 to 128
SCALES = np.geomspace(0.02, 20, 60)  # the common variance, as multiples of the mean observed variance


def draw_variances(observed: Array, degrees: Array, draws: int, random: np.random.Generator) -> Array:
    """Draw the variances of cells over seeds from their posterior distribution.

    Args:
        observed: Sample variances of the cells, [cells], above 0.
        degrees: Degrees of freedom of the sample variances, [cells].
        draws: Number of draws.
        random: Generator of the draws.

    Returns:
        Variances, [draws, cells].
    """
    from scipy.stats import f

    shared, common = (axis.reshape(-1, 1) for axis in np.meshgrid(SHARED, observed.mean() * SCALES, indexing="ij"))
    likelihood = (f.logpdf(observed / common, degrees, shared) - np.log(common)).sum(axis=1)
    posterior = np.exp(likelihood - likelihood.max())  # unnormalised
    chosen = random.choice(len(posterior), size=draws, p=posterior / posterior.sum())
    shared, common = shared[chosen], common[chosen]
    squares = shared * common + degrees * observed
    return np.asarray(squares / random.chisquare(shared + degrees, size=(draws, len(observed))))
