"""Answers that a language model writes out itself, and which option each of them names."""

import re
from dataclasses import dataclass
from string import Formatter, ascii_lowercase

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.tasks.outputs import Continuation, Shown

UNPARSED = -1
LEAD = r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option)(?:\s+is)?[\W_]+)?"  # "Answer: A", "The answer is (A)"
# What may follow a letter that stands for an option. A letter that begins a text may be a word ("A heart attack"), part
# of one ("B-cell lymphoma") or an abbreviation ("E.g.", "D.N.A."), so a blank, a hyphen and a point alone do not do.
ENDS = (
    r"\s*$",
    r"[^\S\n]*\n",
    r"\s*[)\]}:;!>]",
    r"\s*\.(?![a-z]\.)",
    r"\s*[*_\"'`]+(?!\w)",
    r"\s*,(?!\s*(?:(?:and|or)\s+)?[a-z]\b(?:\W|$))",  # "A, B" names two
    r"\s+[-\u2013\u2014]\s",
)


def answer_pattern(template: str) -> re.Pattern[str]:
    """Build the pattern that finds the letter at the beginning of an answer, in lower case.

    Args:
        template: What the model learns to write, with {letter} and perhaps {option}: prompt.written.

    Returns:
        A pattern whose first group is the letter. What the template puts before and after it is allowed besides the
        usual ways to name an option.

    Raises:
        ValueError: An answer in this template could not be told from the words of an option.
    """
    pieces = list(Formatter().parse(template))
    place = next(number for number, (_, name, _, _) in enumerate(pieces) if name == "letter")
    before, after = "".join(literal for literal, *_ in pieces[: place + 1]), pieces[place + 1 :]
    follows = after[0][0] if after else ""
    if any(name is not None for _, name, _, _ in pieces[:place]):
        problem = "the letter must come first, because it is read at the beginning of the answer"
    elif after and not re.search(r"[^\w\s]", follows) and any(name is not None for _, name, _, _ in after):
        problem = "a letter that is followed by the option's words alone may be one of them"
    else:
        usual = not follows.strip() or re.match("|".join(ENDS), f"{follows}word") is not None
        ends = "|".join([*ENDS, *([] if usual else [rf"\s*{_spaced(follows)}"])])
        return re.compile(rf"[\W_]*(?:{_spaced(before)})?[\W_]*{LEAD}([a-z])(?:{ends})")
    raise ValueError(f"prompt.written={template!r}: {problem}; write '{{letter}}. {{option}}', or '{{letter}}' alone")


def named_option(text: str, pattern: re.Pattern[str], options: int) -> int | None:
    """Return the number of the option that a text names, from 0; None if it names none.

    Args:
        text: What the model wrote.
        pattern: Of `answer_pattern`.
        options: How many the question has.
    """
    found = pattern.match(text.lower())
    number = None if found is None else ascii_lowercase.index(found[1])
    return number if number is not None and number < options else None


def _spaced(literal: str) -> str:
    """A pattern for a piece of the template, whatever a tokenizer made of its case and its blanks."""
    return r"\s*".join(re.escape(character) for character in literal.lower() if not character.isspace())


@dataclass(frozen=True)
class Written(Continuation):
    """A continuation that the model writes itself, token by token, and that begins with the letter of its option.

    tokenizer: turns tokens into text. letters: how many there are. limit: tokens that may be written. pattern: finds
    the letter in a text. To `answers`, `logits` are what was written: [rows, tokens], int64.
    """

    tokenizer: PreTrainedTokenizerBase
    letters: int
    limit: int
    pattern: re.Pattern[str]

    def keep(self, answer: Tensor | None) -> int:  # noqa: ARG002
        """Of the prompt, the last alone."""
        return 1

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Each option's number; UNPARSED where what was written names none of the row's options."""
        texts = self.tokenizer.batch_decode(logits, skip_special_tokens=True)
        counts = [self.letters] * len(texts) if batch.options is None else batch.options.tolist()
        found = [named_option(text, self.pattern, count) for text, count in zip(texts, counts, strict=True)]
        return torch.tensor([UNPARSED if number is None else number for number in found])

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """The answer; what was written has no loss: that is taken on the right answers (`Encoded.taught`)."""
        found = self.answers(logits, batch).float()
        return torch.stack([found, torch.full_like(found, torch.nan)], -1)
