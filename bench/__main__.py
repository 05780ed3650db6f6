"""The console command peftgrid: one word for each entry point.

peftgrid run SETTING=VALUE ...        train a cell, or with -m all combinations of the listed values
peftgrid report [COMMAND] ...         tables, figures, comparisons, a recommendation, the dashboard
peftgrid predict record=ID ...        let a trained model answer
peftgrid sweeps                       write the grids of sweeps/ for `wandb agent`

Without a word, `run` is meant: peftgrid method=lora rank=8. Each word has its own --help.
The same entry points without installing: python -m bench.run, bench.report, bench.predict, bench.agent.
"""

import sys
from importlib import import_module

MODULES = {
    "run": "bench.run",
    "report": "bench.report.__main__",
    "predict": "bench.predict",
    "sweeps": "bench.agent",
}


def cli() -> int:
    """Run the entry point that the first word names.

    Returns:
        Its exit code. 2 if the word is unknown.
    """
    words = sys.argv[1:]
    if not words or words[0] in {"help", "--help", "-h"}:
        print((__doc__ or "").strip())  # noqa: T201
        return 0
    word = words[0] if words[0] in MODULES else "run"
    if word != words[0] and words[0].isidentifier():
        known = ", ".join(MODULES)
        print(f"error: unknown command {words[0]!r}; valid commands: {known}", file=sys.stderr)  # noqa: T201
        return 2
    if word == words[0]:
        del sys.argv[1]
    code: int = import_module(MODULES[word]).cli()
    return code


if __name__ == "__main__":
    sys.exit(cli())
