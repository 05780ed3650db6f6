"""A saved trial predicts as its record says, also without this package; merging is measured on demand."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import OFFLINE
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForMaskedLM

from bench.methods.checkpoints import load_adapter

Run = Callable[..., subprocess.CompletedProcess[str]]

LEARNS = ["precision=fp32", "seeds=[0]", "lrs=[1e-2]", "protocol.epochs=3"]

ELSEWHERE = """
import json, sys
sys.modules["bench"] = None
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, adapter, merged, *texts = sys.argv[1:]
rows = AutoTokenizer.from_pretrained(base)(texts, return_tensors="pt", padding=True, truncation=True, max_length=32)
merged_model = AutoModelForSequenceClassification.from_pretrained(merged)

def fresh(seed):
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(base)

models = {
    "merged": merged_model,
    "adapter": PeftModel.from_pretrained(fresh(1), adapter),
    "adapter on another seed": PeftModel.from_pretrained(fresh(2), adapter),
    "bare": fresh(1),
}
with torch.inference_mode():
    predictions = {name: model.eval()(**rows).logits.argmax(-1).tolist() for name, model in models.items()}
print(json.dumps(predictions | {"labels": merged_model.config.id2label, "kind": type(merged_model).__name__}))
"""


@pytest.fixture
def vivid(tiny_bert: Path, tmp_path: Path) -> Path:
    """Save the tiny BERT with weights so large that its untrained features separate texts. It lacks a pooler."""
    folder = tmp_path / "vivid"
    shutil.copytree(tiny_bert, folder)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig.from_pretrained(tiny_bert, initializer_range=0.3)).save_pretrained(folder)
    return folder


def record(folder: Path, name: str = "lr*.json") -> dict[str, Any]:
    (path,) = (folder / "results").rglob(name)
    return json.loads(path.read_text())


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("lr*.json")}


def report_texts(tiny_sst2: Path) -> list[str]:
    lines = (tiny_sst2 / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[0].strip() for line in lines]


def trained(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line in which the command says what it will do."""
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if " recorded, " in line)


def kept(folder: Path, what: str) -> Path:
    """Return the folder that the record names, which must hold safetensors and no pickles."""
    saved = record(folder)["saved"]
    assert Path(saved).name == what
    assert not {path.suffix for path in Path(saved).rglob("*")} & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
    assert list(Path(saved).glob("*.safetensors"))
    return Path(saved)


def test_merging_measures_the_bare_the_adapted_and_the_merged_model(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    trained(inline(*tiny, *LEARNS, "method=lora", "merge=true", "protocol.eval_batch=16"))
    cost = record(tmp_path, "probe.json")["cost"]
    assert set(cost["latency"]) == {"bare", "adapted", "merged"}
    for seconds in cost["latency"].values():
        assert set(seconds) == {"1", "16"}
        assert all(0 < taken["median"] <= taken["p95"] for taken in seconds.values())
    assert 0 < cost["merge_difference"] < 1e-5


def test_a_method_that_cannot_be_merged_has_no_merged_latency(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    trained(inline(*tiny, *LEARNS, "method=adapter", "merge=true"))
    cost = record(tmp_path, "probe.json")["cost"]
    assert cost["latency"]["merged"] == {"1": None, "128": None}
    assert cost["latency"]["adapted"]["128"]["median"] > 0
    assert cost["merge_difference"] is None


def test_merging_can_be_measured_later_without_training_again(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    arguments = [*tiny, *LEARNS, "method=lora"]
    trained(inline(*arguments))
    assert "latency" not in record(tmp_path, "probe.json")["cost"]
    before = stamps(tmp_path)
    assert trained(inline(*arguments, "merge=true")).endswith("1 recorded, 0 to train, 1 cost to measure")
    assert "latency" in record(tmp_path, "probe.json")["cost"]
    assert trained(inline(*arguments)).endswith("1 recorded, 0 to train")
    assert "latency" in record(tmp_path, "probe.json")["cost"]
    assert stamps(tmp_path) == before


def test_a_saved_lora_predicts_the_same_without_this_package(
    inline: Run, tiny: list[str], vivid: Path, tiny_sst2: Path, tmp_path: Path
) -> None:
    folders, predictions = {}, {}
    for what in ("adapter", "merged"):
        assert "1 to train" in trained(inline(*tiny, f"model.name={vivid}", *LEARNS, "method=lora", f"save={what}"))
        folders[what], predictions[what] = kept(tmp_path, what), record(tmp_path)["predictions"]["report"]
    assert predictions["adapter"] == predictions["merged"]
    assert len(predictions["merged"]) == 40
    assert set(predictions["merged"]) == {0, 1}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, vivid, *folders.values(), *report_texts(tiny_sst2)],
        cwd=tmp_path, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout.splitlines()[-1])
    assert outputs["merged"] == predictions["merged"]
    assert outputs["adapter"] == outputs["adapter on another seed"] == predictions["adapter"]
    assert outputs["bare"] != predictions["merged"]
    assert outputs["labels"] == {"0": "negative", "1": "positive"}
    assert outputs["kind"] == "BertForSequenceClassification"


@pytest.mark.parametrize("method", ["adapter", "bitfit"])
def test_a_saved_adapter_of_ours_predicts_as_recorded(
    method: str, inline: Run, tiny: list[str], vivid: Path, tiny_sst2: Path, tmp_path: Path
) -> None:
    trained(inline(*tiny, f"model.name={vivid}", *LEARNS, f"method={method}", "save=adapter"))
    torch.manual_seed(7)
    base = AutoModelForSequenceClassification.from_pretrained(vivid, num_labels=2, dtype=torch.float32)
    model = load_adapter(base, kept(tmp_path, "adapter")).eval()
    rows = AutoTokenizer.from_pretrained(vivid)(report_texts(tiny_sst2), return_tensors="pt", padding=True)
    with torch.inference_mode():
        predictions = model(**rows).logits.argmax(-1).tolist()
    assert predictions == record(tmp_path)["predictions"]["report"]
    assert set(predictions) == {0, 1}


def test_saving_merged_is_refused_where_merging_is_impossible(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline(*tiny, "method=adapter", "save=merged")
    assert done.returncode == 2
    assert "save=merged: method 'adapter' cannot be merged" in done.stderr
    assert "use save=adapter" in done.stderr
    done = inline(*tiny, "method=lora", "quant=nf4", "save=merged")
    assert done.returncode == 2
    assert "use save=adapter or quant=none" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_trial_that_was_not_saved_is_trained_again_to_save_it(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    arguments = [*tiny, *LEARNS, "method=lora"]
    trained(inline(*arguments))
    first = record(tmp_path)
    assert first["saved"] is None
    assert "0 recorded, 1 to train" in trained(inline(*arguments, "save=adapter"))
    assert record(tmp_path)["predictions"] == first["predictions"]
    folder = kept(tmp_path, "adapter")
    assert "1 recorded, 0 to train" in trained(inline(*arguments, "save=adapter"))
    assert "1 recorded, 0 to train" in trained(inline(*arguments))
    folder.rename(tmp_path / "elsewhere")  # a record does not replace missing files
    assert "0 recorded, 1 to train" in trained(inline(*arguments, "save=adapter"))
    assert folder.is_dir()
