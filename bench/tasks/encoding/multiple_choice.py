"""Encode multiple-choice questions as rows of tokens, in every form in which they can be put to a model."""

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

WRITTEN = 32  # maximum tokens of a written answer


def encode_questions(task: Task, writer: "PromptEncoder") -> Encoded:
    """Tokenise all parts in the writer's form, or read them from the cache.

    Prompts that are too long are cut on the left, where it affects the answer least. The notes say how many were cut.

    Args:
        task: the questions, with their options and answers.
        writer: encodes prompts and answers.

    Raises:
        ValueError: an answer alone is too long, the letters are not single tokens of the tokenizer, or a text has a
            lone surrogate.
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
    """Encodes prompts and answers as rows of at most max_length tokens.

    Attributes:
        conf: the task. Its form is `letters` if the model reasons.
        prompts: writes prompts and answers. It holds the solved examples before each question.
        encoder: whether the tokenizer pads on the right, as for an encoder model.
        first: token ids at the beginning of every row.
        last: token ids at the end of every row.
        end: token id at the end of a written answer; None for other forms.
        max_length: maximum number of tokens of a row.
        salt: the part of every cache key that is the same for all rows.
        cut: number of prompts so far that were too long and have been cut.
        rows: number of rows encoded so far.
    """

    def __init__(
        self,
        conf: TaskConf,
        prompt: PromptConf,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        cache: Path,
        demonstrations: Demonstrations | None = None,
        *,
        reasons: bool = False,
    ) -> None:
        """Prepare the encoder.

        Args:
            conf: the task.
            prompt: the templates of prompts and answers.
            tokenizer: the model's tokenizer.
            max_length: maximum number of tokens of a row.
            cache: folder of the token cache.
            demonstrations: draws the solved examples before each question; None for no examples.
            reasons: whether the model reasons and then names a letter, whatever the form of the task.
        """
        self.conf, self.tokenizer, self.cache = replace(conf, form=Form.letters) if reasons else conf, tokenizer, cache
        self.prompts = Prompts(prompt, self.conf.form, demonstrations, reasons=reasons)
        self.encoder = tokenizer.padding_side == "right"
        ends = (tokenizer.cls_token_id, tokenizer.sep_token_id) if self.encoder else (None, None)
        ends = (tokenizer.bos_token_id, None) if prompt.bos and not self.encoder else ends
        self.first, self.last = ([] if end is None else [int(end)] for end in ends)
        self.end = tokenizer.eos_token_id if conf.form is Form.generate else None
        self.max_length = max_length
        self.salt = [tokenizer_hash(tokenizer), max_length, self.first, self.last, self.end]
        self.cut = self.rows = 0

    def train(self, split: Split) -> Rows:
        """Return the rows to train on: prompts with their correct answers."""
        uses_head = self.conf.form in {Form.classify, Form.multiple_choice}
        if uses_head or (self.conf.form, self.conf.loss_on) == (Form.letters, LossOn.answer):
            return self.shown(split, own=True)  # a letter to predict need not be part of the input
        answers = [self.prompts.answer(options, int(label)) for options, label in _answered(split)]
        rows = self._tokens(self.prompts.of(split, own=True), answers, split.labels, read=Continuation())
        return replace(rows, answer=rows.lengths - 1) if self.conf.loss_on is LossOn.prompt else rows

    def shown(self, split: Split, *, own: bool = False) -> Rows:
        """Return the rows for the model to answer.

        Args:
            split: the questions.
            own: whether they are the training part, from which examples are drawn.
        """
        prompts = self.prompts.of(split, own=own)
        if self.conf.form is Form.multiple_choice:
            return self._side_by_side(prompts, split)
        if self.conf.form is not Form.options:
            counts = [len(options) for options, _ in _answered(split)]
            fields = {"options": torch.tensor(counts)} if len(set(counts)) > 1 else {}
            rows = self._tokens(prompts, [""] * len(prompts), split.labels, read=self._reader(split), **fields)
            return replace(rows, answer=None)
        pairs = [(row, option) for row, (options, _) in enumerate(_answered(split)) for option in range(len(options))]
        options = [options for options, _ in _answered(split)]
        answers = [self.prompts.answer(options[row], option) for row, option in pairs]
        labels = [split.labels[row] for row, _ in pairs]
        group = torch.tensor([row for row, _ in pairs])
        return self._tokens([prompts[row] for row, _ in pairs], answers, labels, read=Continuation(), group=group)

    def _side_by_side(self, prompts: Sequence[str], split: Split) -> Rows:
        """Encode each question with each of its options as the sequences of one row.

        Questions with fewer options than the most that any has are padded with empty answers.
        """
        counts = [len(options) for options, _ in _answered(split)]
        most = max(counts)
        fields: dict[str, Any] = {"options": torch.tensor(counts)} if min(counts) < most else {}
        fields |= {"each": most, "read": OneOf(most)}
        questions = [prompt for prompt in prompts for _ in range(most)]
        answers = [
            self.prompts.answer(options, number) if number < len(options) else ""
            for options, _ in _answered(split)
            for number in range(most)
        ]
        if self.encoder:
            return self._pairs(questions, answers, split.labels, **fields)
        return replace(self._tokens(questions, answers, split.labels, **fields), answer=None)

    def _pairs(self, questions: Sequence[str], answers: Sequence[str], labels: Sequence[float], **fields: Any) -> Rows:
        """Encode pairs of texts for an encoder. If a pair is too long, the question is cut on the left."""
        self.tokenizer.truncation_side = "left"

        def make() -> dict[str, np.ndarray]:
            lengths = [len(row) for row in self.tokenizer(list(questions), list(answers))["input_ids"]]
            answer_ids = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
            self._check_answers(answers, [len(row) for row in answer_ids], self.max_length - 4)
            settings = {"truncation": "only_first", "max_length": self.max_length}
            encoded = self.tokenizer(list(questions), list(answers), **settings)
            types = np.concatenate(encoded.get("token_type_ids", [[0]]))
            cut = np.array([sum(length > self.max_length for length in lengths)])
            return end_to_end(encoded["input_ids"]) | ({"types": types} if types.any() else {}) | {"cut": cut}

        arrays = cached("pairs", [*self.salt, list(questions), list(answers)], self.cache, make)
        return self._counted(arrays, labels, **fields)

    def _reader(self, split: Split) -> OutputReader:
        if self.conf.form is Form.classify:
            return HEAD
        if self.conf.form is Form.letters:
            return self._letters(split)
        most = max(len(options) for options, _ in _answered(split))
        return Written(self.tokenizer, most, WRITTEN, answer_pattern(self.prompts.conf.written))

    def _letters(self, split: Split) -> Letters:
        """Return a reader of the letters, by the token of each letter after a prompt."""
        conf, reasons = self.prompts.conf, self.prompts.reasons
        prompt = self.prompts.prompt(split, 0) + (conf.conclude if reasons else "")
        count = max(len(options) for options in split.options or [])
        letters = self.prompts.letters(count)
        encoded = [self._ids([prompt], [letter])[0] for letter in letters]
        ids = [row[-1] for row, answer in encoded if answer == 1]
        if len(set(ids)) < count or self.tokenizer.unk_token_id in ids:
            raise ValueError(
                f"task.form=letters: {', '.join(map(repr, letters))} are not single tokens of this model's tokenizer; "
                "use task.form=options, or another prompt.letters"
            )
        if not reasons:
            return Letters(tuple(ids))
        conclusion = self.tokenizer(conf.conclude, add_special_tokens=False)["input_ids"]
        return Reasoned(tuple(ids), self.tokenizer, conf.reason_tokens, tuple(conclusion))

    def _ids(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[list[int], int]]:
        """Return the token ids of each row, and how many more of them there are than the prompt alone has."""
        prompt_ids = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        if any(answers) and self.end is not None:
            ids = [[*row, self.end] for row in ids]
        return [(row, len(row) - len(prompt)) for row, prompt in zip(ids, prompt_ids, strict=True)]

    def _tokens(self, prompts: Sequence[str], answers: Sequence[str], labels: Sequence[float], **fields: Any) -> Rows:
        """Encode prompts followed by their answers. Rows that are too long are cut on the left."""
        room = self.max_length - len(self.first) - len(self.last)

        def make() -> dict[str, np.ndarray]:
            encoded = self._ids(prompts, answers)
            self._check_answers(answers, [answer for _, answer in encoded], room - 1)
            counts = np.array([answer for _, answer in encoded])
            cut = np.array([sum(len(row) > room for row, _ in encoded)])
            rows = [self.first + row[-room:] + self.last for row, _ in encoded]
            return end_to_end(rows) | {"answer": counts, "cut": cut}

        arrays = cached("continuations", [*self.salt, list(prompts), list(answers)], self.cache, make)
        return self._counted(arrays, labels, **fields)

    def _check_answers(self, answers: Sequence[str], lengths: Sequence[int], room: int) -> None:
        """Reject an answer that does not fit even if its question is cut away."""
        if too_long := [row for row, length in enumerate(lengths) if length > room]:
            raise ValueError(
                f"the answer {answers[too_long[0]].strip()[:40]!r} alone is longer than protocol.max_length="
                f"{self.max_length} tokens; choose a longer one"
            )

    def _counted(self, arrays: dict[str, np.ndarray], labels: Sequence[float], **fields: Any) -> Rows:
        """Build the rows, and add them to the counts of rows and of cut prompts."""
        self.cut, self.rows = self.cut + int(arrays.pop("cut")[0]), self.rows + len(arrays["lengths"])
        return rows_of(arrays, labels, self.tokenizer, **fields)


def _answered(split: Split) -> list[tuple[list[str], float]]:
    """Return the options of each question with its label."""
    return list(zip(split.options or [], split.labels, strict=True))
