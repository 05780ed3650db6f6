"""Packed trials end where single trials end, for every method and both kinds of model."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import FP32, training
from test_every_method import KINDS, METHODS, REFUSED, TOKENS, WARNINGS, cell_of, folders  # noqa: F401
from torch import Tensor, nn

from bench.cells.cell import Cell
from bench.events import Ended, Event, Stepped
from bench.models.vmap.dropout import Streams, drawing, drop, of_trial
from bench.runner.build import build, recipe_of
from bench.tasks.encoding.rows import Encoded, Rows
from bench.train.batches import Batch
from bench.train.loop import Pack, run_trials
from bench.train.outcome import Diverged
from bench.train.packed.pack import Packed
from bench.train.packed.start import Layout, Unpackable, gather, rehearse, sample_of
from bench.train.settings import Plan, Wanted
from bench.train.single import Alone

CPU = torch.device("cpu")
PLAN = Plan(epochs=2, batch=8, eval_batch=32, weight_decay=0.01, warmup=0.06, clip=1.0, data_seed=0)
SEEDS = (0, 1)
ALONE = ("adalora", "diff_pruning")  # their hooks say so: tests/runner/test_run.py, tests/methods/test_hooks.py
# Methods that do not map over trials, each with a word of the reason.
UNPACKABLE = {
    "c3a": "setup_context",
    "fourierft": "index_put_",
    "loha": "random",
    "lokr": "random",
    "oft": "index_put_",
    "p_tuning": "Batching rule",  # a recurrent layer
    "randlora": "setup_context",
    "shira": "Sparse",
    "vblora": "data-dependent",
    "waveft": "index_put_",
}
# Where every weight moves, rounding grows with the steps. At the rates in STEADY it stays small.
LOOSE = {"delora": 1e-5, "rslora": 1e-5}  # one divides by the norms of small vectors, one multiplies by 16
STEADY = {"delora": 1e-4, "full": 1e-5}
# A key's bias shifts all scores equally: its gradient is only rounding, which Adam amplifies.
NOISE = "key.bias"


def rows(count: int, seed: int, *, pad_left: bool) -> Rows:
    """Make texts of 4 to 12 tokens whose second token determines the label."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 13, (count,), generator=generator)
    starts = lengths.cumsum(0) - lengths
    labels = torch.arange(count) % 2
    ids = torch.randint(20, len(TOKENS), (int(lengths.sum()),), generator=generator)
    ids[starts + 1] = torch.randint(5, 12, (count,), generator=generator) + 7 * labels
    return Rows(ids, starts, lengths, labels, pad_id=0, pad_left=pad_left)


STEPS = {"bert": 8, "llama": 12}  # of both epochs together


def data_for(kind: str, steps: int = 0) -> Encoded:
    left = kind == "llama"
    train = rows(PLAN.batch * (steps or STEPS[kind]) // PLAN.epochs, 0, pad_left=left)
    return Encoded(train, rows(24, 1, pad_left=left), rows(24, 2, pad_left=left))


@dataclass
class Trials:
    """The results of some trials: ends, losses and trained weights by trial."""

    ends: dict[str, Ended | Exception]
    losses: dict[str, list[float]]
    weights: dict[str, dict[str, Tensor]]


def followed(pack: Pack, losses: dict[str, list[float]]) -> Trials:
    results = Trials({}, losses, {})
    for member, end in run_trials(pack, lambda _: None):
        results.ends[member.wanted.trial] = end
        results.weights[member.wanted.trial] = {name: part.detach().clone() for name, part in member.parameters.items()}
    return results


def prepared(cell: Cell, data: Encoded, seed: int) -> nn.Module:
    model = build(cell, seed=seed, compute=FP32)
    rehearse(model, training(data, PLAN, recipe_of(cell)))
    return model


def packed(cell: Cell, data: Encoded, wanted: Sequence[Wanted], emit: Any = lambda _: None) -> Packed:
    sample = sample_of(data.train)
    seeds = dict.fromkeys(spec.seed for spec in wanted)
    frame, starts = gather(((seed, prepared(cell, data, seed)) for seed in seeds), sample, FP32)
    pack = Packed(frame, starts, wanted, training(data, PLAN, recipe_of(cell)), emit)
    pack.verify(starts, sample)
    return pack


def keeping(losses: dict[str, list[float]]) -> Any:
    def emit(event: Event) -> None:
        if isinstance(event, Stepped):
            losses.setdefault(event.trial, []).extend(event.curve["loss"])

    return emit


def together(cell: Cell, data: Encoded, wanted: Sequence[Wanted], chunk: int | None = None) -> Trials:
    losses: dict[str, list[float]] = {}
    pack = packed(cell, data, wanted, keeping(losses))
    pack.chunk = chunk or pack.chunk
    return followed(pack, losses)


def one_by_one(cell: Cell, data: Encoded, wanted: Sequence[Wanted]) -> Trials:
    whole = Trials({}, {}, {})
    for spec in wanted:
        given = training(data, PLAN, recipe_of(cell))
        pack = Alone(prepared(cell, data, spec.seed), spec, given, keeping(whole.losses))
        results = followed(pack, whole.losses)
        whole.ends |= results.ends
        whole.weights |= results.weights
    return whole


def trials_of(*rates: float) -> list[Wanted]:
    return [Wanted(f"{rate}-{seed}", rate, seed) for rate in rates for seed in SEEDS]


def split(end: Ended) -> tuple[dict[str, Any], Tensor]:
    """Return the scores; and separately the losses on select and how far they fell, which rounding affects."""
    scores = dict(end.scores or {})
    losses, rise = scores.pop("select_losses"), scores.pop("rise")
    return scores, torch.tensor([*losses, [*rise.values()]], dtype=torch.float64)


def assert_equal(ours: Trials, theirs: Trials, atol: float = 1e-6) -> None:
    assert ours.ends.keys() == theirs.ends.keys()
    for name, end in ours.ends.items():
        other = theirs.ends[name]
        assert isinstance(end, Ended)
        assert isinstance(other, Ended)
        (scores, losses), (expected, other_losses) = (split(ended) for ended in (end, other))
        assert (scores, end.predictions) == (expected, other.predictions)
        torch.testing.assert_close(losses, other_losses, rtol=0, atol=10 * atol)
        torch.testing.assert_close(ours.losses[name], theirs.losses[name], rtol=0, atol=atol)
        for part, tensor in ours.weights[name].items():
            if NOISE not in part:
                torch.testing.assert_close(tensor, theirs.weights[name][part], rtol=0, atol=atol)


def pairs() -> list[Any]:
    return [
        pytest.param(
            name, kind, marks=[pytest.mark.filterwarnings(f"ignore:{warning}") for warning in WARNINGS.get(name, [])]
        )
        for name in METHODS
        for kind in KINDS
        if (name, kind) not in REFUSED and name not in ALONE
    ]


@pytest.mark.parametrize(("name", "kind"), pairs())
def test_packed_trials_equal_single_trials(name: str, kind: str, folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of(name, folders[kind]), data_for(kind)
    rate = STEADY.get(name, 1e-3)
    wanted = [Wanted("a", rate, 0), Wanted("b", rate, 1), Wanted("c", rate / 3, 0)]
    if name in UNPACKABLE:
        with pytest.raises(Unpackable, match=UNPACKABLE[name]):
            packed(cell, data, wanted)
        return
    assert_equal(together(cell, data, wanted), one_by_one(cell, data, wanted), LOOSE.get(name, 1e-6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lora", "adapter", "prefix"])
def test_packed_trials_draw_the_dropout_of_single_trials(name: str, kind: str, folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of(name, folders[kind], "protocol.dropout=0.1"), data_for(kind)
    wanted = trials_of(1e-3, 3e-4)
    ours = together(cell, data, wanted)
    assert_equal(ours, one_by_one(cell, data, wanted), atol=3e-6)
    assert_equal(ours, together(cell, data, wanted, chunk=3), atol=3e-6)
    without = together(cell_of(name, folders[kind]), data, wanted)
    assert all(ours.losses[spec.trial][0] != without.losses[spec.trial][0] for spec in wanted)


def test_two_seeds_draw_different_masks_and_one_seed_the_same() -> None:
    def masks(*seeds: int) -> list[Tensor]:
        streams = Streams(seeds, CPU)
        streams.start(7)
        with drawing(streams):
            drawn = []
            for number in range(len(seeds)):
                with of_trial(torch.tensor(number)):
                    drawn.append(drop(torch.ones(1000), 0.25))
        return drawn

    first, second, again = masks(3, 4, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(masks(4)[0], second)
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert first.mean() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_the_number_of_trials_at_once_changes_nothing(chunk: int, folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of("lora", folders["bert"]), data_for("bert")
    wanted = trials_of(1e-3, 3e-4)
    assert_equal(together(cell, data, wanted, chunk), together(cell, data, wanted))


def test_a_diverged_trial_is_frozen_and_does_not_disturb_the_others(folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of("lora", folders["bert"]), data_for("bert")
    wanted = [*trials_of(1e-3), Wanted("wild", math.inf, 1), *trials_of(3e-4)]
    ours = together(cell, data, wanted)
    assert isinstance(ours.ends.pop("wild"), Diverged)
    ours.weights.pop("wild")
    assert_equal(ours, one_by_one(cell, data, [spec for spec in wanted if spec.trial != "wild"]))


def test_the_best_weights_of_each_trial_are_its_own(folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of("lora", folders["bert"]), data_for("bert")
    pack = packed(cell, data, trials_of(1e-2))
    for member, _ in run_trials(pack, lambda _: None):
        model = dict(pack.model_of(member).named_parameters())
        assert all(torch.equal(model[name], part) for name, part in member.parameters.items())


def test_running_out_of_memory_halves_the_trials_at_once_and_loses_nothing(
    folders: dict[str, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell, data = cell_of("lora", folders["bert"]), data_for("bert")
    wanted, whole = trials_of(1e-3, 3e-4), Packed._over
    expected = together(cell, data, wanted)
    sizes = []

    def small(self: Packed, places: range, *rest: Any) -> Any:
        sizes.append(len(places))
        if len(places) > 1 and self.steps > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, places, *rest)

    monkeypatch.setattr(Packed, "_over", small)
    assert_equal(together(cell, data, wanted), expected)
    assert {1, 2, 4} <= set(sizes)


def test_a_pack_that_halves_within_a_step_draws_the_same_masks(
    folders: dict[str, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trials that are run again restart their streams, and nothing of the failed attempt is left."""
    cell, data = cell_of("lora", folders["bert"], "protocol.dropout=0.1"), data_for("bert")
    wanted, whole = trials_of(1e-3, 3e-4), Packed._gradients
    expected = together(cell, data, wanted)
    references: list[Any] = []
    freed: list[bool] = []

    def late(self: Packed, batch: Batch, places: range) -> Tensor:
        losses = whole(self, batch, places)
        references.append(weakref.ref(losses))
        if len(places) > 1 and self.steps > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: freed.append(all(reference() is None for reference in references))
    )
    monkeypatch.setattr(Packed, "_gradients", late)
    assert_equal(together(cell, data, wanted), expected)
    assert freed == [True, True]  # from four trials at once to two, and to one


def test_a_first_pass_that_is_retried_in_another_way_draws_the_same_masks(
    folders: dict[str, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell, data = cell_of("lora", folders["bert"], "protocol.dropout=0.1"), data_for("bert", steps=4)
    monkeypatch.setattr("bench.train.packed.pack.trained_depth", lambda _: 0)
    whole = Packed._gradients

    def shared_fails(self: Packed, batch: Batch, places: range) -> Tensor:
        losses = whole(self, batch, places)
        if self.shares:
            raise RuntimeError("no batching rule")
        return losses

    monkeypatch.setattr(Packed, "_gradients", shared_fails)
    assert not packed(cell, data, trials_of(1e-3)).shares


def test_seeds_with_different_frozen_weights_keep_them(folders: dict[str, Path]) -> None:  # noqa: F811
    """LoRA-FA draws A from the seed and freezes it: a pack that shared the first seed's A would be silently wrong."""
    cell, data = cell_of("lora_fa", folders["bert"]), data_for("bert", steps=4)
    frame, starts = gather(((seed, prepared(cell, data, seed)) for seed in SEEDS), sample_of(data.train), FP32)
    assert any("lora_A" in name for name in starts[0].other)
    stolen = [starts[0], replace(starts[1], other=starts[0].other)]
    given = training(data, PLAN, recipe_of(cell))
    pack = Packed(frame, stolen, trials_of(1e-3), given, lambda _: None)
    with pytest.raises(Unpackable, match="of their norm away"):
        pack.verify(starts, sample_of(data.train))


def test_a_layout_splits_what_it_joins(folders: dict[str, Path]) -> None:  # noqa: F811
    cell, data = cell_of("lora", folders["bert"]), data_for("bert", steps=4)
    model = prepared(cell, data, 0)
    layout, named = Layout.of(model), dict(model.named_parameters())
    for name, tensor in layout.split(layout.join(named)).items():
        assert torch.equal(tensor, named[name])
    assert layout.head == 2 * 64 + 2
