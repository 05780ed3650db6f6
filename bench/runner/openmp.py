"""Make OpenMP's waiting threads spin for a moment and then sleep.

By default they spin for a long time. When more processes want to run than there are cores, a waiting thread then uses
up the time slice of the thread it waits for. results/perf/busy.md has the figures.
"""

from collections.abc import MutableMapping

# GNU's OpenMP counts loop iterations; Intel's and LLVM's count milliseconds.
SPINNING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads sleep soon, unless the user has set a policy.

    OpenMP reads these variables when it is loaded, so call this before importing torch.

    Args:
        environment: The environment variables, changed in place.
    """
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in SPINNING.items():
            environment.setdefault(name, value)
