"""Map the spellings of class labels in files to classes, and reject what cannot be a label."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

LABELS = 1000  # classes, at most, unless task.labels lists them
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
WHOLE = re.compile(r"([+-]?\d+)(\.0*)?")
INTEGER = re.compile(r"-?\d+")
UNLABELLED = " (-1 marks GLUE's unlabelled test file)"

# part -> file -> label as spelled in the file -> first row with that label, counted from 1
Spelled = Mapping[str, Mapping[Path, Mapping[str, int]]]


def spellings(column: pd.Series, where: Path, name: str) -> pd.Series:
    """Return the labels of a file as text, without surrounding whitespace.

    Args:
        column: the labels.
        where: path of the file, for the error message.
        name: name of the column in the file.

    Raises:
        ValueError: a row has no label.
    """
    labels = column.astype(str).str.strip()
    if (absent := column.isna() | (labels == "")).any():
        row = int(absent.to_numpy().argmax()) + 1
        raise ValueError(f"{where}: row {row} has no label in column {name!r}; give it one, or remove the row")
    return labels


def first_rows(labels: pd.Series) -> dict[str, int]:
    """Return the first row, counted from 1, of each spelling."""
    distinct = labels.reset_index(drop=True).drop_duplicates()
    return {label: row + 1 for label, row in zip(distinct.tolist(), distinct.index.tolist(), strict=True)}


def names_in(spelled: Spelled, task: str) -> list[str]:
    """Return the sorted classes of a task that takes its labels from the data.

    Whole numbers are sorted by value, other labels alphabetically. If every label of every file is a whole number, 1.0
    means the class 1.

    Args:
        spelled: the labels of all files.
        task: name of the task, for the error message.

    Raises:
        ValueError: the labels look like numbers to predict, two labels are the same number, or the labels of the
            parts do not fit together (`check_parts`).
    """
    if "train" not in spelled:  # a user's own task may split its files into parts itself
        spelled = {"train": {path: rows for files in spelled.values() for path, rows in files.items()}}
    occurrences = list(_occurrences(spelled))
    distinct = {label for _, label, _ in occurrences}
    decimal = next((label for _, label, _ in occurrences if not WHOLE.fullmatch(label)), "")
    all_numbers = all(NUMBER.fullmatch(label) for label in distinct)
    if len(distinct) > LABELS or (decimal and all_numbers):
        raise ValueError(
            f"task {task!r} has {len(distinct):,} different labels, such as {_short(decimal or min(distinct))}; "
            "if they are numbers to be predicted, set task.labels=[] task.metrics=[pearson]; if they are classes, "
            "list them in task.labels"
        )
    meaning = _without_zeros if all_numbers else str
    if not all_numbers:
        _check_same_numbers(distinct)
    check_parts(spelled, meaning)
    names = {meaning(label) for rows in spelled["train"].values() for label in rows}
    return sorted(names, key=lambda name: (int(name), name) if INTEGER.fullmatch(name) else (0, name))


def class_numbers(spelled: Spelled, names: Sequence[str]) -> dict[str, int]:
    """Return the class number, counted from 0, of each spelling.

    A label that is a class name means that class. Class numbers are also accepted as labels, but only if no class name
    is a number: if the classes are named 1 and 2, a 1 is the first class. If every label of every file is a whole
    number, 1.0 means 1.

    Args:
        spelled: the labels of all files.
        names: the class names in order.

    Raises:
        ValueError: a label is not a class name, or the labels of the parts do not fit together (`check_parts`).
    """
    known = {name: number for number, name in enumerate(names)}
    if not any(NUMBER.fullmatch(name) for name in names):
        known |= {str(number): number for number in range(len(names))}
    meaning = {label: label for _, label, _ in _occurrences(spelled)}
    if all(map(WHOLE.fullmatch, meaning)):
        known = {_without_zeros(name): number for name, number in known.items()} | known
        meaning = {label: label if label in known else _without_zeros(label) for label in meaning}
    for path, label, row in _occurrences(spelled):
        if meaning[label] not in known:
            numbers_too = f" (or their numbers 0 to {len(names) - 1})" if "0" in known and "0" not in names else ""
            raise ValueError(
                f"{path}: row {row} has label {_short(label)!r}; task.labels lists {', '.join(names)}{numbers_too}"
                f"{UNLABELLED if label == '-1' else ''}"
            )
    numbers = {label: known[key] for label, key in meaning.items()}
    check_parts(spelled, lambda label: names[numbers[label]])
    return numbers


def check_parts(spelled: Spelled, meaning: Callable[[str], str]) -> None:
    """Check that train has at least two labels, and every label of the other parts.

    Args:
        spelled: the labels of all files.
        meaning: maps a spelling to the name of its class.

    Raises:
        ValueError: the check fails. The message names the label, the file and the first row with that label.
    """
    train = dict.fromkeys(meaning(label) for rows in spelled["train"].values() for label in rows)
    if len(train) < 2:
        where = " and ".join(map(str, spelled["train"]))
        raise ValueError(f"{where}: every row has label {_short(next(iter(train)))!r}; a task needs two labels or more")
    for part, files in spelled.items():
        for path, rows in files.items():
            unknown = {label: row for label, row in rows.items() if meaning(label) not in train}
            if not unknown:
                continue
            label, row = next(iter(unknown.items()))
            scope = f"; none of the {part} labels does" if len(unknown) == len(rows) else ""
            hint = UNLABELLED if label == "-1" else ""
            raise ValueError(
                f"{path}: row {row} has label {_short(label)!r}, which does not occur in train{scope}{hint}; train has "
                f"{', '.join(map(_short, list(train)[:10]))}{', ...' if len(train) > 10 else ''}"
            )


def _check_same_numbers(labels: set[str]) -> None:
    """Reject two spellings of one number, such as 0 and 0.0, among labels that are not all numbers."""
    seen: dict[str, str] = {}
    for label in sorted(filter(WHOLE.fullmatch, labels)):
        if (other := seen.setdefault(_without_zeros(label), label)) != label:
            raise ValueError(f"labels {other!r} and {label!r} are the same number; spell them the same way")


def _without_zeros(label: str) -> str:
    """Return a whole number such as 1.0 as 1, and any other label unchanged."""
    match = WHOLE.fullmatch(label)
    if not match or match[2] is None:
        return label
    return "0" if int(match[1]) == 0 else match[1]


def _short(label: str) -> str:
    """Shorten a label for an error message, because a wrong column may hold whole texts."""
    return label if len(label) <= 40 else f"{label[:40]}..."


def _occurrences(spelled: Spelled) -> Iterator[tuple[Path, str, int]]:
    """Yield the file, the spelling and the first row of every label."""
    for files in spelled.values():
        for path, rows in files.items():
            for label, row in rows.items():
                yield path, label, row
