"""A tokenizer that is not the model's own is refused in one line, before anything is encoded with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from bench.config.schema import ModelConf
from bench.models.load import load_tokenizer
from bench.models.source import find_model


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder, which a test may change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def load(folder: Path) -> Any:
    return load_tokenizer(find_model(ModelConf(label="x", name=str(folder))))


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def change(folder: Path, name: str, **values: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | values))


def forget(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["bert", "roberta", "camembert", "llama"])
@pytest.mark.parametrize("settings", [True, False], ids=["settings", "nothing"])
def test_a_folder_without_tokenizer_files_is_refused(kind: str, settings: bool, folder: Path) -> None:  # noqa: FBT001
    change(folder, "config.json", model_type=kind)
    forget(folder, "tokenizer.json", "vocab.txt", *([] if settings else ["tokenizer_config.json"]))
    assert "no tokenizer files in" in refused(folder)


def test_half_a_tokenizer_is_refused(folder: Path) -> None:
    change(folder, "config.json", model_type="roberta")
    forget(folder, "tokenizer.json")
    (folder / "vocab.json").write_text('{"<s>": 0, "</s>": 1, "<unk>": 2, "<pad>": 3, "<mask>": 4, "a": 5}')
    assert "no tokenizer files in" in refused(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert load(folder).get_vocab() == tokenizer.get_vocab()
    tokenizer.add_tokens(["heart"])
    tokenizer.save_pretrained(folder)
    assert "up to 30, but the model's embedding has 30 rows" in refused(folder)


def test_a_tokenizer_far_smaller_than_the_embedding_is_refused(folder: Path) -> None:
    change(folder, "config.json", vocab_size=300)
    load(folder)
    change(folder, "config.json", vocab_size=301)
    assert "has 30 entries, but the model's embedding has 301 rows" in refused(folder)
    source = find_model(ModelConf(label="x", name=str(folder)))
    assert load_tokenizer(type(source)(**{**vars(source), "random": True}))  # random weights may borrow a tokenizer


def test_a_tokenizer_of_special_tokens_alone_is_refused(folder: Path) -> None:
    special = {name: number for number, name in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = special
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "has 5 entries but no words" in refused(folder)


def test_a_tokenizer_that_cannot_pad_is_refused(folder: Path) -> None:
    change(folder, "tokenizer_config.json", pad_token=None, eos_token=None)
    assert "has neither a padding token nor an end-of-text token" in refused(folder)
    end = "very"
    change(folder, "tokenizer_config.json", eos_token=end)
    assert load(folder).pad_token == end


@pytest.mark.parametrize("content", [b"", b"{oops", b"{}", b'{"model": 1}'])
def test_a_tokenizer_that_cannot_be_read_is_refused_in_one_line(content: bytes, folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    assert "cannot be loaded" in refused(folder)
