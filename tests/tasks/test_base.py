"""Carving parts out of a task: seeded, stratified by label, and never with one text on both sides."""

from collections import Counter

import numpy as np
import pytest

from bench.tasks.base import Split, carve, subset, with_select


def distinct(count: int, positive_every: int = 3) -> Split:
    return Split([f"text {n}" for n in range(count)], [int(n % positive_every == 0) for n in range(count)])


def rows(split: Split) -> list[tuple[str, int]]:
    return list(zip(split.texts, split.labels, strict=True))


def normalized(text: str) -> str:
    return " ".join(text.lower().split())


def test_carving_neither_loses_nor_duplicates_rows() -> None:
    split = distinct(300)
    rest, part = carve(split, 60, seed=0)
    assert len(part) == 60
    assert Counter(rows(rest) + rows(part)) == Counter(rows(split))


def test_the_seed_alone_decides_what_is_carved() -> None:
    split = distinct(300)
    assert carve(split, 60, seed=5) == carve(split, 60, seed=5)
    assert rows(carve(split, 60, seed=5)[1]) != rows(carve(split, 60, seed=6)[1])


@pytest.mark.parametrize("positive_every", [2, 3, 10])
def test_carving_keeps_the_share_of_each_label(positive_every: int) -> None:
    split = distinct(600, positive_every)
    for seed in range(5):
        rest, part = carve(split, 120, seed)
        for side in (rest, part):
            assert abs(sum(side.labels) - len(side) * sum(split.labels) / len(split)) <= 1


def test_equal_texts_never_lie_on_both_sides() -> None:
    shapes = ("{}", " {} ", "{}\t!", "{}  !", "{} !")
    texts = [shape.format(f"Film {n // 2}" if n % 2 else f"film {n // 2}") for n in range(200) for shape in shapes]
    split = Split(texts, [n % 2 for n in range(len(texts))])
    for seed in range(5):
        rest, part = carve(split, 250, seed)
        assert len(rest) + len(part) == len(split)
        assert len(part) >= 240
        assert not {normalized(text) for text in rest.texts} & {normalized(text) for text in part.texts}


def test_rows_of_a_text_with_two_labels_stay_together() -> None:
    split = Split(["same"] * 10 + [f"text {n}" for n in range(90)], [0, 1] * 50)
    for seed in range(10):
        rest, part = carve(split, 20, seed)
        assert ("same" in rest.texts) != ("same" in part.texts)


def test_both_sides_keep_the_original_order() -> None:
    split = distinct(100)
    for side in carve(split, 30, seed=1):
        assert side.texts == sorted(side.texts, key=split.texts.index)


def test_carving_does_not_change_the_split() -> None:
    split = distinct(100)
    carve(split, 30, seed=1)
    assert split == distinct(100)


def test_at_most_half_of_the_rows_can_be_carved() -> None:
    with pytest.raises(ValueError, match=r"^task\.select_rows=51 is more than half of the 100 .* at most 50$"):
        carve(distinct(100), 51, seed=0)
    rest, part = carve(distinct(100, positive_every=2), 50, seed=0)
    assert len(rest) == len(part) == 50


RARE = {
    "400 rare intents": (np.repeat(np.arange(400), 4), 100),
    "150 intents": (np.repeat(np.arange(150), 20), 100),
    "a long tail": (np.repeat(np.arange(60), np.arange(1, 61)), 300),
    "one label is rare": (np.array([0] * 500 + [1]), 100),
    "two labels, an odd number": (np.arange(101) % 2, 25),
    "three labels": (np.arange(999) % 3, 100),
}


@pytest.mark.parametrize("name", RARE)
@pytest.mark.parametrize("seed", range(4))
def test_carving_takes_the_requested_rows_and_leaves_every_label(name: str, seed: int) -> None:
    labels, wanted = RARE[name]
    split = Split([f"text {row}" for row in range(len(labels))], labels.tolist())
    rest, part = carve(split, wanted, seed)
    assert len(part) == wanted
    assert Counter(rows(rest) + rows(part)) == Counter(rows(split))
    assert set(rest.labels) == set(split.labels)
    for label, count in Counter(split.labels).items():
        share = wanted * count / len(split)
        assert share - 1 <= part.labels.count(label) <= share + 1 or count < 3


@pytest.mark.parametrize("seed", range(20))
def test_skewed_labels_and_repeated_texts_can_be_carved(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(20, 400))
    labels = random.zipf(1.5, count) % 50
    texts = [f"text {number}" for number in random.integers(0, max(2, count // 2), count)]
    split, wanted = Split(texts, labels.tolist()), int(random.integers(1, count // 2 + 1))
    rest, part = carve(split, wanted, seed)
    assert Counter(rows(rest) + rows(part)) == Counter(rows(split))
    assert not set(rest.texts) & set(part.texts)
    largest = max(Counter(texts).values())
    assert abs(len(part) - wanted) <= largest * len(set(split.labels))
    assert len(rest)
    assert carve(split, wanted, seed) == (rest, part)


@pytest.mark.parametrize("kind", ["prices", "few values", "one outlier", "constant"])
@pytest.mark.parametrize("wanted", [7, 100, 1000])
def test_numeric_labels_are_stratified_by_rank(kind: str, wanted: int) -> None:
    random = np.random.default_rng(0)
    numbers = {
        "prices": np.round(np.exp(random.normal(5, 2, 2000)), 2),
        "few values": random.integers(0, 6, 2000) / 2,
        "one outlier": np.append(random.normal(size=1999), 1e9),
        "constant": np.ones(2000),
    }[kind]
    split = Split([f"text {row}" for row in range(2000)], [float(number) for number in numbers])
    rest, part = carve(split, wanted, seed=0)
    assert (len(rest), len(part)) == (2000 - wanted, wanted)
    if wanted == 1000:
        for share in (0.1, 0.5, 0.9):  # the carved part has the same distribution
            low, high = np.quantile(numbers, [share - 0.06, share + 0.06])
            assert low <= np.quantile(part.labels, share) <= high


def test_a_user_with_2000_prices_gets_all_three_parts() -> None:
    prices = [float(row) + 0.99 for row in range(2000)]
    task = with_select({"train": Split([f"thing {row}" for row in range(2000)], prices)}, 100, 0)
    assert [len(part) for part in (task.train, task.select, task.report)] == [1500, 100, 400]


def test_a_part_that_would_be_empty_is_refused() -> None:
    split = Split([f"text {row}" for row in range(20)], list(range(20)))
    with pytest.raises(ValueError, match=r"^cannot cut 5 rows out of 20 rows: .*every label keeps at least one row"):
        carve(split, 5, seed=0)
    with pytest.raises(ValueError, match=r"^cannot cut 0 rows out of 4 rows"):
        with_select({"train": split.take(range(4))}, 1, 0)
    with pytest.raises(ValueError, match=r"^cannot cut 2 rows out of 10 rows"):
        carve(Split(["one text"] * 10, [0, 1] * 5), 2, seed=0)


def test_carving_reproduces_the_rows_of_recorded_results() -> None:
    # The rows of recorded results were drawn by this generator, label by label.
    split, generator, expected = distinct(600, positive_every=2), np.random.default_rng(3), set[int]()
    for label in (0, 1):
        matching = [row for row, row_label in enumerate(split.labels) if row_label == label]
        expected.update(matching[place] for place in generator.permutation(len(matching))[:60])
    assert carve(split, 120, seed=3)[1] == split.take(sorted(expected))


@pytest.mark.parametrize("wanted", [None, 100, 101])
def test_a_subset_of_all_rows_or_more_is_the_split_itself(wanted: int | None) -> None:
    assert subset(distinct(100), wanted, seed=0) == distinct(100)


def test_a_subset_is_seeded_exact_and_in_the_original_order() -> None:
    split = distinct(100)
    part = subset(split, 40, seed=3)
    assert len(part) == 40
    assert part.texts == sorted(set(part.texts), key=split.texts.index)
    assert set(rows(part)) <= set(rows(split))
    assert part == subset(split, 40, seed=3)
    assert part != subset(split, 40, seed=4)


def test_a_smaller_subset_lies_within_a_larger_one() -> None:
    small, large = (set(subset(distinct(100), size, seed=0).texts) for size in (20, 60))
    assert small < large


def test_taking_rows_keeps_texts_and_labels_together() -> None:
    assert rows(distinct(10).take([9, 0, 4])) == [("text 9", 1), ("text 0", 1), ("text 4", 0)]
