"""Tables of cells whose true skills are known, and how often the report's verdicts on them are wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from bench.report.paired import LEVEL, pairs_of
from bench.report.variances import intervals

Array = np.ndarray[Any, Any]
SKILL = 0.88
COMMON, OWN = 1.5, 0.5  # standard deviation of an example's difficulty: to all cells alike, and to one cell


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
        random: the source of all draws.
        cells, seeds, examples: how many.
        skill: expected accuracy, of all cells or of each.
        luck: standard deviation of the accuracy over seeds, of all cells or of each.
        own: standard deviation of the difficulty that an example has for one cell alone.

    Returns:
        Right answers as 1, the others as 0: [cells, seeds, examples]; and the true accuracy of each trained model,
        over all examples that could be drawn: [cells, seeds].
    """
    skill, luck = (np.broadcast_to(value, cells)[:, None] for value in (skill, luck))
    true = np.clip(skill + luck * random.normal(size=(cells, seeds)), 0.01, 0.99)
    level = ndtri(true) * np.sqrt(1 + COMMON**2 + own**2)
    ease = COMMON * random.normal(size=examples) + own * random.normal(size=(cells, 1, examples))
    return (random.random((cells, seeds, examples)) < ndtr(level[..., None] + ease)).astype(int), true


@dataclass(frozen=True)
class Errors:
    """How often verdicts were wrong, as shares of tables or cells."""

    level: float | None  # two cells of equal skill that were told apart; None where nothing is tested
    coverage: float  # 95% intervals that hold the cell's skill; with one seed, the trained model's own accuracy
    family: float | None  # tables in which any two cells of equal skill were told apart


def errors_of(
    seeds: int, examples: int, luck: Any, *, cells: int = 2, tables: int = 2000, gap: float = 0.0, seed: int = 0
) -> Errors:
    """Judge tables of cells by the report's own tests and intervals.

    Args:
        seeds, examples, cells: of each table.
        luck: standard deviation over seeds, of all cells or of each.
        tables: how many are drawn.
        gap: by how much the first cell is truly better; `level` is then the power to see it.
        seed: of the draws.
    """
    random, truth = np.random.default_rng(seed), np.ones(examples)
    skill = np.full(cells, SKILL)
    skill[0] += gap
    apart, held, any_apart = [], [], []
    for _ in range(tables):
        right, true = right_and_wrong(random, cells, seeds, examples, skill=skill, luck=luck, own=OWN)
        pairs = pairs_of({str(place): cell for place, cell in enumerate(right)}, truth, "accuracy")
        apart.append(pairs.p[0, 1] <= LEVEL)
        any_apart.append((pairs.corrected <= LEVEL).any())
        wanted = true[:, 0] if seeds == 1 else skill
        spans = intervals(list(right), truth, "accuracy")
        held += [low <= value <= high for (low, high), value in zip(spans, wanted, strict=True)]
    tested = seeds > 1
    return Errors(
        level=float(np.mean(apart)) if tested else None,
        coverage=float(np.mean(held)),
        family=float(np.mean(any_apart)) if tested else None,
    )
