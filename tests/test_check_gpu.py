"""The script that checks a GPU also runs on a CPU, so that no time on a GPU is lost to a slip in it."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from runpy import run_path

import pytest
from conftest import REPOSITORY

from bench.tasks.base import Split

BROKEN_CONTEST = """
from pathlib import Path
import speed, speeds
from asked import Asked
from page import Page
setting = speed.Setting("minilm", "fp32", 4, 8, 8, "cpu", Path())
speed.on_card = lambda *_, **__: [speed.Contest("one", setting, {"ours": lambda _: 1 / 0}, {})]
speeds.speed(Asked("cpu", True, ""), Page(Path(sys.argv[1])))
"""
CHECK = REPOSITORY / "tools" / "check_gpu.py"


def check(*words: str, path: str = "") -> tuple[int, str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, the script compiles transformers again
    done = subprocess.run(
        [sys.executable, str(CHECK), *words], capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def test_a_short_part_runs_on_a_cpu_and_a_part_without_its_model_is_skipped(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code, output = check("--device", "cpu", "--short", "--out", str(out), "--parts", "packed", "race")
    assert code == 0, output
    parts = json.loads(out.read_text())["parts"]
    assert len(parts["packed"]["claims"]) == 1
    assert parts["packed"]["table"]["lora"]["losses"] < 1e-5
    assert "--model" in parts["race"]["skipped"]


def test_a_contest_gets_the_requested_number_of_texts() -> None:
    phrases = run_path(str(REPOSITORY / "benchmarks" / "sst2_lengths.py"))["phrases"]
    reviews = Split(["a warm and clever film", "dull from end to end"], [1, 0])
    for rows in (1, 2, 3840):
        split = phrases(reviews, rows)
        assert len(split.texts) == len(split.labels) == rows
        assert all(split.texts)


def test_a_contest_that_raises_is_a_claim_that_does_not_hold(tmp_path: Path) -> None:
    """A contestant's error is kept so that the others continue. It must not be hidden."""
    folders = [str(REPOSITORY / name) for name in ("tools/gpu", "benchmarks")]
    code = f"import sys; sys.path[:0] = {folders}{BROKEN_CONTEST}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, env=environment)
    (claim,) = json.loads((tmp_path / "page.json").read_text())["claims"]
    assert "ZeroDivisionError" in claim["what"]
    assert not claim["holds"]


def test_a_part_over_its_time_limit_is_stopped_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    script = run_path(str(CHECK))
    options = Namespace(device="cpu", short=True, tokenizer="none", model="")
    monkeypatch.setitem(script["PARTS"], "packed", (0.1, None))
    part = script["run"]("packed", options, dict(os.environ))
    assert part["error"] == "stopped after 0.1 s"
    assert part["claims"] == []


def test_a_part_that_fails_is_reported_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    script = run_path(str(CHECK))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    part = script["run"]("product", Namespace(device="cpu", short=True, tokenizer="none", model=""), {})
    assert part["error"] == "it ended with exit code 1"


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there may be a card")  # noqa: PTH110
def test_a_missing_card_is_reported() -> None:
    code, output = check()
    assert code == 0
    assert "no CUDA device" in output
