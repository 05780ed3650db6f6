"""The script that checks a card runs on a CPU, so that its first minute on one is not lost to a slip."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from runpy import run_path

import pytest
from conftest import REPOSITORY

CHECK = REPOSITORY / "tools" / "check_gpu.py"


def check(*words: str, path: str = "") -> tuple[int, str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(CHECK), *words], capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def test_a_part_runs_small_on_a_cpu_and_one_without_what_it_needs_is_skipped(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code, said = check("--device", "cpu", "--short", "--out", str(out), "--parts", "packed", "race")
    assert code == 0, said
    found = json.loads(out.read_text())["parts"]
    assert len(found["packed"]["claims"]) == 1
    assert found["packed"]["table"]["lora"]["losses"] < 1e-5
    assert "--model" in found["race"]["skipped"]


def test_a_part_that_takes_too_long_is_told_and_keeps_what_it_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    script = run_path(str(CHECK))
    asked = Namespace(device="cpu", short=True, tokenizer="none", model="")
    monkeypatch.setitem(script["PARTS"], "packed", (0.1, None))
    part = script["run"]("packed", asked, dict(os.environ))
    assert part["error"] == "stopped after 0.1 s"
    assert part["claims"] == []


def test_a_part_that_fails_is_told_with_the_end_of_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    script = run_path(str(CHECK))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    part = script["run"]("product", Namespace(device="cpu", short=True, tokenizer="none", model=""), {})
    assert part["error"] == "it ended with exit code 1"


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there may be a card")  # noqa: PTH110
def test_without_a_card_it_says_so() -> None:
    code, said = check()
    assert code == 0
    assert "no CUDA device" in said
