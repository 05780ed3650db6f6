"""Multiple-choice questions as rows of tokens, in each of the forms that they can be put to a model in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from bench.config.enums import Form, LossOn
from bench.config.schema import PromptConf, TaskConf
from bench.tasks.base import Split, Task
from bench.tasks.encoding.characters import check_characters
from bench.tasks.encoding.few_shot import Demonstrations
from bench.tasks.encoding.prompts import Prompts
from bench.tasks.encoding.rows import Encoded, Rows, end_to_end, rows_of
from bench.tasks.encoding.token_cache import cached, tokenizer_hash
from bench.tasks.encoding.written import Written, answer_pattern
from bench.tasks.outputs import HEAD, Continuation, Letters, OneOf, OutputReader, Reasoned

WRITTEN = 32  # tokens of an answer that is written out


def encode_questions(task: Task, writer: "PromptEncoder") -> Encoded:
    """Tokenise all parts as the writer's form wants them, or read them back from the cache.

    What is too long is cut on the left, where it hurts the answer least; the notes say how much was. ValueError: an
    answer alone is too long, or the letters are no single tokens of the tokenizer.
    """
    check_characters(task)
    parts = {
        name: writer.train(split) if name == "train" else writer.shown(split)
        for name, split in task.parts.items()
        if len(split)
    }
    cut = f"{writer.cut:,} of {writer.rows:,} prompts were cut on the left to {writer.max_length} tokens"
    notes = tuple(filter(None, [task.note, cut if writer.cut else None]))
    metrics = tuple(metric.value for metric in writer.conf.metrics)
    chance = float(np.mean([1 / len(options) for options, _ in _answered(task.report)]))
    taught = writer.train(task.select) if writer.conf.form is Form.generate else None
    return Encoded.of(parts, metrics=metrics, notes=notes, about=task.report.about, chance=chance, taught=taught)


class PromptEncoder:
    """Puts prompts and answers into tokens, at most max_length to a row. beside: solved examples before each question.
    reasons: whatever the form, the model thinks, then names a letter. cut, rows: how many prompts were too long, of how
    many.
    """

    def __init__(
        self,
        conf: TaskConf,
        prompt: PromptConf,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        cache: Path,
        beside: Demonstrations | None = None,
        *,
        reasons: bool = False,
    ) -> None:
        self.conf, self.tokenizer, self.cache = replace(conf, form=Form.letters) if reasons else conf, tokenizer, cache
        self.prompts = Prompts(prompt, self.conf.form, beside, reasons=reasons)
        self.encoder = tokenizer.padding_side == "right"
        ends = (tokenizer.cls_token_id, tokenizer.sep_token_id) if self.encoder else (None, None)
        ends = (tokenizer.bos_token_id, None) if prompt.bos and not self.encoder else ends
        self.first, self.last = ([] if end is None else [int(end)] for end in ends)
        self.end = tokenizer.eos_token_id if conf.form is Form.generate else None  # of an answer that is written out
        self.max_length = max_length
        self.salt = [tokenizer_hash(tokenizer), max_length, self.first, self.last, self.end]
        self.cut = self.rows = 0

    def train(self, split: Split) -> Rows:
        """Rows to learn from: prompts with their right answers."""
        headed = self.conf.form in {Form.classify, Form.multiple_choice}
        if headed or (self.conf.form, self.conf.loss_on) == (Form.letters, LossOn.answer):
            return self.shown(split, own=True)  # the letter need not be read to be predicted
        answers = [self.prompts.answer(options, int(label)) for options, label in _answered(split)]
        rows = self._tokens(self.prompts.of(split, own=True), answers, split.labels, read=Continuation())
        return replace(rows, answer=rows.lengths - 1) if self.conf.loss_on is LossOn.prompt else rows

    def shown(self, split: Split, *, own: bool = False) -> Rows:
        """Rows to be answered. own: they are the training part's, from which examples are drawn."""
        prompts = self.prompts.of(split, own=own)
        if self.conf.form is Form.multiple_choice:
            return self._beside(prompts, split)
        if self.conf.form is not Form.options:
            counts = [len(options) for options, _ in _answered(split)]
            more = {"options": torch.tensor(counts)} if len(set(counts)) > 1 else {}
            rows = self._tokens(prompts, [""] * len(prompts), split.labels, read=self._read(split), **more)
            return replace(rows, answer=None)
        each = [(row, option) for row, (options, _) in enumerate(_answered(split)) for option in range(len(options))]
        options = [options for options, _ in _answered(split)]
        answers = [self.prompts.answer(options[row], option) for row, option in each]
        labels = [split.labels[row] for row, _ in each]
        group = torch.tensor([row for row, _ in each])
        return self._tokens([prompts[row] for row, _ in each], answers, labels, read=Continuation(), group=group)

    def _beside(self, prompts: Sequence[str], split: Split) -> Rows:
        """Each question with each of its options, side by side; what one has fewer than another has no text."""
        counts = [len(options) for options, _ in _answered(split)]
        most = max(counts)
        more: dict[str, Any] = {"options": torch.tensor(counts)} if min(counts) < most else {}
        more |= {"each": most, "read": OneOf(most)}
        questions = [prompt for prompt in prompts for _ in range(most)]
        answers = [
            self.prompts.answer(options, number) if number < len(options) else ""
            for options, _ in _answered(split)
            for number in range(most)
        ]
        if self.encoder:
            return self._pairs(questions, answers, split.labels, **more)
        return replace(self._tokens(questions, answers, split.labels, **more), answer=None)

    def _pairs(self, questions: Sequence[str], answers: Sequence[str], labels: Sequence[float], **more: Any) -> Rows:
        """Two texts each, as an encoder knows them; of what is too long, the question is cut on the left."""
        self.tokenizer.truncation_side = "left"

        def make() -> dict[str, np.ndarray]:
            lengths = [len(row) for row in self.tokenizer(list(questions), list(answers))["input_ids"]]
            alone = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
            self._refuse(answers, [len(row) for row in alone], self.max_length - 4)
            how = {"truncation": "only_first", "max_length": self.max_length}
            encoded = self.tokenizer(list(questions), list(answers), **how)
            types = np.concatenate(encoded.get("token_type_ids", [[0]]))
            cut = np.array([sum(length > self.max_length for length in lengths)])
            return end_to_end(encoded["input_ids"]) | ({"types": types} if types.any() else {}) | {"cut": cut}

        arrays = cached("pairs", [*self.salt, list(questions), list(answers)], self.cache, make)
        return self._counted(arrays, labels, **more)

    def _read(self, split: Split) -> OutputReader:
        if self.conf.form is Form.classify:
            return HEAD
        if self.conf.form is Form.letters:
            return self._letters(split)
        most = max(len(options) for options, _ in _answered(split))
        return Written(self.tokenizer, most, WRITTEN, answer_pattern(self.prompts.conf.written))

    def _letters(self, split: Split) -> Letters:
        """The token of each letter, behind a prompt."""
        conf, reasons = self.prompts.conf, self.prompts.reasons
        prompt = self.prompts.one(split, 0) + (conf.conclude if reasons else "")
        count = max(len(options) for options in split.options or [])
        ends = self.prompts.letters(count)
        found = [self._ids([prompt], [end])[0] for end in ends]
        ids = [row[-1] for row, answer in found if answer == 1]
        if len(set(ids)) < count or self.tokenizer.unk_token_id in ids:
            raise ValueError(
                f"task.form=letters: {', '.join(map(repr, ends))} are no single tokens of this model's tokenizer; "
                "use task.form=options, or another prompt.letters"
            )
        if not reasons:
            return Letters(tuple(ids))
        conclusion = self.tokenizer(conf.conclude, add_special_tokens=False)["input_ids"]
        return Reasoned(tuple(ids), self.tokenizer, conf.reason_tokens, tuple(conclusion))

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
            self._refuse(answers, [answer for _, answer in found], room - 1)
            counts = np.array([answer for _, answer in found])
            cut = np.array([sum(len(row) > room for row, _ in found)])
            rows = [self.first + row[-room:] + self.last for row, _ in found]
            return end_to_end(rows) | {"answer": counts, "cut": cut}

        arrays = cached("continuations", [*self.salt, list(prompts), list(answers)], self.cache, make)
        return self._counted(arrays, labels, **more)

    def _refuse(self, answers: Sequence[str], lengths: Sequence[int], room: int) -> None:
        """What the question cannot make room for."""
        if long := [row for row, length in enumerate(lengths) if length > room]:
            raise ValueError(
                f"the answer {answers[long[0]].strip()[:40]!r} alone is longer than protocol.max_length="
                f"{self.max_length} tokens; choose a longer one"
            )

    def _counted(self, arrays: dict[str, np.ndarray], labels: Sequence[float], **more: Any) -> Rows:
        """The rows, with what was cut of them told."""
        self.cut, self.rows = self.cut + int(arrays.pop("cut")[0]), self.rows + len(arrays["lengths"])
        return rows_of(arrays, labels, self.tokenizer, **more)


def _answered(split: Split) -> list[tuple[list[str], float]]:
    return list(zip(split.options or [], split.labels, strict=True))
