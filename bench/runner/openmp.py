"""How OpenMP's threads wait for each other: they spin for a moment and then sleep.

By default they spin for so long that a thread that waits uses up the time slice of the one it waits for, once more
processes want to run than there are cores: results/perf/busy.md has the figures.
"""

from collections.abc import MutableMapping

# GNU's OpenMP counts turns of a loop, Intel's and LLVM's count milliseconds.
SPINNING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads sleep soon, unless the user has said how they wait. OpenMP reads this when it is loaded."""
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in SPINNING.items():
            environment.setdefault(name, value)
