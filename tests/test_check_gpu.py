"""The script that checks a card runs on a CPU, so that its first minute on one is not lost to a slip."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_a_part_that_fails_is_told(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    words = ("--device", "cpu", "--short", "--out", str(out), "--tokenizer", str(tmp_path / "none"))
    code, said = check(*words, "--parts", "packed")
    assert code == 1
    assert "1 parts broke off" in said
    assert "none" in json.loads(out.read_text())["parts"]["packed"]["error"]


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there may be a card")  # noqa: PTH110
def test_without_a_card_it_says_so() -> None:
    code, said = check()
    assert code == 0
    assert "no CUDA device" in said
