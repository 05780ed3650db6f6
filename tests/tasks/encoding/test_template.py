"""A template's own words stay in every text of any length, and nothing else of the task changes."""

from pathlib import Path

import pytest
from conftest import WORDS
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.tasks.base import Split, Task
from bench.tasks.encoding.rows import encode
from bench.tasks.encoding.template import worded

LONG = " ".join([*WORDS, *WORDS])
TASK = Task(
    train=Split(["the film was good", "bad", LONG], [1, 0, 1]),
    select=Split([LONG, "a warm play"], [0, 1]),
    report=Split(["Not bad,\n  very GOOD", LONG], [1, 0]),
)
PARTS = ("train", "select", "report")
TEMPLATES = ["it was {text}", "{text} it was never", "i loved {text} and we hated it"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_text_that_fits_is_inserted_unchanged(template: str, tokenizer: PreTrainedTokenizerBase) -> None:
    wrapped = worded(TASK, template, tokenizer, 512)
    for part in PARTS:
        before, after = getattr(TASK, part), getattr(wrapped, part)
        assert after.texts == [template.format(text=text) for text in before.texts]
        assert after.labels == before.labels


@pytest.mark.parametrize("max_length", [10, 12, 32])
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_templates_words_survive_truncation(
    template: str, max_length: int, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    rows = encode(worded(TASK, template, tokenizer, max_length), tokenizer, max_length, tmp_path).train
    before, after = (tokenizer.tokenize(side) for side in template.split("{text}"))
    for number, text in enumerate(TASK.train.texts):
        start, length = int(rows.starts[number]), int(rows.lengths[number])
        tokens = tokenizer.convert_ids_to_tokens(rows.ids[start : start + length].tolist())
        assert tokens[0] == "[CLS]"
        assert tokens[-1] == "[SEP]"
        assert tokens[1 : 1 + len(before)] == before
        assert tokens[-1 - len(after) : -1] == after
        kept = tokens[1 + len(before) : -1 - len(after)]
        assert kept == tokenizer.tokenize(text)[: max_length - 2 - len(before) - len(after)]
    assert rows.lengths.tolist()[2] == max_length  # no token is wasted


def test_truncation_keeps_the_original_characters(tokenizer: PreTrainedTokenizerBase) -> None:
    """The cut is at the end of a token. Letters, spaces and punctuation before it stay as they were."""
    texts = ["Not  bad,\n very GOOD", "Bad"]
    task = Task(Split(texts, [0, 1]), Split(texts, [0, 1]), Split(texts, [0, 1]))
    # 7 tokens: it, was, two special tokens, and three for the text: not, bad, [UNK] for the comma
    assert worded(task, "it was {text}", tokenizer, 7).train.texts == ["it was Not  bad,", "it was Bad"]
    assert worded(task, "it was {text}", tokenizer, 6).train.texts == ["it was Not  bad", "it was Bad"]


def test_an_empty_text_is_the_template_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    task = Task(Split([""], [0]), Split(["a"], [0]), Split(["a"], [0]))
    assert worded(task, "it was {text}", tokenizer, 8).train.texts == ["it was "]
