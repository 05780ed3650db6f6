"""Simulated tables of cells with known true skills, and how often the report's verdicts on them are wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr

from bench.report.stats.pairwise import pairs_of
from bench.report.stats.variances import LEVEL, Variances, intervals, variances_of

Array = np.ndarray[Any, Any]
SKILL = 0.88
COMMON, OWN = 1.5, 0.5  # standard deviation of an example's difficulty: shared by all cells, and for one cell alone


def right_and_wrong(
    random: np.random.Generator,
    cells: int,
    seeds: int,
    examples: int,
    *,
    skill: Any = SKILL,
    luck: Any = 0.0,
    own: float = 0.0,
) -> tuple[Array, Array]:
    """Draw which answers are right.

    Args:
        random: Source of all draws.
        cells, seeds, examples: Their numbers.
        skill: Expected accuracy, for all cells or for each.
        luck: Standard deviation of the accuracy over seeds, for all cells or for each.
        own: Standard deviation of the difficulty that an example has for one cell alone.

    Returns:
        Right answers as 1, wrong ones as 0: [cells, seeds, examples]; and the true accuracy of each trained model over
        all examples that could be drawn: [cells, seeds].
    """
    skill, luck = (np.broadcast_to(value, cells)[:, None] for value in (skill, luck))
    true = np.clip(skill + luck * random.normal(size=(cells, seeds)), 0.01, 0.99)
    level = (ndtri(true) * np.sqrt(1 + COMMON**2 + own**2)).astype(np.float32)
    ease = np.float32(COMMON) * _normal(random, examples) + np.float32(own) * _normal(random, cells, 1, examples)
    return (_normal(random, cells, seeds, examples) < level[..., None] + ease).astype(int), true


def _normal(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Errors:
    """How often verdicts were wrong or right, as shares of tables or cells."""

    wrong: float | None  # tables in which a cell as good as the best is called worse; None if nothing is tested
    pairs: float | None  # tables in which any two cells of equal skill are called different
    power: float | None  # worse cells that are called worse than the best; None if all are equally good
    left: float | None  # mean number of cells that are not called worse than the best, the best included
    coverage: float  # 95% intervals that contain the cell's skill; with one seed, the trained model's own accuracy


def errors_of(
    seeds: int,
    examples: int,
    luck: Any,
    *,
    cells: int = 2,
    skill: Any = SKILL,
    own: float = OWN,
    tables: int = 2000,
    seed: int = 0,
    judge: Callable[[Array, Array], tuple[Array, Array]] | None = None,
) -> Errors:
    """Judge simulated tables of cells by the report's own tests and intervals.

    Args:
        seeds, examples, cells: Their numbers in each table.
        luck: Standard deviation of the accuracy over seeds, for all cells or for each.
        skill: Expected accuracy, for all cells or for each.
        own: Standard deviation of the difficulty that an example has for one cell alone.
        tables: Number of tables.
        seed: Seed of all draws.
        judge: The test, `by_largest` (the report's) or `by_holm`.
    """
    random, truth, skills = np.random.default_rng(seed), np.ones(examples), np.broadcast_to(skill, cells)
    equal = skills[:, None] == skills
    wrong, pairs, detected, left, covered = [], [], [], [], []
    for _ in range(tables):
        right, true = right_and_wrong(random, cells, seeds, examples, skill=skill, luck=luck, own=own)
        if seeds > 1:
            means, apart = (judge or by_largest)(right, truth)
            best = int(means.argmax())
            apart_from_best = apart[best]
            wrong.append((apart_from_best & (skills >= skills[best])).any())
            pairs.append((apart & equal).any())
            detected += apart_from_best[skills < skills.max()].tolist()
            left.append(cells - apart_from_best.sum())
        spans = intervals(list(right[:2]), truth, "accuracy")
        true_values = (true[:, 0] if seeds == 1 else skills)[:2]
        covered += [low <= value <= high for (low, high), value in zip(spans, true_values, strict=True)]
    shares = (float(np.mean(values)) if values else None for values in (wrong, pairs, detected, left))
    return Errors(*shares, coverage=float(np.mean(covered)))


def by_largest(right: Array, truth: Array) -> tuple[Array, Array]:
    """Apply the report's test. Returns mean scores, [cells], and which pairs differ significantly, [cells, cells]."""
    pairs = pairs_of({f"{place:04}": cell for place, cell in enumerate(right)}, truth, "accuracy")
    return pairs.variances.means, pairs.p <= LEVEL


def by_holm(right: Array, truth: Array) -> tuple[Array, Array]:
    """Apply Welch's t test to each pair, with each cell's own variance over seeds, corrected by Holm."""
    variances = variances_of(list(right), truth, "accuracy")
    first, second = np.triu_indices(len(right), 1)
    p = _welch(variances)[first, second]
    order = p.argsort()
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    apart = np.zeros((len(right), len(right)), bool)
    apart[first, second] = apart[second, first] = corrected <= LEVEL
    return variances.means, apart


def _welch(variances: Variances) -> Array:
    error = np.sqrt(np.maximum(variances.of_differences + variances.over_seeds[:, None] + variances.over_seeds, 1e-24))
    of_seeds = variances.spread**2 / np.maximum(variances.seeds - 1, 1)
    parts = variances.of_differences**2 / max(1, variances.examples - 1) + of_seeds[:, None] + of_seeds
    t = np.abs(variances.means[:, None] - variances.means) / error
    return np.asarray(2 * stdtr(error**4 / np.maximum(parts, 1e-48), -t))
