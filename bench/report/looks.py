"""How a method looks in every figure: a colour that the colour-blind can tell, with a mark that print can tell."""

import hashlib

# Okabe and Ito 2008, without yellow, which white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
# Those that most comparisons hold look different from one another, whatever else is there.
FIRST = ("lora", "adapter", "ia3", "full", "prefix", "bitfit", "head", "prompt", "dora", "qlora", "top_k", "vera")


def look_of(method: str) -> tuple[str, str]:
    """Colour and mark of a method: the same in every figure of every study."""
    if method in FIRST:
        number = FIRST.index(method)
        return COLOURS[number % len(COLOURS)], MARKS[(number + 3 * (number // len(COLOURS))) % len(MARKS)]
    number = int(hashlib.sha256(method.encode()).hexdigest(), 16)
    return COLOURS[number % len(COLOURS)], MARKS[number // len(COLOURS) % len(MARKS)]
