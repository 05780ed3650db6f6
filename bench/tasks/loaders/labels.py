"""Class labels as files spell them: which class each spelling means, and what cannot be a label."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

LABELS = 1000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
WHOLE = re.compile(r"([+-]?\d+)(\.0*)?")
INTEGER = re.compile(r"-?\d+")

# Of each part and file, the labels as they are spelled there, each with its first row, from 1.
Spelled = Mapping[str, Mapping[Path, Mapping[str, int]]]


def spellings(column: pd.Series, where: Path, name: str) -> pd.Series:
    """The labels of a file as text, without the spaces around them.

    ValueError: a row has none. name: the column's own name.
    """
    labels = column.astype(str).str.strip()
    if (absent := column.isna() | (labels == "")).any():
        row = int(absent.to_numpy().argmax()) + 1
        raise ValueError(f"{where}: row {row} has no label in column {name!r}; give it one, or remove the row")
    return labels


def first_rows(labels: pd.Series) -> dict[str, int]:
    """Each spelling with the first row that has it."""
    once = labels.reset_index(drop=True).drop_duplicates()
    return {label: row + 1 for label, row in zip(once.tolist(), once.index.tolist(), strict=True)}


def names_in(spelled: Spelled, task: str) -> list[str]:
    """The classes of a task that leaves its labels to the data, in order: of whole numbers, else of letters.

    Where every label of every file is a whole number, 1.0 is the class 1.

    ValueError: the labels look like numbers to be predicted, or train and the other parts do not fit together.
    """
    if "train" not in spelled:  # a task of the user's own that cuts its parts by itself
        spelled = {"train": {path: rows for files in spelled.values() for path, rows in files.items()}}
    every = list(_every(spelled))
    distinct = {label for _, label, _ in every}
    decimal = next((label for _, label, _ in every if not WHOLE.fullmatch(label)), "")
    all_numbers = all(NUMBER.fullmatch(label) for label in distinct)
    if len(distinct) > LABELS or (decimal and all_numbers):
        raise ValueError(
            f"task {task!r} has {len(distinct):,} different labels, such as {_short(decimal or min(distinct))}; "
            "if they are numbers to be predicted, set task.labels=[] task.metrics=[pearson]; if they are classes, "
            "list them in task.labels"
        )
    meaning = _without_zeros if all_numbers else str
    if not all_numbers:
        _refuse_twins(distinct)
    check_parts(spelled, meaning)
    names = {meaning(label) for rows in spelled["train"].values() for label in rows}
    return sorted(names, key=lambda name: (int(name), name) if INTEGER.fullmatch(name) else (0, name))


def class_numbers(spelled: Spelled, names: Sequence[str]) -> dict[str, int]:
    """The class number, from 0, that each spelling means.

    A name always wins. The numbers themselves are understood too, but only where no name is a number: of labels that
    count from 1, a 1 is the first one. Where every label of every file is a whole number, 1.0 is 1.

    ValueError: a label that is none of the names, or train and the other parts do not fit together.
    """
    known = {name: number for number, name in enumerate(names)}
    if not any(NUMBER.fullmatch(name) for name in names):
        known |= {str(number): number for number in range(len(names))}
    meaning = {label: label for _, label, _ in _every(spelled)}
    if all(map(WHOLE.fullmatch, meaning)):
        known = {_without_zeros(name): number for name, number in known.items()} | known
        meaning = {label: label if label in known else _without_zeros(label) for label in meaning}
    for path, label, row in _every(spelled):
        if meaning[label] not in known:
            allowed = [name for number, one in enumerate(names) for name in (one, str(number)) if name in known]
            raise ValueError(
                f"{path}: row {row} has label {_short(label)!r}; allowed are {', '.join(dict.fromkeys(allowed))} "
                "(-1 marks GLUE's unlabelled test file)"
            )
    numbers = {label: known[meant] for label, meant in meaning.items()}
    check_parts(spelled, lambda label: names[numbers[label]])
    return numbers


def check_parts(spelled: Spelled, meaning: Callable[[str], str]) -> None:
    """See that train has two labels or more, and every label of the other parts.

    meaning: from a spelling to the name of its class. ValueError: it is not so; the label, the file and its first row.
    """
    train = dict.fromkeys(meaning(label) for rows in spelled["train"].values() for label in rows)
    if len(train) < 2:
        where = " and ".join(map(str, spelled["train"]))
        raise ValueError(f"{where}: every row has label {_short(next(iter(train)))!r}; a task needs two labels or more")
    for part, files in spelled.items():
        for path, rows in files.items():
            strange = {label: row for label, row in rows.items() if meaning(label) not in train}
            if not strange:
                continue
            label, row = next(iter(strange.items()))
            whole = f"; none of the {part} labels does" if len(strange) == len(rows) else ""
            hint = " (-1 marks GLUE's unlabelled test file)" if label == "-1" else ""
            raise ValueError(
                f"{path}: row {row} has label {_short(label)!r}, which does not occur in train{whole}{hint}; train has "
                f"{', '.join(map(_short, list(train)[:10]))}{', ...' if len(train) > 10 else ''}"
            )


def _refuse_twins(labels: set[str]) -> None:
    """ValueError: two labels are one number, as 0 and 0.0, but not all labels are whole numbers."""
    seen: dict[str, str] = {}
    for label in sorted(filter(WHOLE.fullmatch, labels)):
        if (other := seen.setdefault(_without_zeros(label), label)) != label:
            raise ValueError(f"labels {other!r} and {label!r} are the same number; write them in one way")


def _without_zeros(label: str) -> str:
    """1.0 as 1, where a label is a whole number; anything else as it is."""
    found = WHOLE.fullmatch(label)
    if not found or found[2] is None:
        return label
    return "0" if int(found[1]) == 0 else found[1]


def _short(label: str) -> str:
    """A label for one line of a message: a wrong column may hold whole texts."""
    return label if len(label) <= 40 else f"{label[:40]}..."


def _every(spelled: Spelled) -> Iterator[tuple[Path, str, int]]:
    """Every file's labels: file, spelling, first row."""
    for files in spelled.values():
        for path, rows in files.items():
            for label, row in rows.items():
                yield path, label, row
