"""Training that stops and resumes ends where uninterrupted training ends; the losses on select in between."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_trials import training
from test_every_method import cell_of, folders  # noqa: F401
from test_packed import PLAN, STEPS, data_for, keeping, packed, prepared
from torch import nn

from bench.events import Ended
from bench.runner.build import recipe_of
from bench.train.batches import collate
from bench.train.evaluate import forward
from bench.train.loop import Pack, Run
from bench.train.settings import Wanted
from bench.train.single import Alone
from bench.train.trial_state import Member

RATES = (1e-3, 3e-3, 1e-2)
DATA = data_for("bert", STEPS["bert"])
TOTAL = PLAN.steps(DATA.train)


@pytest.fixture(params=["alone", "packed"])
def made(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Callable[[], tuple[Pack, dict]]:  # noqa: F811
    """Return a function that makes a new pack and the losses that the pack will emit."""
    cell = cell_of("lora", folders["bert"], "protocol.head_lr=2e-3")

    def make() -> tuple[Pack, dict[str, list[float]]]:
        losses: dict[str, list[float]] = {}
        wanted = [Wanted(f"lr{lr}", lr, 1000) for lr in RATES]
        if request.param == "packed":
            return packed(cell, DATA, wanted, keeping(losses)), losses
        model = prepared(cell, DATA, 1000)
        alone = Alone(model, wanted[1], training(DATA, PLAN, recipe_of(cell)), keeping(losses))
        return alone, losses

    return make


def test_every_trial_trains_the_head_at_the_protocols_rate(made: Callable[[], tuple[Pack, dict]]) -> None:
    for member in made()[0].members:
        rates = {id(part): group["lr"] for group in member.optimizer.param_groups for part in group["params"]}
        initial = {id(part): group["initial_lr"] for group in member.optimizer.param_groups for part in group["params"]}
        assert set(rates) == {id(part) for part in member.parameters.values()}
        by_head = {"classifier" in name: initial[id(part)] for name, part in member.parameters.items()}
        assert by_head == {True: 2e-3, False: member.wanted.lr}


def ends_of(pack: Pack, stops: list[int]) -> tuple[dict[str, Ended], list[Member]]:
    run, members = Run(pack, lambda _: None), list(pack.members)
    for stop in [*stops, run.total]:
        assert not list(run.advance(stop))
        assert run.steps == stop
    ends = {member.wanted.trial: end for member, end in run.finish()}
    assert all(isinstance(end, Ended) for end in ends.values())
    return ends, members  # type: ignore[return-value]


def test_a_run_in_stages_ends_as_an_uninterrupted_run(made: Callable[[], tuple[Pack, dict]]) -> None:
    (straight, its_losses), (staged, other_losses) = made(), made()
    expected, before = ends_of(straight, [])
    ends, after = ends_of(staged, [1, TOTAL // 3, TOTAL // 3, TOTAL // 2, TOTAL - 1])
    assert other_losses == its_losses
    for member, staged_member in zip(before, after, strict=True):
        assert all(torch.equal(part, staged_member.parameters[name]) for name, part in member.parameters.items())
        assert set(member.select_losses) < set(staged_member.select_losses)
    for name, end in ends.items():
        assert end.predictions == expected[name].predictions
        assert {**(end.scores or {}), "select_losses": None} == {**(expected[name].scores or {}), "select_losses": None}


def test_a_trial_dropped_between_stages_does_not_disturb_the_others(made: Callable[[], tuple[Pack, dict]]) -> None:
    (straight, _), (staged, _) = made(), made()
    expected, _ = ends_of(straight, [])
    run = Run(staged, lambda _: None)
    list(run.advance(TOTAL // 3))
    staged.drop([member for member in staged.members if member.wanted.lr != RATES[1]])
    list(run.advance(run.total))
    ((member, end),) = run.finish()
    assert isinstance(end, Ended)
    assert end.predictions == expected[member.wanted.trial].predictions


def test_the_select_loss_is_the_cross_entropy_of_the_trained_model(made: Callable[[], tuple[Pack, dict]]) -> None:
    pack, _ = made()
    run = Run(pack, lambda _: None)
    list(run.advance(TOTAL // 3))
    for member in pack.members:
        model = pack.model_of(member).eval()
        rows = DATA.select
        with torch.no_grad():
            losses = [
                nn.functional.cross_entropy(forward(model, collate(rows, torch.tensor([row]))), rows.labels[row][None])
                for row in range(len(rows))
            ]
        ((step, loss),) = member.select_losses
        assert step == TOTAL // 3
        assert loss == pytest.approx(float(torch.stack(losses).double().mean()), abs=1e-6)


def test_a_record_holds_the_select_loss_of_every_epoch(made: Callable[[], tuple[Pack, dict]]) -> None:
    ends, _ = ends_of(made()[0], [])
    for end in ends.values():
        losses = (end.scores or {})["select_losses"]
        assert [step for step, _ in losses] == [TOTAL // 2, 3 * TOTAL // 4, TOTAL]


def test_a_record_says_how_much_select_still_improved_in_the_last_quarter(
    made: Callable[[], tuple[Pack, dict]],
) -> None:
    pack, _ = made()
    run, members = Run(pack, lambda _: None), list(pack.members)
    judged = []
    for stop in (3 * TOTAL // 4, TOTAL):
        assert not list(run.advance(stop))
        judged.append(pack.judge(DATA.select, PLAN.eval_batch)[1].double())
    fell = judged[0] - judged[1]
    ends = {member.wanted.trial: end for member, end in run.finish()}
    for member, row in zip(members, fell, strict=True):
        rise = (ends[member.wanted.trial].scores or {})["rise"]
        assert rise["mean"] == pytest.approx(float(row.mean()))
        assert rise["standard_error"] == pytest.approx(float(row.std() / len(row) ** 0.5))
