"""Multiple-choice questions from files to records, through the command line, in every form."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from peft import PeftModel
from small_trials import FP32
from transformers import AutoModelForCausalLM

from bench.config.compose import cells
from bench.records import record as records
from bench.records.record import Record
from bench.runner.build import load_backbone, load_data
from bench.train.evaluate import predict

CPU = torch.device("cpu")
Run = Callable[..., subprocess.CompletedProcess[str]]
REAL = REPOSITORY.parent / "shared" / "data" / "medmcqa"
SMALL = (
    "model=tiny-llama",
    "model.architecture.hidden_size=64",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.num_attention_heads=2",
    "model.architecture.num_key_value_heads=2",
    "model.architecture.head_dim=32",
    "model.architecture.intermediate_size=128",
    "model.architecture.initializer_range=0.125",
    "track=off",
    "precision=fp32",
    "seeds=[0]",
)


@pytest.fixture
def run(inline: Run, questions: Path, tmp_path: Path) -> Callable[..., list[Record]]:
    """Train cells of the small model, and return the records of their trials."""

    def call(*words: str, path: Path = questions, task: str = "medmcqa") -> list[Record]:
        where = [f"task.path={path}", f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
        done = inline(f"task={task}", *where, *SMALL, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        stored = records.read_all(tmp_path / "results", pytest.fail)
        return [record for record in stored if record.kind == "trial"]

    return call


WRONG = {
    "a null option": ({"question": "q", "options": ["a", None], "answer": 0}, "row 2: option B is null"),
    "true for yes": (
        {"question": "q", "options": ["yes", "no"], "answer": True},
        "row 2 has answer true; allowed: 0 to 1",
    ),
    "an empty option": ({"question": "q", "options": ["a", ""], "answer": "a"}, "row 2: option B is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_question_is_refused_before_anything_is_written(name: str, inline: Run, tmp_path: Path) -> None:
    row, message = WRONG[name]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"question": "q", "options": ["a", "b"], "answer": 0}, row])))
    where = [f"task.path={path}", f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
    done = inline("task=mcq_jsonl", *where, *SMALL, "method=lora")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{path}: {message}" in done.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["letters", "options", "generate", "classify", "multiple_choice"])
def test_every_form_runs_from_files_to_records(form: str, run: Callable[..., list[Record]]) -> None:
    words = ("task.select_rows=12", "task.batch=8", "protocol.probe_steps=2", f"task.form={form}", "rank=4")
    (record,) = run(*words, "method=lora", "seeds=[0]")
    assert record.outcome == "ok"
    assert record.scores is not None
    assert record.predictions is not None
    assert record.cell["random"] is True
    assert len(record.predictions["report"]) == 24
    assert set(record.predictions["report"]) <= {-1, 0, 1, 2, 3}
    assert set(record.scores["by"]) == {"subject_name", "choice_type"}
    by = record.scores["by"]["subject_name"]
    assert sum(group["rows"] for group in by.values()) == 24
    mean = sum(group["rows"] * group["accuracy"] for group in by.values()) / 24
    assert mean == pytest.approx(record.scores["report"])
    assert record.scores["chance"] == record.scores["majority"] == 0.25
    assert ("unparsed" in record.scores) is (form == "generate")
    assert record.identity["task"]["form"] == form


@pytest.mark.parametrize(("form", "method"), [
    ("letters", "lora"), ("options", "lora"), ("generate", "lora"), ("classify", "lora"), ("multiple_choice", "lora"),
    ("letters", "full"), ("classify", "full"),
])  # fmt: skip
def test_every_form_learns_the_training_questions_by_heart(
    form: str, method: str, run: Callable[..., list[Record]], questions: Path, tmp_path: Path
) -> None:
    """The same 32 questions are train, select and report: after enough epochs all answers are right."""
    rows = [json.loads(line) for line in (questions / "train.json").read_text().splitlines()][:32]
    folder = tmp_path / "again"
    folder.mkdir()
    lines = [json.dumps({**row, "part": part}) for part in ("train", "select", "report") for row in rows]
    (folder / "quiz.jsonl").write_text("\n".join(lines))
    rate = {"full": "2e-3", "lora": "3e-3"}[method]
    epochs = 40 if form == "generate" else 25
    words = [
        f"method={method}",
        f"task.form={form}",
        f"lrs=[{rate}]",
        "rank=16",
        "target=all",
        "task.batch=4",
        f"task.epochs={epochs}",
        f"protocol.eval_steps={8 * epochs}",  # evaluate only at the end
        "protocol.probe_steps=1",
    ]
    (record,) = run(*words, path=folder, task="quiz")
    assert record.scores is not None
    assert record.scores["report"] == 1.0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real MedMCQA file is not next to this clone")
def test_a_random_model_stays_near_chance_on_the_real_file(run: Callable[..., list[Record]]) -> None:
    words = (
        "protocol.train_rows=64",
        "task.select_rows=64",
        "lrs=[1e-5]",
        "method=lora",
        "protocol.probe_steps=1",
        "rank=4",
    )
    (record,) = run(*words, path=REAL)
    assert record.scores is not None
    assert 0.18 < record.scores["report"] < 0.35
    assert any("carved out of the validation set" in note for note in record.provenance["notes"])
    assert 0.30 < record.scores["majority"] < 0.34


def test_packed_trials_of_a_language_model_equal_single_trials(
    run: Callable[..., list[Record]], tmp_path: Path
) -> None:
    words = (
        "task.select_rows=12",
        "task.batch=8",
        "protocol.probe_steps=1",
        "lrs=[1e-3,1e-2]",
        "seeds=[0,1]",
        "rank=4",
        "method=lora",
    )
    for form in ("letters", "options", "multiple_choice"):
        together = run(*words, f"task.form={form}", "pack=4")
        alone = run(*words, f"task.form={form}", "pack=1", "force=true")
        singles: dict[str, Any] = {str(record.trial): record for record in alone}
        pairs = [(record, singles[str(record.trial)]) for record in together if record.identity["task"]["form"] == form]
        assert len(pairs) == 4
        for packed, single in pairs:
            assert packed.cost is not None
            assert packed.cost["pack"] == 4, packed.cost["pack_why"]
            assert packed.curve is not None
            assert single.curve is not None
            assert packed.curve["loss"] == pytest.approx(single.curve["loss"], rel=1e-6, abs=1e-6)
            assert packed.predictions == single.predictions


@pytest.mark.parametrize("what", ["adapter", "merged"])
def test_a_saved_model_gives_the_recorded_answers(
    what: str, run: Callable[..., list[Record]], questions: Path, tmp_path: Path
) -> None:
    words = ["method=lora", "rank=4", "lrs=[1e-2]", "task.select_rows=12", "task.batch=8", "protocol.probe_steps=1"]
    keep = [f"save={what}", f"save_dir={tmp_path / 'saved'}", "precision=fp32"]
    (record,) = run(*words, *keep)
    assert record.saved is not None
    assert record.predictions is not None
    given = [f"task.path={questions}", f"cache_dir={tmp_path / 'cache'}", "task=medmcqa", *SMALL, *words]
    (cell,) = cells(given, multirun=False)
    if what == "merged":
        model = AutoModelForCausalLM.from_pretrained(record.saved)
        assert "A" not in model.config.id2label.values()
    else:
        base = load_backbone(cell, seed=0, compute=FP32)
        model = PeftModel.from_pretrained(base, record.saved)
    predictions = predict(model, load_data(cell).report, 16, FP32)
    assert predictions.tolist() == record.predictions["report"]


def test_packed_trials_of_a_bert_that_compares_options_equal_single_trials(
    inline: Run, questions: Path, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    bert = ["model=bert-base", "model.weights=random", *(f"model.architecture.{key}={sizes[key]}" for key in sizes)]
    folders = [f"task.path={questions}", f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
    words = ["task.form=multiple_choice", "task.select_rows=12", "task.batch=8", "method=full", "precision=fp32"]
    trials = ["lrs=[3e-4,1e-3]", "seeds=[0,1]", "task.epochs=3", "protocol.probe_steps=1", "track=off"]
    runs = []
    for more in (["pack=4"], ["pack=1", "force=true"]):
        done = inline("task=medmcqa", *bert, *folders, *words, *trials, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = [record for record in records.read_all(tmp_path / "results", pytest.fail) if record.kind == "trial"]
        runs.append({str(record.trial): record for record in rows})
    together, alone = runs
    assert len(together) == 4
    for name, packed in together.items():
        assert packed.cost is not None
        assert packed.cost["pack"] == 4, packed.cost["pack_why"]
        assert packed.curve is not None
        assert (curve := alone[name].curve) is not None
        assert packed.curve["loss"] == pytest.approx(curve["loss"], rel=1e-5, abs=1e-5)


def test_a_model_or_method_that_cannot_answer_is_refused(inline: Run, questions: Path, tmp_path: Path) -> None:
    where = ["task=medmcqa", f"task.path={questions}", "track=off", f"results_dir={tmp_path / 'results'}"]
    done = inline(*where, "model=minilm", "method=lora")
    assert done.returncode == 2
    assert (
        "task.form=letters needs a language model, and minilm is a bert; use task.form=multiple_choice or classify"
        in done.stderr
    )
    done = inline(*where, "model=tiny-llama", "method=head")
    assert done.returncode == 2
    assert "has none" in done.stderr
    assert not (tmp_path / "results").exists()
