"""The letters form answers as lm-evaluation-harness's multiple-choice rule does, which is reimplemented here.

The rule tokenises the context alone and the context followed by the continuation. The extra tokens of the second are
the continuation's tokens. The score is the sum of their log-probabilities, each given all tokens before it. The choice
with the highest score is the answer.
"""

from pathlib import Path

import pytest
import torch
from small_trials import FP32
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.models.load import load_tokenizer
from bench.runner.build import build, load_data, load_task
from bench.train.evaluate import predict

CPU = torch.device("cpu")
QUESTIONS = 40  # benchmarks/harness.py uses all of MedMCQA


def cell(cache: Path, *words: str) -> Cell:
    given = ["model=tiny-llama", "task=quiz", "method=lora", "rank=4", f"cache_dir={cache}", "precision=fp32"]
    (composed,) = cells([*given, *words], multirun=False)
    return composed


def lm_eval_answer(model: nn.Module, tokenizer: PreTrainedTokenizerBase, context: str, choices: list[str]) -> int:
    """Return the number of the likeliest choice. Each choice is scored by itself, without padding."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    sums = []
    for choice in choices:
        whole = tokenizer(context + choice, add_special_tokens=False)["input_ids"]
        continuation = whole[len(before) :]
        logits = model(input_ids=torch.tensor([whole[:-1]])).logits[0].float().log_softmax(-1)
        places = range(len(whole) - 1 - len(continuation), len(whole) - 1)
        sums.append(sum(float(logits[place, token]) for place, token in zip(places, continuation, strict=True)))
    return max(range(len(choices)), key=lambda number: sums[number])


@pytest.mark.parametrize("seed", [0, 1])
def test_letters_choose_the_answer_of_the_lm_eval_rule(seed: int, tmp_path: Path) -> None:
    quiz_cell = cell(tmp_path)
    model = build(quiz_cell, seed=seed, compute=FP32).eval()
    with torch.no_grad():  # otherwise a random model gives the same letter to every question
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=generator)
    report, tokenizer = load_task(quiz_cell).report, load_tokenizer(quiz_cell.source)
    ours = predict(model, load_data(quiz_cell).report.first(QUESTIONS), 16, FP32).tolist()
    expected = []
    with torch.inference_mode():
        for question, options in zip(report.texts[:QUESTIONS], (report.options or [])[:QUESTIONS], strict=True):
            lines = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
            context = f"Question: {question}\nChoices:\n{lines}\nAnswer:"
            expected.append(lm_eval_answer(model, tokenizer, context, [" A", " B", " C", " D"]))
    assert ours == expected
    assert len(set(ours)) > 1


def test_options_choose_the_highest_mean_log_likelihood(tmp_path: Path) -> None:
    """The rule is `acc_norm` per token instead of per byte, checked against transformers' own loss."""
    quiz_cell = cell(tmp_path, "task.form=options")
    model = build(quiz_cell, seed=0, compute=FP32).eval()
    report, tokenizer = load_task(quiz_cell).report, load_tokenizer(quiz_cell.source)
    # one row per option, four options per question
    ours = predict(model, load_data(quiz_cell).report.first(4 * QUESTIONS), 16, FP32).tolist()
    expected = []
    with torch.inference_mode():
        for question, options in zip(report.texts[:QUESTIONS], (report.options or [])[:QUESTIONS], strict=True):
            losses = []
            for option in options:
                before = tokenizer(f"Question: {question}\nAnswer:", add_special_tokens=False)["input_ids"]
                whole = tokenizer(f"Question: {question}\nAnswer: {option}", add_special_tokens=False)["input_ids"]
                labels = torch.tensor([[-100] * len(before) + whole[len(before) :]])
                losses.append(float(model(input_ids=torch.tensor([whole]), labels=labels).loss))
            expected.append(min(range(4), key=lambda number: losses[number]))
    assert ours == expected
