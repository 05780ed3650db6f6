"""Simulated tables of equal cells under the whole rule: a race for each cell's rate, then fresh seeds and examples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml
from scipy.special import ndtri
from simulated_tables import COMMON, OWN, SKILL, by_largest, right_and_wrong

from bench.cells.race import Candidate, Race, Rule
from bench.config.register import shipped
from bench.config.schema import ProtocolConf

Array = np.ndarray[Any, Any]
Curve = Callable[[Array], Array]
PROTOCOL = yaml.safe_load((shipped("conf") / "protocol" / "standard.yaml").read_text("utf-8"))
RULE: Rule = Rule.of(ProtocolConf(**PROTOCOL))  # type: ignore[assignment]
PUBLISHED = 5e-4
SELECT = 240  # rows of the select part
PLACES = np.arange(-5, 6)  # steps from the published rate that a race can reach
SHARPNESS = 1.7  # of the probabilities: a margin of 1 is 1.7 logits
EARLY, FASTER = 0.04, 0.25  # after the first part: missing accuracy, and decades by which the best rate is higher
TOO_HIGH = 1.4  # decades beyond the best rate at which training diverges
ON_GRID = (-1.0, -0.5, 0.0, 0.5, 1.0)  # decades from the published to the best rate; both are candidates


def flat(away: Array) -> Array:
    """Accuracy lost at a distance in decades from the best rate: none up to half a decade, then 15 points a decade."""
    return 0.15 * np.maximum(np.abs(away) - 0.55, 0)


def curved(away: Array) -> Array:
    """Accuracy lost: 15 points at a decade, 3.75 at half of one."""
    return 0.15 * away**2


def gentle(away: Array) -> Array:
    """Accuracy lost: 4 points at a decade, 1 at half of one, which a race on select can hardly detect."""
    return 0.04 * away**2


@dataclass(frozen=True)
class Whole:
    """Results of the whole rule on tables of cells that are equal at every rate."""

    wrong: float  # share of tables in which a cell as good as the best at its chosen rate is called worse
    any: float  # share of tables in which any cell is called worse than the best, whatever the chosen rates
    bias: float  # mean of reported minus true accuracy at the chosen rate
    bias_error: float  # standard error of `bias` over tables
    select_bias: float  # the same for the winner's accuracy on select, which is not reported
    hit_rate: float  # share of races that choose the best candidate or one as good
    lost: float  # mean accuracy lost relative to the best candidate
    spread: float  # standard deviation of the true accuracy at the chosen rates, within tables


def whole_rule(
    cells: int,
    luck: float,
    curve: Curve,
    *,
    examples: int = 872,
    select: int = SELECT,
    chance: float = 1.0,
    seeds: int = 3,
    shifts: tuple[float, ...] | None = None,
    tables: int = 2000,
    seed: int = 0,
) -> Whole:
    """Simulate tables under the whole rule.

    Args:
        cells: Number of cells in each table.
        luck: Standard deviation of the true accuracy over seeds.
        curve: Accuracy lost at a distance in decades from the best rate; the same for all cells.
        examples: Number of report examples.
        select: Rows of the select part, which is drawn anew for each table.
        chance: Standard deviation of the run-specific part of an answer's margin in the race; it is 1 in the report.
        seeds: Number of report seeds.
        shifts: Possible decades from the published to the best rate, drawn for each cell; None draws one value for each
            table.
        tables: Number of tables.
        seed: Seed of all draws.
    """
    random, truth = np.random.default_rng(seed), np.ones(examples)
    wrong, any_apart, bias, select_bias, near_best, lost, spread = ([] for _ in range(7))
    for _ in range(tables):
        best = random.uniform(-1.25, 1.25) if shifts is None else random.choice(shifts, size=(cells, 1))
        away = np.broadcast_to(PLACES * RULE.apart - best, (cells, len(PLACES)))
        chosen, own_score = _races(random, away, curve, luck=luck, chance=chance, select=select)
        true = SKILL - curve(away)
        skills = np.take_along_axis(true, chosen[:, None], 1)[:, 0]
        right, _ = right_and_wrong(random, cells, seeds, examples, skill=skills, luck=luck, own=OWN)
        means, apart = by_largest(right, truth)
        first = int(means.argmax())
        wrong.append((apart[first] & (skills >= skills[first])).any())
        any_apart.append(apart[first].any())
        bias.append(np.mean(means - skills))
        select_bias.append(np.mean(own_score - skills))
        at_best = true[:, 2:-2].max(axis=1)  # of the initial candidates
        near_best.append(np.mean(skills >= at_best - 1e-9))
        lost.append(np.mean(at_best - skills))
        spread.append(skills.std())
    shares = {
        "wrong": wrong,
        "any": any_apart,
        "bias": bias,
        "select_bias": select_bias,
        "hit_rate": near_best,
        "lost": lost,
    }
    return Whole(
        **{name: float(np.mean(values)) for name, values in shares.items()},
        bias_error=float(np.std(bias) / np.sqrt(tables)),
        spread=float(np.mean(spread)),
    )


def _races(
    random: np.random.Generator, away: Array, curve: Curve, luck: float, chance: float, select: int
) -> tuple[Array, Array]:
    """Race every cell of a table.

    An answer's margin is the model's level, plus the example's ease for all cells, plus its ease for this cell, plus
    chance. A run keeps its luck and its chance from the first part to the end.

    Args:
        random: The source of all draws.
        away: Decades of every rate from the best one, [cells, places].
        curve: Accuracy lost by distance.
        luck: Standard deviation of the true accuracy over runs.
        chance: Standard deviation of the run-specific part of a margin.
        select: Rows of select.

    Returns:
        The chosen places as indices, and the winner's accuracy on select: [cells] each.
    """
    cells, places = away.shape
    lucky = luck * random.standard_normal((cells, places))
    ease = COMMON * _normal(random, select) + OWN * _normal(random, cells, 1, select)
    margins = ease + np.float32(chance) * _normal(random, cells, places, select)
    end = _level(SKILL - curve(away) + lucky, chance)[..., None] + margins
    first = _level(SKILL - EARLY - curve(away - FASTER) + lucky, chance)[..., None] + margins
    losses = {part: _cross_entropy(part_margins) for part, part_margins in ((RULE.first_part, first), (1.0, end))}
    diverges = away > TOO_HIGH
    chosen = np.array([
        _winner({part: loss[cell] for part, loss in losses.items()}, diverges[cell]) for cell in range(cells)
    ])  # fmt: skip
    return chosen, (np.take_along_axis(end, chosen[:, None, None], 1) > 0).mean(axis=(1, 2))


def _normal(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape, dtype=np.float32)


def _level(accuracy: Array, chance: float) -> Array:
    return np.asarray(ndtri(np.clip(accuracy, 0.01, 0.99)) * np.sqrt(chance**2 + COMMON**2 + OWN**2), np.float32)


def _cross_entropy(margins: Array) -> Array:
    return np.asarray(np.logaddexp(np.float32(0), np.float32(-SHARPNESS) * margins).mean(axis=-1))


def _winner(losses: dict[float, Array], diverges: Array) -> int:
    """Run one race by the rule itself. Returns the winner's place. losses: by part of the schedule, for every place."""
    race = Race.begin(RULE, PUBLISHED)
    while (stage := race.stage) is not None:
        known, results = {candidate.lr: candidate for candidate in race.candidates}, {}
        for lr in stage.rates:
            place = _place(lr)
            results[lr] = _trained(known[lr], stage.part, None if diverges[place] else losses[stage.part][place])
        race = race.after(stage, results)
    assert race.lr is not None
    return _place(race.lr)


def _place(lr: float) -> int:
    """Return the index of a rate."""
    return round(np.log10(lr / PUBLISHED) / RULE.apart) - int(PLACES[0])


def _trained(candidate: Candidate, part: float, loss: float | None) -> Candidate:
    if loss is None:
        return replace(candidate, outcome="diverged")
    return replace(candidate, select_losses=(*candidate.select_losses, (round(300 * part), float(loss))))
