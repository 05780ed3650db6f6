"""Batches by length: every row once, the same shapes for every seed, almost no padding."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from bench.tasks.encoding.rows import Rows
from bench.train.batches import PADDING, Batch, ahead, by_length, collate, epoch, for_evaluation

PAD = 99


def rows_of(lengths: list[int], *, pad_left: bool = False) -> Rows:
    """Make rows whose label is their number, and whose ids encode row and column."""
    ids = torch.cat([torch.arange(length) + 100 * (number + 1) for number, length in enumerate(lengths)])
    sizes = torch.tensor(lengths)
    return Rows(ids, torch.cumsum(sizes, 0) - sizes, sizes, torch.arange(len(lengths)), PAD, pad_left)


@pytest.fixture
def rows() -> Rows:
    """Make rows with lengths as in a corpus of sentences: many short, few long."""
    return rows_of((3 + np.random.default_rng(0).gamma(2.0, 6.0, size=1003).astype(int)).clip(max=60).tolist())


def batches(rows: Rows, *, seed: int = 0, number: int = 0, data_seed: int = 0) -> list[Batch]:
    return list(epoch(rows, 16, number=number, seed=seed, data_seed=data_seed))


def shapes(collated: list[Batch]) -> list[tuple[int, ...]]:
    return [tuple(batch.input_ids.shape) for batch in collated]


def padding(collated: list[Batch]) -> float:
    return 1 - sum(batch.tokens for batch in collated) / sum(batch.input_ids.numel() for batch in collated)


def members(collated: list[Batch]) -> list[set[int]]:
    return [set(batch.labels.tolist()) for batch in collated]


@pytest.mark.parametrize("number", [0, 1])
def test_an_epoch_visits_every_row_exactly_once(rows: Rows, number: int) -> None:
    seen = torch.cat([batch.labels for batch in batches(rows, seed=4, number=number)])
    assert sorted(seen.tolist()) == list(range(len(rows)))


def test_all_batches_but_one_are_full(rows: Rows) -> None:
    assert Counter(batch.rows for batch in batches(rows)) == {16: 62, 11: 1}


def test_the_data_sets_the_lengths_and_the_seed_sets_the_rows(rows: Rows) -> None:
    first, second = batches(rows, seed=0), batches(rows, seed=1)
    assert shapes(first) == shapes(second)
    assert [batch.tokens for batch in first] == [batch.tokens for batch in second]
    changed = sum(labels != other for labels, other in zip(members(first), members(second), strict=True))
    assert changed > len(first) / 2


def test_the_same_seed_gives_the_same_rows(rows: Rows) -> None:
    for batch, again in zip(batches(rows, seed=3), batches(rows, seed=3), strict=True):
        assert torch.equal(batch.input_ids, again.input_ids)
        assert torch.equal(batch.labels, again.labels)


def test_a_later_epoch_has_other_batches_in_another_order(rows: Rows) -> None:
    first, second = batches(rows, number=0), batches(rows, number=1)
    assert shapes(first) != shapes(second)
    assert sorted(shapes(first)) == sorted(shapes(second))
    assert sum(batch not in members(second) for batch in members(first)) > len(first) / 2


def test_the_data_seed_orders_the_lengths_and_leaves_the_batches_as_they_are(rows: Rows) -> None:
    first, second = batches(rows, data_seed=0), batches(rows, data_seed=1)
    assert shapes(first) != shapes(second)
    assert {frozenset(batch) for batch in members(first)} == {frozenset(batch) for batch in members(second)}


def test_lengths_do_not_rise_through_an_epoch(rows: Rows) -> None:
    lengths = [shape[1] for shape in shapes(batches(rows))]
    assert abs(np.corrcoef(lengths, range(len(lengths)))[0, 1]) < 0.3


def test_almost_nothing_is_padding(rows: Rows) -> None:
    assert sum(batch.tokens for batch in batches(rows)) == len(rows.ids)
    mixed = [collate(rows, numbers) for numbers in torch.arange(len(rows)).split(16)]
    assert padding(batches(rows)) < 0.03
    assert padding(mixed) > 0.4


@pytest.mark.parametrize("tokens", [60, 100, 1000])
def test_a_budget_of_tokens_bounds_every_batch_and_loses_no_row(rows: Rows, tokens: int) -> None:
    collated = list(epoch(rows, 16, number=0, seed=0, data_seed=0, tokens=tokens))
    assert sorted(torch.cat([batch.labels for batch in collated]).tolist()) == list(range(len(rows)))
    assert max(batch.input_ids.numel() for batch in collated) <= tokens
    cut = by_length(rows, 16, tokens=tokens)
    for numbers, following in pairwise(cut):  # no batch could have taken the next row
        assert (len(numbers) + 1) * int(rows.lengths[following].min()) > tokens


def test_a_budget_gives_all_seeds_the_same_shapes(rows: Rows) -> None:
    first, second = (shapes(list(epoch(rows, 16, number=1, seed=seed, data_seed=0, tokens=300))) for seed in (0, 1))
    assert first == second
    assert len({shape[0] for shape in first}) > 3


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    assert [part.tolist() for part in by_length(rows_of([2, 9, 2]), 8, tokens=4)] == [[0, 2], [1]]


def test_lengths_in_multiples_are_few_and_hold_the_same_rows(rows: Rows) -> None:
    wide = batches(replace(rows, multiple=16))
    assert {shape[1] for shape in shapes(wide)} <= {16, 32, 48, int(rows.lengths.max())}
    for narrow, widened in zip(batches(rows), wide, strict=True):
        kept = narrow.input_ids.shape[1]
        assert torch.equal(narrow.input_ids, widened.input_ids[:, :kept])
        assert widened.input_ids.shape[1] == kept or not widened.attention_mask[:, kept:].any()
        assert narrow.tokens == widened.tokens


def test_batches_arrive_in_order(rows: Rows) -> None:
    expected = batches(rows)
    assert all(batch is other for batch, other in zip(ahead(expected, torch.device("cpu")), expected, strict=True))


def test_without_a_seed_rows_of_one_length_keep_their_order() -> None:
    order = torch.cat(by_length(rows_of([5, 3, 5, 3, 4]), batch=2))
    assert order.tolist() == [1, 3, 4, 0, 2]


def test_the_mask_is_absent_exactly_where_nothing_is_padded(rows: Rows) -> None:
    collated = batches(rows)
    for batch in collated:
        assert (batch.attention_mask is None) == (batch.tokens == batch.input_ids.numel())
    assert {batch.attention_mask is None for batch in collated} == {True, False}


def test_a_batch_holds_its_rows_padded_on_the_right() -> None:
    rows = rows_of([4, 2, 3, 1])
    batch = collate(rows, torch.tensor([3, 0, 2]))
    assert batch.input_ids.tolist() == [[400, PAD, PAD, PAD], [100, 101, 102, 103], [300, 301, 302, PAD]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.labels.tolist() == [3, 0, 2]
    assert (batch.tokens, batch.rows) == (8, 3)


def test_a_decoders_batch_is_padded_on_the_left_so_that_every_text_ends_last() -> None:
    rows = rows_of([4, 2, 3, 1], pad_left=True)
    batch = collate(rows, torch.tensor([3, 0, 2]))
    assert batch.input_ids.tolist() == [[PAD, PAD, PAD, 400], [100, 101, 102, 103], [PAD, 300, 301, 302]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]]
    assert batch.labels.tolist() == [3, 0, 2]
    assert (batch.tokens, batch.rows) == (8, 3)


def test_the_side_of_the_padding_changes_nothing_else(rows: Rows) -> None:
    right, left = batches(rows), batches(replace(rows, pad_left=True))
    for padded_right, padded_left in zip(right, left, strict=True):
        assert torch.equal(padded_right.labels, padded_left.labels)
        assert padded_right.tokens == padded_left.tokens
        assert (padded_right.attention_mask is None) == (padded_left.attention_mask is None)
        real = [
            slice(None) if batch.attention_mask is None else batch.attention_mask.bool()
            for batch in (padded_right, padded_left)
        ]
        assert torch.equal(padded_right.input_ids[real[0]], padded_left.input_ids[real[1]])


@pytest.mark.parametrize("pad_left", [False, True])
def test_rows_of_one_length_are_stacked_as_they_are(*, pad_left: bool) -> None:
    batch = collate(rows_of([2, 3, 2], pad_left=pad_left), torch.tensor([2, 0]))
    assert batch.input_ids.tolist() == [[300, 301], [100, 101]]
    assert batch.attention_mask is None


def test_every_batch_holds_the_tokens_of_its_rows(rows: Rows) -> None:
    for batch in batches(rows, seed=2):
        for line, number in zip(batch.input_ids, batch.labels.tolist(), strict=True):
            begin, length = int(rows.starts[number]), int(rows.lengths[number])
            assert torch.equal(line[:length], rows.ids[begin : begin + length])
            assert (line[length:] == PAD).all()


def test_moving_a_batch_keeps_its_contents() -> None:
    for numbers in ([0, 1], [1, 2]):
        batch = collate(rows_of([3, 2, 2]), torch.tensor(numbers))
        moved = batch.to(torch.device("cpu"))
        assert torch.equal(moved.input_ids, batch.input_ids)
        assert (moved.attention_mask is None) == (batch.attention_mask is None)
        assert moved.tokens == batch.tokens


def test_evaluation_on_a_cpu_pads_little_and_keeps_every_row(rows: Rows) -> None:
    cut = for_evaluation(rows, 128, torch.device("cpu"))
    assert sorted(torch.cat(cut).tolist()) == list(range(len(rows)))
    padding = [int((rows.lengths[numbers].max() - rows.lengths[numbers]).sum()) for numbers in cut]
    assert max(padding) <= PADDING
    assert 1 < len(cut) < len(set(rows.lengths.tolist()))
    for numbers, following in pairwise(cut):  # no batch could have taken the next row
        more = rows.lengths[following].min() - rows.lengths[numbers]
        assert len(numbers) == 128 or int(more.sum()) > PADDING


def test_evaluation_never_takes_more_rows_than_allowed() -> None:
    alike = rows_of([4] * 10)
    for device in ("cpu", "cuda"):
        assert [len(numbers) for numbers in for_evaluation(alike, 4, torch.device(device))] == [4, 4, 2]
    assert len(for_evaluation(rows_of([1, 500]), 4, torch.device("cuda"))) == 1
