"""Multiple-choice questions as rows of tokens, in each of the forms that they can be put to a model in."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from bench.choices import Form, LossOn
from bench.schema import PromptConf, TaskConf
from bench.tasks.encode import Encoded, Rows, cached, laid_out, rows_of, vocabulary
from bench.tasks.reading import HEAD, Continuation, Letters, Reading, Written
from bench.tasks.task import Split, Task

WRITTEN = 32  # tokens of an answer that is written out


def encode_questions(
    task: Task, conf: TaskConf, prompt: PromptConf, tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path
) -> Encoded:
    """Tokenise all parts as the task's form wants them, or read them back from the cache.

    What is longer than max_length is cut on the left, where it hurts the answer least; the notes say how much was.
    ValueError: an answer alone is too long, or the letters are no single tokens of this tokenizer.
    """
    writer = Writer(conf, prompt, tokenizer, max_length, cache)
    parts = {
        name: writer.train(split) if name == "train" else writer.shown(split) for name, split in task.parts.items()
    }
    cut = (
        f"{writer.cut:,} of {writer.rows:,} prompts were cut on the left to {max_length} tokens" if writer.cut else None
    )
    notes = tuple(filter(None, [task.note, cut]))
    metrics = tuple(metric.value for metric in conf.metrics)
    chance = float(np.mean([1 / len(options) for options, _ in _answered(task.report)]))
    return Encoded.of(parts, metrics=metrics, notes=notes, about=task.report.about, chance=chance)


class Writer:
    """Puts questions into words and tokens. cut, rows: how many prompts were too long, of how many."""

    def __init__(
        self, conf: TaskConf, prompt: PromptConf, tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path
    ) -> None:
        self.conf, self.prompt, self.tokenizer, self.cache = conf, prompt, tokenizer, cache
        encoder = tokenizer.padding_side == "right"
        ends = (tokenizer.cls_token_id, tokenizer.sep_token_id) if encoder else (None, None)
        ends = (tokenizer.bos_token_id, None) if prompt.bos and not encoder else ends
        self.first, self.last = ([] if end is None else [int(end)] for end in ends)
        self.end = tokenizer.eos_token_id if conf.form is Form.generate else None  # of an answer that is written out
        self.max_length, self.salt = max_length, [vocabulary(tokenizer), max_length, self.first, self.last, self.end]
        self.cut = self.rows = 0

    def train(self, split: Split) -> Rows:
        """Rows to learn from: prompts with their right answers."""
        if self.conf.form is Form.classify or (self.conf.form, self.conf.loss_on) == (Form.letters, LossOn.answer):
            return self.shown(split)  # the letter need not be read to be predicted
        answers = [self._answer(options, int(label)) for options, label in _answered(split)]
        rows = self._tokens(self._prompts(split), answers, split.labels, read=Continuation())
        return replace(rows, answer=rows.lengths - 1) if self.conf.loss_on is LossOn.prompt else rows

    def shown(self, split: Split) -> Rows:
        """Rows to be answered."""
        prompts = self._prompts(split)
        if self.conf.form is not Form.options:
            counts = [len(options) for options, _ in _answered(split)]
            more = {"options": torch.tensor(counts)} if len(set(counts)) > 1 else {}
            rows = self._tokens(prompts, [""] * len(prompts), split.labels, read=self._read(split), **more)
            return replace(rows, answer=None)
        each = [(row, option) for row, (options, _) in enumerate(_answered(split)) for option in range(len(options))]
        options = [options for options, _ in _answered(split)]
        answers = [self._answer(options[row], option) for row, option in each]
        labels = [split.labels[row] for row, _ in each]
        group = torch.tensor([row for row, _ in each])
        return self._tokens([prompts[row] for row, _ in each], answers, labels, read=Continuation(), group=group)

    def _prompts(self, split: Split) -> list[str]:
        form = self.prompt.unseen if self.conf.form is Form.options else self.prompt.text
        return [
            form.format(question=question.strip(), options=self._options(options))
            for question, options in zip(split.texts, split.options or [], strict=True)
        ]

    def _options(self, options: Sequence[str]) -> str:
        lines = (
            self.prompt.option.format(letter=letter, option=option)
            for letter, option in zip(ascii_uppercase, options, strict=False)
        )
        return self.prompt.between.join(lines)

    def _answer(self, options: Sequence[str], number: int) -> str:
        ways = {Form.letters: self.prompt.letters, Form.generate: self.prompt.written}
        form = ways.get(self.conf.form, self.prompt.unseen_answer)
        return form.format(letter=ascii_uppercase[number], option=options[number])

    def _read(self, split: Split) -> Reading:
        if self.conf.form is Form.classify:
            return HEAD
        if self.conf.form is Form.letters:
            return self._letters(split)
        return Written(self.tokenizer, max(len(options) for options, _ in _answered(split)), WRITTEN)

    def _letters(self, split: Split) -> Letters:
        """The token of each letter, behind a prompt."""
        prompt = self._prompts(split)[0]
        count = max(len(options) for options in split.options or [])
        ends = [self.prompt.letters.format(letter=letter, option="") for letter in ascii_uppercase[:count]]
        found = [self._ids([prompt], [end])[0] for end in ends]
        ids = [row[-1] for row, answer in found if answer == 1]
        if len(set(ids)) < count:
            raise ValueError(
                f"task.form=letters: {', '.join(map(repr, ends))} are no single tokens of this model's tokenizer; "
                "use task.form=options, or another prompt.letters"
            )
        return Letters(tuple(ids))

    def _ids(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[list[int], int]]:
        """Of each row its tokens, and how many of them are the answer's: those that the prompt alone does not have."""
        alone = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        both = self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        if any(answers) and self.end is not None:
            both = [[*row, self.end] for row in both]
        return [(row, len(row) - len(prompt)) for row, prompt in zip(both, alone, strict=True)]

    def _tokens(self, prompts: Sequence[str], answers: Sequence[str], labels: Sequence[float], **more: Any) -> Rows:
        room = self.max_length - len(self.first) - len(self.last)

        def make() -> dict[str, np.ndarray]:
            found = self._ids(prompts, answers)
            if long := [row for row, (_, answer) in enumerate(found) if answer >= room]:
                raise ValueError(
                    f"the answer {answers[long[0]].strip()[:40]!r} alone is longer than protocol.max_length="
                    f"{self.max_length} tokens; choose a longer one"
                )
            counts = np.array([answer for _, answer in found])
            cut = np.array([sum(len(row) > room for row, _ in found)])
            return laid_out([self.first + row[-room:] + self.last for row, _ in found]) | {"answer": counts, "cut": cut}

        arrays = cached(json.dumps([*self.salt, list(prompts), list(answers)]), self.cache, make)
        self.cut, self.rows = self.cut + int(arrays.pop("cut")[0]), self.rows + len(prompts)
        return rows_of(arrays, labels, self.tokenizer, **more)


def _answered(split: Split) -> list[tuple[list[str], float]]:
    return list(zip(split.options or [], split.labels, strict=True))
