"""Parse the answers that a language model writes: find the option that each of them names."""

import re
from dataclasses import dataclass
from string import Formatter, ascii_lowercase

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.tasks.outputs import Continuation, Shown

UNPARSED = -1
LEAD = r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option)(?:\s+is)?[\W_]+)?"  # "Answer: A", "The answer is (A)"
# What may follow a letter that stands for an option. A letter at the beginning of a text may also be a word ("A heart
# attack"), part of a word ("B-cell lymphoma") or an abbreviation ("E.g.", "D.N.A."). A space, a hyphen or a period is
# therefore not enough.
ENDS = (
    r"\s*$",
    r"[^\S\n]*\n",
    r"\s*[)\]}:;!>]",
    r"\s*\.(?![a-z]\.)",
    r"\s*[*_\"'`]+(?!\w)",
    r"\s*,(?!\s*(?:(?:and|or)\s+)?[a-z]\b(?:\W|$))",  # "A, B" names two options
    r"\s+[-\u2013\u2014]\s",
)


def answer_pattern(template: str) -> re.Pattern[str]:
    """Build the pattern that finds the letter at the beginning of a lower-case answer.

    Args:
        template: what the model learns to write (prompt.written), with {letter} and optionally {option}.

    Returns:
        A pattern whose first group is the letter. It accepts the usual ways to name an option, and the text that the
        template puts before and after the letter.

    Raises:
        ValueError: a letter in this template could not be distinguished from the words of an option.
    """
    pieces = list(Formatter().parse(template))
    position = next(number for number, (_, name, _, _) in enumerate(pieces) if name == "letter")
    before, after = "".join(literal for literal, *_ in pieces[: position + 1]), pieces[position + 1 :]
    follows = after[0][0] if after else ""
    if any(name is not None for _, name, _, _ in pieces[:position]):
        problem = "the letter must come first, because it is read at the beginning of the answer"
    elif after and not re.search(r"[^\w\s]", follows) and any(name is not None for _, name, _, _ in after):
        problem = "a letter followed only by the option's words could be mistaken for one of them"
    else:
        already_allowed = not follows.strip() or re.match("|".join(ENDS), f"{follows}word") is not None
        ends = "|".join([*ENDS, *([] if already_allowed else [rf"\s*{_spaced(follows)}"])])
        return re.compile(rf"[\W_]*(?:{_spaced(before)})?[\W_]*{LEAD}([a-z])(?:{ends})")
    raise ValueError(f"prompt.written={template!r}: {problem}; write '{{letter}}. {{option}}', or '{{letter}}' alone")


def named_option(text: str, pattern: re.Pattern[str], options: int) -> int | None:
    """Return the number of the option that a text names, counted from 0; None if it names none.

    Args:
        text: what the model wrote.
        pattern: the result of `answer_pattern`.
        options: number of options of the question.
    """
    match = pattern.match(text.lower())
    number = None if match is None else ascii_lowercase.index(match[1])
    return number if number is not None and number < options else None


def _spaced(literal: str) -> str:
    """Return a pattern for a literal of the template that ignores case and spaces, which a tokenizer may change."""
    return r"\s*".join(re.escape(character) for character in literal.lower() if not character.isspace())


@dataclass(frozen=True)
class Written(Continuation):
    """Reads an answer that the model writes token by token and that begins with the letter of an option.

    In `answers` and `judge`, `logits` holds the written tokens: [rows, tokens], int64.

    Attributes:
        tokenizer: decodes tokens to text.
        letters: number of letters, used for rows without their own number of options.
        limit: maximum number of tokens to write.
        pattern: finds the letter in a text.
    """

    tokenizer: PreTrainedTokenizerBase
    letters: int
    limit: int
    pattern: re.Pattern[str]

    def keep(self, answer: Tensor | None) -> int:  # noqa: ARG002
        """Return 1: only the last position of the prompt is read."""
        return 1

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the number of the option that each row names: [rows].

        It is UNPARSED if the text names none of the row's options.
        """
        texts = self.tokenizer.batch_decode(logits, skip_special_tokens=True)
        counts = [self.letters] * len(texts) if batch.options is None else batch.options.tolist()
        numbers = [named_option(text, self.pattern, count) for text, count in zip(texts, counts, strict=True)]
        return torch.tensor([UNPARSED if number is None else number for number in numbers])

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return each row's answer with NaN as its loss: [rows, 2].

        Written answers have no loss. It is computed on the correct answers instead (`Encoded.taught`).
        """
        answers = self.answers(logits, batch).float()
        return torch.stack([answers, torch.full_like(answers, torch.nan)], -1)
