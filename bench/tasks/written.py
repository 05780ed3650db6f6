"""Which option an answer names that a language model wrote out itself."""

import re
from string import Formatter, ascii_lowercase

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
