"""Retention of texts after training: from a file to a record, compared with transformers' own loss."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import FP32
from test_mcq_run import SMALL
from transformers import AutoModelForCausalLM

from bench.config.compose import cells
from bench.models.load import load_tokenizer
from bench.records import record as records
from bench.records.record import Record
from bench.runner.build import load_backbone
from bench.tasks.loaders.texts import read_texts

Run = Callable[..., subprocess.CompletedProcess[str]]
LINES = ("The heart pumps blood.", "", "Every bone of the skull is joined by sutures, but for the jaw.", "x", "A lung.")
QUICK = ("task.select_rows=12", "task.batch=8", "protocol.probe_steps=1", "rank=4", "lrs=[1e-2]")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def words(questions: Path, tmp_path: Path) -> list[str]:
    folders = [f"{name}_dir={tmp_path / name}" for name in ("results", "cache", "save")]
    return ["task=medmcqa", f"task.path={questions}", *SMALL, *QUICK, *folders]


def trials_below(folder: Path) -> dict[Any, Record]:
    stored = records.read_all(folder, pytest.fail)
    return {(record.trial or {})["seed"]: record for record in stored if record.kind == "trial"}


def transformers_loss(model: Any, tokenizer: Any) -> tuple[float, int]:
    """Return transformers' language-model loss in nats per token and the number of tokens, text by text."""
    total, tokens = 0.0, 0
    for line in LINES:
        ids = tokenizer(line, return_tensors="pt")["input_ids"] if line else torch.zeros(1, 0)
        if (count := ids.shape[1] - 1) > 0:
            with torch.no_grad():
                total += float(model(input_ids=ids, labels=ids).loss) * count
            tokens += count
    return total / tokens, tokens


@pytest.mark.parametrize("method", ["lora", "full"])
def test_retention_is_transformers_loss_before_and_after_training(
    method: str, inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    done = inline(*words, f"method={method}", f"retain={texts}", "save=merged")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = trials_below(tmp_path / "results").values()
    assert record.scores is not None
    retention = record.scores["retention"]
    (cell,) = cells([*words, f"method={method}"], multirun=False)
    assert cell.id == record.cell["id"]  # retention texts are not part of a cell's identity
    tokenizer = load_tokenizer(cell.source)
    before = load_backbone(cell, seed=0, compute=FP32).eval()
    assert (retention["before"], retention["tokens"]) == pytest.approx(transformers_loss(before, tokenizer), rel=1e-5)
    after = AutoModelForCausalLM.from_pretrained(record.saved).eval()
    assert retention["after"] == pytest.approx(transformers_loss(after, tokenizer)[0], rel=1e-5)
    assert abs(retention["after"] - retention["before"]) > 1e-3


@pytest.mark.parametrize("form", ["letters", "options", "generate"])
def test_packed_trials_have_the_retention_of_single_trials(
    form: str, inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    retentions = []
    for more in (["pack=2"], ["pack=1", "force=true"]):
        done = inline(*words, "method=lora", f"task.form={form}", f"retain={texts}", "seeds=[0,1]", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        trials = trials_below(tmp_path / "results")
        assert [record.cost["pack"] for record in trials.values() if record.cost] == [
            2 if more == ["pack=2"] else 1
        ] * 2
        retentions.append({seed: record.scores["retention"] for seed, record in trials.items() if record.scores})
    together, alone = retentions
    after, expected = ([trials[seed].pop("after") for seed in (0, 1)] for trials in retentions)
    assert after == pytest.approx(expected, rel=1e-5)
    assert after[0] != pytest.approx(after[1], rel=1e-5)
    assert together == alone


def test_a_recorded_trial_is_trained_again_for_new_retention_texts(
    inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    command = [*words, "method=lora", "seeds=[0]"]
    assert inline(*command).returncode == 0
    before = trials_below(tmp_path / "results")[0]
    done = inline(*command, f"retain={texts}")
    assert "0 recorded, 1 to train (1 trained again for retain=)" in done.stdout, done.stdout + done.stderr
    after = trials_below(tmp_path / "results")[0]
    assert after.predictions == before.predictions
    retention = (after.scores or {}).pop("retention")
    assert after.scores == before.scores
    assert "1 recorded, 0 to train" in inline(*command, f"retain={texts}").stdout
    assert "1 recorded, 0 to train" in inline(*command).stdout
    texts.write_text("Another text.\n", encoding="utf-8")
    assert "1 trained again for retain=" in inline(*command, f"retain={texts}").stdout
    scores = trials_below(tmp_path / "results")[0].scores or {}
    assert scores["retention"]["texts"] != retention["texts"]


def test_a_method_without_training_records_no_retention(
    inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    done = inline(*words, "method=zero_shot", "lrs=[null]", f"retain={texts}")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = trials_below(tmp_path / "results").values()
    assert record.scores is not None
    assert "retention" not in record.scores


def test_texts_come_as_lines_or_as_json_lines(tmp_path: Path) -> None:
    lines, objects = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    lines.write_text("one\n\n two\n", encoding="utf-8")
    objects.write_text("\n".join(json.dumps({"text": text}) for text in ("one", "two\nand three")), encoding="utf-8")
    assert read_texts(lines) == ["one", " two"]
    assert read_texts(objects) == ["one", "two\nand three"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("absent.txt", None, "is not a file; give one with a text per line"),
        ("empty.txt", b"\n\n", "has no text; give it a text per line"),
        ("empty.jsonl", b"\n", "no texts; add some, or omit retain"),
        ("latin.txt", "Ærø".encode("latin-1"), "is not UTF-8; convert it"),
        ("other.jsonl", b'{"words": "one"}\n', "row 1 has no text; every line needs a field text"),
        ("torn.jsonl", b'{"text": "one', "line 1 is not JSON"),
        ("half.jsonl", b'{"text": "one"}\n{"text": "a \\ud83d"}', "line 2 holds \\ud83d, half of a surrogate pair"),
    ],
)
def test_a_file_without_texts_is_refused_before_training(
    name: str, content: bytes | None, complaint: str, inline: Run, words: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = inline(*words, "method=lora", f"retain={tmp_path / name}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_retention_of_a_model_that_predicts_no_text_is_refused(inline: Run, tiny: list[str], texts: Path) -> None:
    done = inline(*tiny, "method=lora", f"retain={texts}")
    assert done.returncode == 2
    assert "predicts no text; use retain=null, or a Llama with task.form=letters" in done.stderr
