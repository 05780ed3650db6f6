"""How a method looks in every figure and in the dashboard: a colour that the colour-blind can tell, and a mark."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

# Of the hues of Okabe and Ito 2008, dark enough for white paper. Eight colours and seven marks have no common divisor:
# 56 methods differ, and neighbours differ in both. dashboard.css and dashboard.js hold the same ones, in this order.
COLOURS = ("#0072b2", "#d05000", "#008a64", "#b4568d", "#2b93cc", "#a87a00", "#3a3f45", "#7b2152")
MARKS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "hourglass")
# Those that most comparisons hold look the same in all of them; the others as far as no two are alike.
FIRST = ("lora", "adapter", "ia3", "full", "prefix", "bitfit", "head", "prompt", "dora", "qlora", "top_k", "vera")
MANY = len(COLOURS) * len(MARKS)


def places(methods: Iterable[str]) -> dict[str, int]:
    """A number for each of some methods, 0 to 55; its colour is COLOURS[number % 8], its mark MARKS[number % 7]."""
    return dict(_places(frozenset(methods)))


@lru_cache(maxsize=64)
def _places(methods: frozenset[str]) -> dict[str, int]:
    found = {name: place for place, name in enumerate(FIRST) if name in methods}
    for name in sorted(methods - set(FIRST)):
        wanted = int(hashlib.sha256(name.encode()).hexdigest(), 16) % (MANY - len(FIRST))
        order = [len(FIRST) + (wanted + step) % (MANY - len(FIRST)) for step in range(MANY - len(FIRST))]
        found[name] = next((place for place in order if place not in found.values()), order[0])
    return found


def look_of(method: str, methods: Iterable[str]) -> tuple[str, str]:
    """Colour and mark of a method among those that a study has."""
    place = places(methods)[method]
    return COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
