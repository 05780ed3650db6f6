"""Compares the letters' answers with those of the installed lm-evaluation-harness, on equal models and questions.

    pip install -c constraints.txt -e '.[dev,perf]'
    python benchmarks/harness.py [--data PATH/dev.json] [--rows 500]

Both read the same prompts: the harness uses its own task `medmcqa` with its own words on a local file, and we use
`prompt=lm_eval`. Without --data the questions are those of the quiz. The model is `tiny-llama`. Writes
results/perf/lm-eval.json.
"""

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from bench.config.compose import cells
from bench.files.hashing import package_folder
from bench.models.load import load_tokenizer
from bench.models.vmap.attention import NAME
from bench.records.provenance import provenance
from bench.runner.build import build, load_data
from bench.train.device import Compute, describe_device
from bench.train.evaluate import predict

RESULT = Path(__file__).resolve().parents[1] / "results" / "perf" / "lm-eval.json"
CPU = torch.device("cpu")
FP32 = Compute(CPU, torch.float32)
BATCH = 32
FIELDS = ("question", "opa", "opb", "opc", "opd", "cop")


def questions(data: Path | None, rows: int) -> list[dict[str, Any]]:
    """Return the first questions of a MedMCQA file, or of the quiz. `cop` counts from 0, as on the hub."""
    path = data or package_folder("package:bench/tasks/data") / "quiz.jsonl"
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    first = 0 if any(row["cop"] == 0 for row in entries) else 1
    return [{name: row[name] for name in FIELDS} | {"cop": row["cop"] - first} for row in entries[:rows]]


def theirs(model: Any, tokenizer: Any, items: list[dict[str, Any]], folder: Path) -> tuple[list[int], float, float]:
    """Return the harness's answers, its accuracy and its seconds."""
    shipped = Path(lm_eval.__file__).parent / "tasks" / "medmcqa"
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    task = {
        "task": "medmcqa_local",
        "include": str(shipped / "medmcqa.yaml"),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / "asked.jsonl")}},
        "training_split": None,
        "test_split": None,
    }
    (folder / "medmcqa_local.yaml").write_text(yaml.safe_dump(task))
    # The prefix precedes an empty context, and no context is empty. The tokenizer has no BOS, so no special tokens.
    how = {"add_bos_token": False, "prefix_token_id": tokenizer.cls_token_id}
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, device="cpu", **how)
    began = time.perf_counter()
    evaluation: Any = lm_eval.simple_evaluate(
        wrapped,
        tasks=["medmcqa_local"],
        task_manager=TaskManager(include_path=str(folder)),
        bootstrap_iters=0,
    )
    seconds = time.perf_counter() - began
    samples = sorted(evaluation["samples"]["medmcqa_local"], key=lambda sample: sample["doc_id"])
    scores = [[response[0] for response in sample["filtered_resps"]] for sample in samples]
    answers = [max(range(4), key=lambda letter: row[letter]) for row in scores]
    return answers, evaluation["results"]["medmcqa_local"]["acc,none"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a JSON-lines file in MedMCQA's fields")
    parser.add_argument("--rows", type=int, default=500)
    args = parser.parse_args()
    items = questions(args.data, args.rows)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ours_folder = folder / "ours"
        ours_folder.mkdir()
        # All questions are report. Train and select need some rows, but nothing is trained on them.
        (ours_folder / "dev.json").write_text("".join(json.dumps(row) + "\n" for row in items))
        (ours_folder / "train.json").write_text("".join(json.dumps(row) + "\n" for row in items[:40]))
        words = [
            "model=tiny-llama",
            "task=medmcqa",
            f"task.path={ours_folder}",
            "task.select_rows=10",
            "method=zero_shot",
        ]
        (cell,) = cells([*words, "precision=fp32", "protocol.max_length=1024", f"cache_dir={folder}"], multirun=False)
        model = build(cell, seed=0, compute=FP32).eval()
        rows = load_data(cell).report
        began = time.perf_counter()
        answers = predict(model, rows, BATCH, FP32).tolist()
        seconds = time.perf_counter() - began
        model.set_attn_implementation("sdpa")  # the harness builds masks of its own
        their_answers, accuracy, their_seconds = theirs(model, load_tokenizer(cell.source), items, folder)
        model.set_attn_implementation(NAME)
    right = sum(answer == row["cop"] for answer, row in zip(answers, items, strict=True)) / len(items)
    result = {
        "about": "benchmarks/harness.py: the letters' answers and lm-evaluation-harness's, same model and questions",
        "questions": len(items),
        "data": "MedMCQA's" if args.data else "the quiz's",
        "letters": [answers.count(letter) for letter in range(4)],
        "ours": {"accuracy": right, "seconds": seconds},
        "lm_eval": {"accuracy": accuracy, "seconds": their_seconds, "version": version("lm_eval")},
        "same_answers": sum(a == b for a, b in zip(answers, their_answers, strict=True)),
        "device": describe_device(Compute(CPU, torch.float32)),
        "provenance": provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps({key: result[key] for key in ("questions", "letters", "ours", "lm_eval", "same_answers")}, indent=1)
    )


if __name__ == "__main__":
    main()
