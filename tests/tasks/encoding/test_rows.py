"""Each text is tokenised once. Later calls, even for other cells, read it from the cache."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase

from bench.tasks.base import Split, Task
from bench.tasks.encoding.rows import encode
from bench.tasks.encoding.template import worded

TASK = Task(
    train=Split(["the film was good", "bad", "a very cold and dull play", "we loved it"], [1, 0, 0, 1]),
    select=Split(["i hated the film", "a warm play"], [0, 1]),
    report=Split(["not bad", "it is never great", "poor but fine"], [1, 0, 1]),
)
PARTS = ("train", "select", "report")


@pytest.fixture
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_bert)


def forbid(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def tokenised(*_: Any, **__: Any) -> None:
        pytest.fail("tokenised again")

    monkeypatch.setattr(type(tokenizer), "__call__", tokenised)


def files(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


def test_every_part_decodes_to_its_texts(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    encoded = encode(TASK, tokenizer, 32, tmp_path)
    for part in PARTS:
        rows, split = getattr(encoded, part), getattr(TASK, part)
        spans = zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)
        ids = [rows.ids[start : start + length].tolist() for start, length in spans]
        assert [tokenizer.decode(row, skip_special_tokens=True) for row in ids] == split.texts
        assert ids == tokenizer(split.texts)["input_ids"]
        assert rows.labels.tolist() == split.labels
        assert len(rows) == len(split)
        assert rows.pad_id == tokenizer.pad_token_id
        assert {tensor.dtype for tensor in (rows.ids, rows.starts, rows.lengths, rows.labels)} == {torch.int64}


def test_rows_lie_end_to_end_without_padding(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = encode(TASK, tokenizer, 32, tmp_path).train
    assert rows.starts[0] == 0
    assert torch.equal(rows.starts[1:], (rows.starts + rows.lengths)[:-1])
    assert int(rows.lengths.sum()) == len(rows.ids)
    assert tokenizer.pad_token_id not in rows.ids.tolist()


def test_long_texts_are_cut_and_still_end_with_a_separator(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = encode(TASK, tokenizer, 4, tmp_path).train
    assert rows.lengths.tolist() == [4, 3, 4, 4]
    ends = rows.ids[rows.starts + rows.lengths - 1]
    assert (ends == tokenizer.sep_token_id).all()


def test_the_second_call_does_not_tokenise(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(TASK, tokenizer, 32, tmp_path)
    forbid(tokenizer, monkeypatch)
    second = encode(TASK, tokenizer, 32, tmp_path)
    for part in PARTS:
        for field in ("ids", "starts", "lengths", "labels"):
            assert torch.equal(getattr(getattr(first, part), field), getattr(getattr(second, part), field))


def test_another_process_with_the_same_tokenizer_does_not_tokenise(
    tokenizer: PreTrainedTokenizerBase, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer(["what a call leaves behind"], truncation=True, max_length=3, padding="max_length")
    encode(TASK, tokenizer, 32, tmp_path)
    fresh = AutoTokenizer.from_pretrained(tiny_bert)
    forbid(fresh, monkeypatch)
    encode(TASK, fresh, 32, tmp_path)


def test_state_left_in_the_tokenizer_does_not_change_the_rows(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    expected = encode(TASK, tokenizer, 32, tmp_path / "one").train
    tokenizer(["a film"], truncation=True, max_length=3, padding="max_length")
    rows = encode(TASK, tokenizer, 32, tmp_path / "two").train
    assert torch.equal(rows.ids, expected.ids)


def test_another_length_is_another_entry(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    encode(TASK, tokenizer, 32, tmp_path)
    before = files(tmp_path)
    assert len(before) == len(PARTS)
    cut = encode(TASK, tokenizer, 4, tmp_path).train
    assert len(files(tmp_path) - before) == len(PARTS)
    assert cut.lengths.max() == 4
    assert encode(TASK, tokenizer, 32, tmp_path).train.lengths.max() > 4


def test_another_vocabulary_is_another_entry(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    encode(TASK, tokenizer, 32, tmp_path)
    before = files(tmp_path)
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    swapped = {word: number for number, word in enumerate([*words[:5], *words[:4:-1]])}
    other = encode(TASK, BertTokenizerFast(vocab=swapped), 32, tmp_path)
    assert len(files(tmp_path) - before) == len(PARTS)
    assert not torch.equal(other.train.ids, encode(TASK, tokenizer, 32, tmp_path).train.ids)


def test_the_texts_decide_the_cache_entry_and_the_labels_do_not(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    encode(TASK, tokenizer, 32, tmp_path)
    before = files(tmp_path)
    flipped = Task(Split(TASK.train.texts, [0, 1, 1, 0]), TASK.select, TASK.report)
    assert encode(flipped, tokenizer, 32, tmp_path).train.labels.tolist() == [0, 1, 1, 0]
    assert files(tmp_path) == before
    encode(Task(TASK.train, Split(["a warm film", "a warm play"], [0, 1]), TASK.report), tokenizer, 32, tmp_path)
    assert len(files(tmp_path) - before) == 1


def test_a_lone_surrogate_is_reported_with_its_part_and_row(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    wrong = Split(["a film", "a \ud83d film"], [0, 1])
    message = r"^the select part: row 2 \('a \\ud83d film'\) holds \\ud83d, half of a surrogate pair .* remove it$"
    with pytest.raises(ValueError, match=message):
        encode(replace(TASK, select=wrong), tokenizer, 32, tmp_path)
    with pytest.raises(ValueError, match=message):
        worded(replace(TASK, select=wrong), "it was {text}", tokenizer, 32)
    pair = Split(["a film", "a play"], [0, 1], ["a \udc00 film", "bad"])
    with pytest.raises(ValueError, match=r"^the train part: row 1 \('a film'\) holds \\udc00,"):
        encode(Task(pair, pair, pair), tokenizer, 32, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_holds_only_complete_files(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    encode(TASK, tokenizer, 32, tmp_path / "made" / "on the way")
    assert {Path(name).suffix for name in files(tmp_path / "made" / "on the way")} == {".safetensors"}


def test_first_keeps_only_the_first_rows(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = encode(TASK, tokenizer, 32, tmp_path).train
    few = rows.first(2)
    assert len(few) == 2
    for number in range(2):
        spans = [
            slice(int(source.starts[number]), int(source.starts[number] + source.lengths[number]))
            for source in (rows, few)
        ]
        assert torch.equal(few.ids[spans[1]], rows.ids[spans[0]])
    assert few.labels.tolist() == TASK.train.labels[:2]
    assert (few.pad_id, few.pad_left) == (rows.pad_id, rows.pad_left)
    assert len(rows.first(99)) == len(rows) == len(TASK.train)


def test_rows_are_padded_on_the_side_that_the_tokenizer_names(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    right = encode(TASK, tokenizer, 32, tmp_path).train
    before = files(tmp_path)
    tokenizer.padding_side = "left"
    left = encode(TASK, tokenizer, 32, tmp_path).train
    assert (right.pad_left, left.pad_left) == (False, True)
    assert torch.equal(left.ids, right.ids)
    assert files(tmp_path) == before  # the ids are the same and share cache entries
