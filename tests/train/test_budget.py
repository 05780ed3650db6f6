"""How long a trial trains, when it warms up, and when select is judged: in updates or in passes over the data."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_trials import DATA, PLAN, adamw, small, train, training
from torch import Tensor, nn

from bench.config.schema import ProtocolConf
from bench.tasks.encoding.rows import Rows
from bench.train.loop import Run, run_trials
from bench.train.optim import make_schedule
from bench.train.settings import Plan, Wanted
from bench.train.single import Alone

PASS = 8  # updates


def lora() -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(small(), LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))


def evaluated(**settings: Any) -> tuple[list[int], int]:
    """Return the updates at which select was judged and the number of checkpoints that were offered."""
    ended, curve = train(lora(), plan=replace(PLAN, **settings))
    scores = ended.scores or {}
    assert len(curve["loss"]) == scores["select_losses"][-1][0]
    return [step for step, _ in scores["select_losses"]], len(scores["select_by_epoch"])


def test_a_budget_of_two_passes_in_updates_equals_two_epochs() -> None:
    by_epochs, by_updates = (
        train(lora(), plan=replace(PLAN, **budget)) for budget in ({"epochs": 2}, {"updates": 2 * PASS})
    )
    assert by_updates[1]["loss"] == by_epochs[1]["loss"]
    assert by_updates[0].scores == by_epochs[0].scores
    assert by_updates[0].predictions == by_epochs[0].predictions


@pytest.mark.parametrize(("settings", "steps", "offered"), [
    ({"epochs": 2}, [8, 12, 16], 2),
    ({"updates": 20}, [8, 15, 16, 20], 3),  # the last pass is cut short
    ({"updates": 5}, [3, 5], 1),
    ({"updates": 1}, [1], 1),
    ({"updates": 20, "eval_steps": 6}, [6, 12, 15, 18, 20], 4),
    ({"epochs": 2, "eval_steps": 4}, [4, 8, 12, 16], 4),
    ({"epochs": 1, "eval_steps": 100}, [6, 8], 1),
])  # fmt: skip
def test_select_is_judged_when_it_is_due_at_three_quarters_and_at_the_end(
    settings: dict[str, int], steps: list[int], offered: int
) -> None:
    assert evaluated(**settings) == (steps, offered)


def test_the_protocols_steps_are_the_plans_updates() -> None:
    protocol = ProtocolConf(
        epochs=3, steps=20, batch=8, eval_batch=32, weight_decay=0.0, warmup=0.06, clip=1.0, data_seed=0,
        warmup_steps=4, eval_steps=5, name="mine",
    )  # fmt: skip
    plan = Plan.of(protocol)
    assert (plan.steps(DATA.train), plan.warmup_steps, plan.eval_steps) == (20, 4, 5)
    assert Plan.of(replace(protocol, steps=None)).steps(DATA.train) == 3 * PASS


@pytest.mark.parametrize(("warmup_steps", "peak"), [(None, 2), (0, 0), (5, 5)])
def test_warm_up_in_steps_overrides_the_share(warmup_steps: int | None, peak: int) -> None:
    optimizer = adamw([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, 20, 0.1, warmup_steps)
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates.index(max(rates)) == peak
    assert max(rates) == 1.0


def test_a_trials_curve_shows_its_warm_up() -> None:
    _, curve = train(lora(), plan=replace(PLAN, warmup=0.5, warmup_steps=2), lr=0.1)
    assert curve["lr"][:3] == pytest.approx([0.0, 0.05, 0.1])


# ---- Whether select was still improving ------------------------------------------------------------------------------


class Judged(Alone):
    """A trial whose losses on select are given in order. It records each reading and its number of rows."""

    given: list[Tensor]
    read: list[tuple[str, int]]

    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        self.read.append(("judge", len(rows)))
        answers, _ = super().judge(rows, batch)
        return answers, self.given.pop(0)[None]

    def predict(self, rows: Rows, batch: int) -> Tensor:
        self.read.append(("predict", len(rows)))
        return super().predict(rows, batch)


def judged(*given: list[float], taught: Rows | None = None) -> Any:
    """Return the pack and the scores after eight updates."""
    pack = Judged(lora(), Wanted("one", 1e-2, 0), training(replace(DATA, taught=taught)), ignore)
    pack.given, pack.read = [torch.tensor(losses) for losses in given], []
    ((_, ended),) = run_trials(pack, ignore)
    return pack, ended.scores


def ignore(_: object) -> None:
    """Do nothing with an event."""


def test_rise_is_the_paired_mean_and_its_standard_error() -> None:
    _, scores = judged([1.0, 2.0, 3.0], [0.5, 1.0, 3.0])
    assert scores["rise"] == pytest.approx({"mean": 0.5, "standard_error": 0.5 / 3**0.5})


UNKNOWN = [([1.0, float("nan")], [1.0, 1.0]), ([1.0, 2.0], [float("inf"), 1.0]), ([1.0], [2.0])]


@pytest.mark.parametrize("given", UNKNOWN)
def test_rise_is_none_where_it_is_unknown(given: Any) -> None:
    assert judged(*given)[1]["rise"] is None


def test_a_training_of_one_update_has_no_rise() -> None:
    ended, _ = train(lora(), plan=replace(PLAN, updates=1))
    assert (ended.scores or {})["rise"] is None


def test_answers_are_generated_only_where_a_checkpoint_is_due() -> None:
    """Generating answers takes far longer than computing the loss of the right ones."""
    taught = DATA.select.first(5)
    pack, scores = judged(taught=taught)
    assert pack.read == [("predict", 5), ("predict", 5), ("predict", len(DATA.select)), ("predict", len(DATA.report))]
    assert [step for step, _ in scores["select_losses"]] == [6, 8]
    assert scores["rise"] is not None


def test_stopping_between_updates_does_not_change_the_rise() -> None:
    results = []
    for stops in ([8], [1, 6, 7, 8], [2, 3, 8]):
        pack = Alone(lora(), Wanted("one", 1e-2, 0), training(), ignore)
        run = Run(pack, ignore)
        for stop in stops:
            assert not list(run.advance(stop))
        ((_, ended),) = run.finish()
        results.append((ended.scores["rise"], ended.predictions))  # type: ignore[union-attr]
    assert results[0] == results[1] == results[2]
