"""Cutting parts out of a task: by seed, by label, and never one text on both sides."""

from collections import Counter

import pytest

from bench.tasks.task import Split, carve, subset


def distinct(count: int, positive_every: int = 3) -> Split:
    return Split([f"text {n}" for n in range(count)], [int(n % positive_every == 0) for n in range(count)])


def rows(split: Split) -> list[tuple[str, int]]:
    return list(zip(split.texts, split.labels, strict=True))


def plain(text: str) -> str:
    return " ".join(text.lower().split())


def test_carving_loses_no_row_and_doubles_none() -> None:
    split = distinct(300)
    rest, part = carve(split, 60, seed=0)
    assert len(part) == 60
    assert Counter(rows(rest) + rows(part)) == Counter(rows(split))


def test_the_seed_alone_decides_what_is_carved() -> None:
    split = distinct(300)
    assert carve(split, 60, seed=5) == carve(split, 60, seed=5)
    assert rows(carve(split, 60, seed=5)[1]) != rows(carve(split, 60, seed=6)[1])


@pytest.mark.parametrize("positive_every", [2, 3, 10])
def test_the_carved_part_has_the_labels_in_the_same_shares(positive_every: int) -> None:
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
        assert not {plain(text) for text in rest.texts} & {plain(text) for text in part.texts}


def test_a_text_with_two_labels_stays_whole() -> None:
    split = Split(["same"] * 10 + [f"text {n}" for n in range(90)], [0, 1] * 50)
    for seed in range(10):
        rest, part = carve(split, 20, seed)
        assert ("same" in rest.texts) != ("same" in part.texts)


def test_both_sides_keep_the_old_order() -> None:
    split = distinct(100)
    for side in carve(split, 30, seed=1):
        assert side.texts == sorted(side.texts, key=split.texts.index)


def test_carving_does_not_change_the_split() -> None:
    split = distinct(100)
    carve(split, 30, seed=1)
    assert split == distinct(100)


def test_carving_more_than_half_is_refused_and_half_is_not() -> None:
    with pytest.raises(ValueError, match=r"^task\.select_rows=51 is more than half of the 100 .* at most 50$"):
        carve(distinct(100), 51, seed=0)
    rest, part = carve(distinct(100, positive_every=2), 50, seed=0)
    assert len(rest) == len(part) == 50


@pytest.mark.parametrize("wanted", [None, 100, 101])
def test_a_subset_of_all_rows_or_more_is_the_split_itself(wanted: int | None) -> None:
    assert subset(distinct(100), wanted, seed=0) == distinct(100)


def test_a_subset_is_seeded_exact_and_in_the_old_order() -> None:
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
