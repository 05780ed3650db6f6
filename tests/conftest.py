"""What many tests share: a tiny random BERT, a tiny task, and the real command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# Methods that train nothing; requirements on all other methods do not apply to them.
UNTRAINED = {
    path.stem
    for path in (REPOSITORY / "conf" / "method").glob("*.yaml")
    if "\ntrains: false" in path.read_text("utf-8")
}
SLOWEST_FILES = (
    "test_packed.py", "test_golden.py", "test_run.py", "test_every_method.py", "test_mcq_run.py", "test_sweeps.py",
    "test_documented_commands.py", "test_check_gpu.py", "test_wandb_runs.py", "test_predict.py", "test_upload.py",
    "test_racing.py", "test_extend.py",
)  # fmt: skip
NOUNS = ("heart", "liver", "lung", "skin", "bone", "brain", "blood", "nerve", "tooth", "muscle", "eye", "ear")
OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
WORDS = [
    "a", "an", "the", "film", "play", "was", "is", "not", "never", "good", "bad", "great", "dull", "warm",
    "cold", "fine", "poor", "i", "we", "it", "loved", "hated", "and", "but", "very",
]  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Use one thread: models this small only lose time with more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest files, so that no worker is left alone with one of them at the end."""
    place = {name: number for number, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def axes(rank: int, scale: str = "rank") -> dict[str, Any]:
    """Return the values that a method's yaml refers to."""
    from omegaconf import OmegaConf

    return {"rank": rank, "scale": OmegaConf.load(REPOSITORY / "conf" / "scale" / f"{scale}.yaml")}


def bert(folder: Path, width: int) -> Path:
    """Save a random two-layer BERT of this width and its tokenizer in a folder, as save_pretrained writes them."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT of width 32 and its tokenizer."""
    return bert(tmp_path_factory.mktemp("tiny-bert"), width=32)


def question(part: str, number: int, offset: int) -> dict[str, Any]:
    four = [NOUNS[(number * 5 + place * 3 + offset) % len(NOUNS)] for place in range(4)]
    return {
        "id": f"{part}{number}",
        "question": f"Case {number} of {part}: where is the {four[number % 4]}?",
        **dict(zip(("opa", "opb", "opc", "opd"), four, strict=True)),
        "cop": number % 4,
        "subject_name": ("Anatomy", "Dental")[number % 2],
        "choice_type": "single",
        "exp": "none",
    }


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 64 training and 24 dev questions. Each answer is a word in the question."""
    folder = tmp_path_factory.mktemp("mcq")
    for name, count, offset in (("train", 64, 0), ("dev", 24, 5)):
        rows = [json.dumps(question(name, number, offset)) for number in range(count)]
        (folder / f"{name}.json").write_text("\n".join(rows) + "\n")
    return folder


def sentences(count: int, offset: int = 0) -> list[tuple[str, int]]:
    """Return distinct short texts with balanced labels that a model can learn."""
    import random

    labels: dict[str, int] = {}
    generator = random.Random(offset)
    while len(labels) < count:
        label = len(labels) % 2
        words = generator.sample(WORDS[:8] + WORDS[17:], generator.randint(2, 9))
        words.insert(
            generator.randrange(len(words)),
            generator.choice(("good", "great", "loved") if label else ("bad", "dull", "hated")),
        )
        labels.setdefault(" ".join(words), label)
    return list(labels.items())


@pytest.fixture(scope="session")
def tiny_sst2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in GLUE's layout: train.tsv (160 rows) and dev.tsv (40 rows)."""
    folder = tmp_path_factory.mktemp("tiny-sst2")
    for name, rows in (("train.tsv", sentences(160)), ("dev.tsv", sentences(40, offset=1))):
        lines = ["sentence\tlabel", *(f"{text} \t{label}" for text, label in rows)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tiny_bert: Path, tiny_sst2: Path, tmp_path: Path) -> list[str]:
    """Overrides with which any cell trains from the command line in well under a second, into a fresh folder.

    The precision is fp32 on every machine: with gradients this small, bf16 rounding would decide what packs and learns.
    """
    return [
        f"model.name={tiny_bert}",
        "task=sst2",
        f"task.path={tiny_sst2}",
        "task.select_rows=40",
        "protocol=smoke",
        "protocol.max_length=32",
        "rank=4",
        "precision=fp32",
        "track=off",
        f"results_dir={tmp_path / 'results'}",
        f"cache_dir={tmp_path / 'cache'}",
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m bench.MODULE` in an empty folder: bench("run", "method=lora", ..., env={...})."""

    def call(
        module: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"bench.{module}", *arguments],
            cwd=tmp_path,
            env={**os.environ, **OFFLINE, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


@pytest.fixture
def inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run bench.run's command line in this process, so that all tests share one warm server for their workers."""
    from bench.run import cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["bench.run", *arguments])
        capfd.readouterr()
        code = cli()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return call
