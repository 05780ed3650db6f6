"""Few-shot examples: balanced by label, seeded, and never the row itself."""

from collections import Counter

import pytest

from bench.tasks.base import Split
from bench.tasks.encoding.few_shot import Demonstrations

TRAIN = Split([f"text {row}" for row in range(40)], [row % 4 for row in range(40)])


def test_examples_are_balanced_over_labels() -> None:
    for row in range(20):
        shown = Demonstrations(TRAIN, 6, seed=0).draw(row, own=False)
        counts = Counter(TRAIN.labels[example] for example in shown)
        assert sorted(counts.values()) == [1, 1, 2, 2]
        assert len(set(shown)) == 6


def test_only_the_seed_and_the_row_decide_the_examples() -> None:
    first, again, other = (Demonstrations(TRAIN, 4, seed) for seed in (0, 0, 1))
    rows = range(10)
    assert [first.draw(row, own=False) for row in reversed(rows)] == [again.draw(row, own=False) for row in rows][::-1]
    assert [first.draw(row, own=False) for row in rows] != [other.draw(row, own=False) for row in rows]
    assert first.draw(0, own=False) != first.draw(1, own=False)


def test_a_row_is_not_shown_its_own_answer() -> None:
    few = TRAIN.take(range(8))  # two of each label
    shown = Demonstrations(few, 4, seed=0)
    for row in range(8):
        assert row not in shown.draw(row, own=True)
    assert any(row in shown.draw(row, own=False) for row in range(8))


@pytest.mark.parametrize("shots", [0, 1, 5])
def test_a_row_gets_the_requested_number_of_examples(shots: int) -> None:
    assert len(Demonstrations(TRAIN, shots, seed=0).draw(3, own=True)) == shots


def test_a_label_with_few_rows_repeats_its_examples() -> None:
    shown = Demonstrations(TRAIN.take([0, 1]), 5, seed=0).draw(9, own=False)
    assert sorted(Counter(shown).values()) == [2, 3]
