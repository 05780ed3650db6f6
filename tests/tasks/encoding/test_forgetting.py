"""Texts that a model should still predict after training: from a file to a record, beside transformers' own loss."""

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
    found = records.read_all(folder, pytest.fail)
    return {(one.trial or {})["seed"]: one for one in found if one.kind == "trial"}


def of_transformers(model: Any, tokenizer: Any) -> tuple[float, int]:
    """Nats per token, and tokens, text by text as transformers computes the loss of a language model."""
    total, tokens = 0.0, 0
    for line in LINES:
        ids = tokenizer(line, return_tensors="pt")["input_ids"] if line else torch.zeros(1, 0)
        if (count := ids.shape[1] - 1) > 0:
            with torch.no_grad():
                total += float(model(input_ids=ids, labels=ids).loss) * count
            tokens += count
    return total / tokens, tokens


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_is_the_loss_of_transformers_before_and_after(
    method: str, inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    done = inline(*words, f"method={method}", f"retain={texts}", "save=merged")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = trials_below(tmp_path / "results").values()
    assert record.scores is not None
    found = record.scores["retention"]
    (cell,) = cells([*words, f"method={method}"], multirun=False)
    assert cell.id == record.cell["id"]  # what is looked at does not change what a cell is
    tokenizer = load_tokenizer(cell.source)
    before = load_backbone(cell, seed=0, compute=FP32).eval()
    assert (found["before"], found["tokens"]) == pytest.approx(of_transformers(before, tokenizer), rel=1e-5)
    after = AutoModelForCausalLM.from_pretrained(record.saved).eval()
    assert found["after"] == pytest.approx(of_transformers(after, tokenizer)[0], rel=1e-5)
    assert abs(found["after"] - found["before"]) > 1e-3


@pytest.mark.parametrize("form", ["letters", "options", "generate"])
def test_trials_that_train_together_retain_what_they_would_alone(
    form: str, inline: Run, words: list[str], texts: Path, tmp_path: Path
) -> None:
    found = []
    for more in (["pack=2"], ["pack=1", "force=true"]):
        done = inline(*words, "method=lora", f"task.form={form}", f"retain={texts}", "seeds=[0,1]", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        trials = trials_below(tmp_path / "results")
        assert [one.cost["pack"] for one in trials.values() if one.cost] == [2 if more == ["pack=2"] else 1] * 2
        found.append({seed: one.scores["retention"] for seed, one in trials.items() if one.scores})
    together, alone = found
    after, expected = ([trials[seed].pop("after") for seed in (0, 1)] for trials in found)
    assert after == pytest.approx(expected, rel=1e-5)
    assert after[0] != pytest.approx(after[1], rel=1e-5)
    assert together == alone


def test_a_recorded_trial_is_trained_again_for_texts_that_it_was_not_measured_on(
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


def test_who_trains_nothing_forgets_nothing(inline: Run, words: list[str], texts: Path, tmp_path: Path) -> None:
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
def test_what_holds_no_texts_is_told_before_anything_trains(
    name: str, content: bytes | None, complaint: str, inline: Run, words: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = inline(*words, "method=lora", f"retain={tmp_path / name}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_model_that_predicts_no_text_says_so(inline: Run, tiny: list[str], texts: Path) -> None:
    done = inline(*tiny, "method=lora", f"retain={texts}")
    assert done.returncode == 2
    assert "predicts no text; use retain=null, or a Llama with task.form=letters" in done.stderr
