"""The server that workers are forked from: quick without a GPU, and never an obstacle to the use of a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bench.config import accelerator
from bench.runner.openmp import spin_briefly

SERVER = """
import json, os
import one_gpu
import torch

import bench.runner.preload

def state():
    return {"touched": one_gpu.touched[:], "initialized": torch.cuda._initialized, "bad": torch.cuda._is_in_bad_fork()}

facts = {"server": state(), "modules": bench.runner.preload.preloaded()}
listen, tell = os.pipe()
if not os.fork():
    facts["worker"] = state()
    try:
        import bench.runner.worker, peft, bitsandbytes
        from peft.import_utils import is_bnb_4bit_available
        from transformers.utils import is_bitsandbytes_available
        torch.cuda.init()
        available = hasattr(bitsandbytes.nn, "Linear4bit"), is_bnb_4bit_available(), is_bitsandbytes_available()
        facts["bitsandbytes"], facts["later"] = available, state()
    except Exception as error:
        facts["later"] = {"error": str(error)}
    os.write(tell, json.dumps(facts).encode())
    os._exit(0)
os.close(tell)
print(os.fdopen(listen).read(), flush=True)
os._exit(0)
"""


def test_no_preloaded_module_touches_the_gpu_and_a_forked_worker_can_use_it() -> None:
    path = os.pathsep.join([str(REPOSITORY / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "0"},
    )
    assert done.stdout.strip(), done.stderr
    facts = json.loads(done.stdout)
    untouched = {"touched": [], "initialized": False, "bad": False}
    assert not facts["server"]["touched"], "\n".join(facts["server"]["touched"])  # the imports that touched it
    assert facts["server"] == untouched
    assert facts["worker"] == untouched
    assert "transformers.models.bert.modeling_bert" in facts["modules"]
    assert facts["later"].get("initialized"), facts["later"]
    assert facts["bitsandbytes"] == [True, True, True]
    assert facts["later"]["touched"]  # shows that a touch is detected
    assert not facts["later"]["bad"]


@pytest.mark.parametrize(
    ("hidden", "device_files", "visible"),
    [
        (None, ["nvidia0"], True),
        (None, ["kfd"], True),
        (None, ["dxg"], True),
        (None, [], False),
        ("", ["nvidia0"], False),
        ("-1", ["nvidia0"], False),
        ("1", ["nvidia0", "nvidia1"], True),
        ("GPU-8e02", ["nvidia0"], True),
        ("-1", ["kfd"], True),  # a false alarm costs some imports; an overlooked GPU costs every run
    ],
)
def test_a_gpu_is_seen_by_its_device_files_unless_it_is_hidden(
    hidden: str | None,
    device_files: list[str],
    visible: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accelerator, "NVIDIA", (str(tmp_path / "nvidia*"), str(tmp_path / "dxg")))
    monkeypatch.setattr(accelerator, "ROCM", (str(tmp_path / "kfd"),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    for name in device_files:
        (tmp_path / name).touch()
    assert accelerator.gpu_visible() is visible


WATCHED = """
import os, sys
taken = []

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            taken.append(os.environ.get("GOMP_SPINCOUNT"))

sys.meta_path.insert(0, Watch)
import bench.runner.preload
print("peft" in sys.modules, "bench.runner.worker" in sys.modules, taken[0])
"""


def test_without_a_gpu_everything_is_preloaded_and_threads_spin_briefly() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**environment, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.stdout.split() == ["True", "True", "1000"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "1"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_the_users_settings_of_waiting_threads_are_kept(given: dict[str, str], kept: dict[str, str]) -> None:
    environment = dict(given)
    spin_briefly(environment)
    assert environment == kept
