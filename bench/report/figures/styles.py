"""How a method looks in figures and in the dashboard: a colour that is safe for colour-blind readers, and a mark."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

# Hues of Okabe and Ito (2008), dark enough for a white background. The numbers of colours (8) and marks (7) have no
# common divisor, so 56 methods differ, and neighbours differ in both. dashboard.css and dashboard.js hold the same
# colours and marks in the same order.
COLOURS = ("#0072b2", "#d05000", "#008a64", "#b4568d", "#2b93cc", "#a87a00", "#3a3f45", "#7b2152")
MARKS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "hourglass")
# The most frequent methods look the same in every study. The others do too, unless two of them would look alike.
FIRST = ("lora", "adapter", "ia3", "full", "prefix", "bitfit", "head", "prompt", "dora", "qlora", "top_k", "vera")
MANY = len(COLOURS) * len(MARKS)


def places(methods: Iterable[str]) -> dict[str, int]:
    """Assign each method a number that decides its look.

    Args:
        methods: The methods of a study.

    Returns:
        A number from 0 to 55 for each method. Its colour is COLOURS[number % 8] and its mark is MARKS[number % 7].
    """
    return dict(_places(frozenset(methods)))


@lru_cache(maxsize=64)
def _places(methods: frozenset[str]) -> dict[str, int]:
    taken = {name: place for place, name in enumerate(FIRST) if name in methods}
    for name in sorted(methods - set(FIRST)):
        preferred = int(hashlib.sha256(name.encode()).hexdigest(), 16) % (MANY - len(FIRST))
        order = [len(FIRST) + (preferred + step) % (MANY - len(FIRST)) for step in range(MANY - len(FIRST))]
        taken[name] = next((place for place in order if place not in taken.values()), order[0])
    return taken


def look_of(method: str, methods: Iterable[str]) -> tuple[str, str]:
    """Return the colour and the mark of a method.

    Args:
        method: One of `methods`.
        methods: All methods of the study.

    Returns:
        One of COLOURS and one of MARKS.
    """
    place = places(methods)[method]
    return COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
