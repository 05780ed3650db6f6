"""Cloze prompts: what the model reads, at which position, and which label words are valid."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerBase, RobertaConfig, RobertaForMaskedLM

from bench.config.schema import TaskConf
from bench.models.load import load_model
from bench.models.source import Source
from bench.tasks.base import Split, Task
from bench.tasks.encoding.cloze import encode_cloze
from bench.tasks.encoding.few_shot import Demonstrations
from bench.tasks.encoding.rows import Encoded, Rows
from bench.tasks.outputs import Masked
from bench.train.batches import collate
from bench.train.evaluate import forward

TASK = Task(
    Split(["a good film", "a dull play", "the play was warm and very fine", "it was poor"], [1, 0, 1, 0]),
    Split(["a bad film", "great"], [0, 1]),
    Split(["not bad", "we hated it and i loved it"], [1, 0]),
)
CONF = TaskConf(
    name="own", labels=["negative", "positive"], cloze="{text} it was {mask}", words=["bad", "great"], select_rows=2
)


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def encoded(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[..., Encoded]:
    def call(task: Task = TASK, *, longest: int = 32, shots: int = 0, **more: Any) -> Encoded:
        demonstrations = Demonstrations(task.train, shots, seed=0)
        return encode_cloze(task, replace(CONF, **more), tokenizer, longest, tmp_path, demonstrations)

    return call


def decoded(rows: Rows, row: int, tokenizer: PreTrainedTokenizerBase) -> str:
    start = int(rows.starts[row])
    return str(tokenizer.decode(rows.ids[start : start + int(rows.lengths[row])]))


def test_a_label_word_is_predicted_at_the_mask(encoded: Callable[..., Encoded], tokenizer: Any) -> None:
    data = encoded()
    assert decoded(data.train, 0, tokenizer) == "[CLS] a good film it was [MASK] [SEP]"
    assert data.train.read == Masked(tuple(tokenizer.convert_tokens_to_ids(["bad", "great"])))
    for rows in data.parts.values():
        assert rows.mask is not None
        places = rows.starts + rows.lengths - rows.mask
        assert set(rows.ids[places].tolist()) == {tokenizer.mask_token_id}


def test_a_solved_example_of_each_label_comes_after_the_text(encoded: Callable[..., Encoded], tokenizer: Any) -> None:
    data = encoded(longest=64, shots=2)
    shown = decoded(data.report, 0, tokenizer).removeprefix("[CLS] not bad it was [MASK] [SEP] ").removesuffix(" [SEP]")
    examples = {"a good film it was great", "a dull play it was bad", "the play was warm and very fine it was great"}
    assert set(shown.split(" [SEP] ")) <= examples | {"it was poor it was bad"}
    assert sorted(example.rpartition(" ")[2] for example in shown.split(" [SEP] ")) == ["bad", "great"]
    for row, text in enumerate(TASK.train.texts):
        assert decoded(data.train, row, tokenizer).count(f"{text} it was") == 1


def test_truncation_cuts_the_text_and_not_the_mask_or_the_examples(
    encoded: Callable[..., Encoded], tokenizer: Any
) -> None:
    long = Split(["very " * 90 + "good", "a play"], [1, 0])
    data = encoded(Task(long, long, long), longest=33, shots=2)
    assert int(data.report.lengths.max()) <= 33
    for row in range(2):
        assert decoded(data.report, row, tokenizer).count("[MASK]") == 1
        assert decoded(data.report, row, tokenizer).count("it was") == 3


def test_a_mask_token_in_a_text_is_removed(encoded: Callable[..., Encoded], tokenizer: Any) -> None:
    data = encoded(replace(TASK, report=Split(["a [MASK] film"], [1])))
    assert decoded(data.report, 0, tokenizer) == "[CLS] a film it was [MASK] [SEP]"


def test_a_pair_surrounds_the_mask(encoded: Callable[..., Encoded], tokenizer: Any) -> None:
    pairs = Split(["a film", "i"], [1, 0], second=["the play", "we"])
    data = encoded(Task(pairs, pairs, pairs), cloze="{text} and {mask} {second}")
    assert decoded(data.report, 0, tokenizer) == "[CLS] a film and [MASK] the play [SEP]"
    assert data.report.mask.tolist() == [4, 3]  # type: ignore[union-attr]


def test_a_word_must_be_one_token(encoded: Callable[..., Encoded]) -> None:
    for word in ("terrible", "very good"):
        with pytest.raises(ValueError, match=f"task.words: '{word}' is not a single token"):
            encoded(words=["bad", word])


def test_a_tokenizer_without_a_mask_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    for name, shots, message in (("mask_token", 0, "no mask token"), ("sep_token", 2, "no separator")):
        bare = copy.deepcopy(tokenizer)
        setattr(bare, name, None)
        with pytest.raises(ValueError, match=rf"^task\.form=mask: this model's tokenizer has {message}"):
            encode_cloze(TASK, CONF, bare, 32, tmp_path, Demonstrations(TASK.train, shots, 0))


def test_a_lone_surrogate_is_reported_with_its_row(encoded: Callable[..., Encoded]) -> None:
    wrong = Split(["a film", "a \ud83d film"], [0, 1])
    with pytest.raises(ValueError, match=r"^the report part: row 2 .* holds \\ud83d, half of a surrogate pair"):
        encoded(replace(TASK, report=wrong))


def test_examples_that_leave_no_room_for_a_text_are_refused(encoded: Callable[..., Encoded]) -> None:
    with pytest.raises(ValueError, match=r"leaves no room for a text in 5 of the 16 tokens.*fewer examples"):
        encoded(longest=16, shots=2)


def masked(kind: str, folder: Path) -> Any:
    config = {"model_type": kind, **AutoModelForMaskedLM.from_pretrained(folder).config.to_dict()}
    source = Source("tiny", str(folder), None, "any", random=False, config=config)
    return load_model(source, 2, seed=0, speaks=True, dropout=0.0).eval()


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    RobertaForMaskedLM(
        RobertaConfig(vocab_size=30, max_position_embeddings=66, pad_token_id=0, **sizes)
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_logits_are_those_of_transformers_at_the_mask(
    kind: str, encoded: Callable[..., Encoded], tiny_bert: Path, tiny_roberta: Path
) -> None:
    folder = tiny_bert if kind == "bert" else tiny_roberta
    reference = AutoModelForMaskedLM.from_pretrained(folder).eval()
    batch = collate(encoded().train, torch.arange(4))
    assert batch.attention_mask is not None
    with torch.no_grad():
        logits = reference(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        ours = forward(masked(kind, folder), batch)
    expected = logits[batch.input_ids == 4]  # 4 is the mask's id
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_without_its_masked_head_gets_a_new_trained_one(tmp_path: Path, tiny_bert: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(tiny_bert).bert.save_pretrained(tmp_path)
    model = masked("bert", tmp_path)
    assert model.new_modules == ("transform",)
    assert masked("bert", tiny_bert).new_modules == ()


def test_a_roberta_without_its_masked_head_is_refused(tmp_path: Path, tiny_roberta: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(tiny_roberta).roberta.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"saved without its masked head.*task.form=head"):
        masked("roberta", tmp_path)
