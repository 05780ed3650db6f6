"""The letters' answers against lm-evaluation-harness's rule for multiple choice, carried here in our own words.

Its rule: context and context + continuation are tokenised, what the second has more are the continuation's tokens,
and the sum of their log-probabilities, each given all before it, is its score; the choice with the highest score is
the answer.
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
ASKED = 40  # questions; benchmarks/harness.py asks all of MedMCQA


def cell(cache: Path, *words: str) -> Cell:
    given = ["model=tiny-llama", "task=quiz", "method=lora", "rank=4", f"cache_dir={cache}", "precision=fp32"]
    (found,) = cells([*given, *words], multirun=False)
    return found


def by_the_rule(model: nn.Module, tokenizer: PreTrainedTokenizerBase, context: str, choices: list[str]) -> int:
    """The number of the likeliest choice, each put through the model by itself, without padding."""
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
def test_letters_choose_what_the_rule_chooses(seed: int, tmp_path: Path) -> None:
    of = cell(tmp_path)
    model = build(of, seed=seed, compute=FP32).eval()
    with torch.no_grad():  # so that the answers are not all one letter, as a random model's are
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=generator)
    report, tokenizer = load_task(of).report, load_tokenizer(of.source)
    ours = predict(model, load_data(of).report.first(ASKED), 16, FP32).tolist()
    expected = []
    with torch.inference_mode():
        for question, options in zip(report.texts[:ASKED], (report.options or [])[:ASKED], strict=True):
            lines = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
            context = f"Question: {question}\nChoices:\n{lines}\nAnswer:"
            expected.append(by_the_rule(model, tokenizer, context, [" A", " B", " C", " D"]))
    assert ours == expected
    assert len(set(ours)) > 1


def test_options_choose_the_highest_mean(tmp_path: Path) -> None:
    """As `acc_norm`, by tokens instead of bytes: checked against transformers' own loss."""
    of = cell(tmp_path, "task.form=options")
    model = build(of, seed=0, compute=FP32).eval()
    report, tokenizer = load_task(of).report, load_tokenizer(of.source)
    # a row for each of four options
    ours = predict(model, load_data(of).report.first(4 * ASKED), 16, FP32).tolist()
    expected = []
    with torch.inference_mode():
        for question, options in zip(report.texts[:ASKED], (report.options or [])[:ASKED], strict=True):
            losses = []
            for option in options:
                before = tokenizer(f"Question: {question}\nAnswer:", add_special_tokens=False)["input_ids"]
                whole = tokenizer(f"Question: {question}\nAnswer: {option}", add_special_tokens=False)["input_ids"]
                labels = torch.tensor([[-100] * len(before) + whole[len(before) :]])
                losses.append(float(model(input_ids=torch.tensor([whole]), labels=labels).loss))
            expected.append(min(range(4), key=lambda number: losses[number]))
    assert ours == expected
