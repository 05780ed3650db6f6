"""The rule of a race, tested on given losses."""

import math
from dataclasses import replace

import pytest

from bench.cells.race import Candidate, Race, Rule, Stage
from bench.config.schema import ProtocolConf

RULE = Rule(candidates=7, finalists=3, seed=1000)


def run(race: Race, loss_at, dead=()):
    """Run a race whose losses are a function of log10(rate) and the schedule's part. Returns race and stages."""
    stages = []
    while (stage := race.stage) is not None:
        stages.append(stage)
        results = {}
        for candidate in race.candidates:
            if candidate.lr not in stage.rates:
                continue
            if candidate.lr in dead:
                results[candidate.lr] = replace(
                    candidate, outcome="diverged", error={"type": "Diverged", "message": "loss nan"}
                )
                continue
            loss = loss_at(math.log10(candidate.lr), stage.part)
            results[candidate.lr] = replace(
                candidate, select_losses=(*candidate.select_losses, (round(90 * stage.part), loss))
            )
        race = race.after(stage, results)
        assert len(stages) < 9
    return race, stages


def test_candidates_lie_half_a_decade_apart_around_the_published_rate():
    assert RULE.rates(1e-3) == [3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2]
    assert Rule(5, 2, 1000).rates(5e-4) == [5e-5, 1.58e-4, 5e-4, 1.58e-3, 5e-3]


def test_a_race_costs_five_trials_before_the_report():
    assert RULE.trials == 7 / 2 + 3 / 2


def test_the_best_three_continue_and_the_lowest_loss_wins():
    race, stages = run(Race.begin(RULE, 1e-3), lambda rate, part: abs(rate + 2.4) + (1 - part))
    assert stages == [Stage(tuple(RULE.rates(1e-3)), 1 / 2), Stage((1e-3, 3.16e-3, 1e-2), 1.0)]
    assert race.lr == 3.16e-3
    assert race.outcome == "ok"
    assert [candidate.outcome for candidate in race.candidates] == ["dropped"] * 3 + ["finished"] * 3 + ["dropped"]


def test_a_best_rate_at_the_edge_widens_the_race_twice_at_most():
    race, stages = run(Race.begin(RULE, 1e-3), lambda rate, _: -rate)
    assert [stage.rates for stage in stages[1:3]] == [(0.1,), (0.316,)]
    assert race.lr == 0.316
    assert len(race.candidates) == 9
    race, _ = run(Race.begin(RULE, 1e-3), lambda rate, _: rate)
    assert race.lr == 3.16e-6


def test_widening_stops_where_the_new_rate_is_no_better():
    race, stages = run(Race.begin(RULE, 1e-3), lambda rate, _: abs(rate + 1.5))
    assert len(race.candidates) == 8
    assert race.lr == 3.16e-2
    assert len(stages) == 3


def test_a_rate_that_diverges_is_tried_and_bounds_its_side():
    race, stages = run(Race.begin(RULE, 1e-3), lambda rate, _: -rate, dead={3.16e-2})
    assert len(stages) == 2, "no rate beyond the one that diverged"
    assert race.lr == 1e-2
    assert race.candidates[-1].outcome == "diverged"


def test_a_tie_goes_to_the_lower_rate():
    race, _ = run(Race.begin(RULE, 1e-3), lambda rate, _: max(abs(rate + 3), 0.6))
    assert race.lr == 3.16e-4


def test_a_candidate_is_judged_by_its_lowest_loss():
    rose = Candidate(1e-3, select_losses=((30, 0.3), (90, 0.9)))
    assert rose.lowest == 0.3
    assert Candidate(1e-3, select_losses=((30, None),)).lowest is None


def test_the_next_best_continue_if_all_finalists_diverge():
    dead = {1e-3, 3.16e-3, 1e-2}

    def results(stage, race):
        return {
            candidate.lr: replace(candidate, outcome="diverged")
            if stage.part == 1 and candidate.lr in dead
            else replace(candidate, select_losses=(*candidate.select_losses, (1, abs(math.log10(candidate.lr) + 2.4))))
            for candidate in race.candidates
            if candidate.lr in stage.rates
        }

    race = Race.begin(RULE, 1e-3)
    while (stage := race.stage) is not None:
        race = race.after(stage, results(stage, race))
    assert race.lr == 3.16e-2


def test_a_race_without_a_survivor_has_the_outcome_of_its_candidates():
    race, _ = run(Race.begin(RULE, 1e-3), lambda *_: 0.0, dead=set(RULE.rates(1e-3)))
    assert race.lr is None
    assert race.outcome == "diverged"
    assert race.error == {"type": "Diverged", "message": "loss nan"}


def test_an_interrupted_race_resumes_from_its_record():
    whole, _ = run(Race.begin(RULE, 1e-3), lambda rate, part: abs(rate + 2.4) + (1 - part))
    race = Race.begin(RULE, 1e-3)
    first = race.stage
    race = race.after(
        first,
        {
            candidate.lr: replace(candidate, select_losses=((30, abs(math.log10(candidate.lr) + 2.4) + 2 / 3),))
            for candidate in race.candidates
        },
    )
    assert race.outcome == "interrupted"
    again, stages = run(Race.read(race.as_dict()), lambda rate, part: abs(rate + 2.4) + (1 - part))
    assert [stage.part for stage in stages] == [1.0]
    assert again.lr == whole.lr
    assert Race.read(again.as_dict()) == again


def test_an_incomplete_race_is_rejected():
    stored = Race.begin(RULE, 1e-3).as_dict()
    with pytest.raises(ValueError, match="not a race of this version"):
        Race.read({key: value for key, value in stored.items() if key != "candidates"})


def test_a_larger_race_covers_a_smaller_one_on_the_same_seed():
    quick = Rule(5, 2, 1000)
    assert RULE.covers(quick)
    assert not quick.covers(RULE)
    assert not RULE.covers(Rule(5, 2, 7))


def test_a_protocol_without_candidates_does_not_tune():
    assert Rule.of(ProtocolConf(candidates=None, finalists=3, tune_seed=1000)) is None
    assert Rule.of(ProtocolConf(candidates=7, finalists=3, tune_seed=1000)) == RULE
