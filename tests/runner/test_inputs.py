"""A cell's inputs and output folders are checked before anything is trained: a fault is one line and exit code 2."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import WORDS
from test_mcq_run import SMALL
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertForMaskedLM, BertTokenizerFast, PreTrainedTokenizerFast

from bench.config.compose import cells
from bench.models import weights
from bench.models.source import Source
from bench.runner import worker
from bench.runner.build import load_data

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder that a test may damage."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "my-bert"))


@pytest.fixture
def refused(inline: Run, tiny: list[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must be rejected, and return its one-line error. Nothing may be recorded."""

    def call(*words: str) -> str:
        done = inline(*tiny, "seeds=[0]", *words)
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert not list(tmp_path.rglob("*.json.*"))
        assert not [path for path in tmp_path.rglob("*.json") if path.name.startswith(("lr", "probe"))]
        return line

    return call


@pytest.fixture
def sharded(tiny_bert: Path, folder: Path) -> Path:
    """The same model in several files with an index."""
    (folder / "model.safetensors").unlink()
    BertForMaskedLM.from_pretrained(tiny_bert).save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def test_weights_in_several_files_are_accepted(sharded: Path, inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline(*tiny, "seeds=[0]", "method=head", f"model.name={sharded}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_weight_file_is_named(sharded: Path, refused: Callable[..., str]) -> None:
    lost = sorted(sharded.glob("model-*.safetensors"))[1]
    lost.unlink()
    line = refused(f"model.name={sharded}")
    assert f"{lost.name}, listed in model.safetensors.index.json, is missing" in line


@pytest.mark.parametrize("end", [-64, 100, 4, 0])
def test_a_truncated_weight_file_is_named(end: int, folder: Path, refused: Callable[..., str]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:end])
    assert f"{path} is not a complete weight file" in refused(f"model.name={folder}")


def test_a_broken_index_and_unexpected_weight_files_are_named(sharded: Path) -> None:
    source = Source("x", str(sharded), None, "sha256:0", random=False, config={})
    (sharded / "model.safetensors.index.json").write_text('{"metadata": {}}')
    with pytest.raises(ValueError, match=r"index\.json is not an index of weight files"):
        weights.check_weights(source)
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor .*weight files: model-00001-of"):
        weights.check_weights(source)


def test_the_downloaded_files_of_a_hub_model_are_checked(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(sharded.glob("model-*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:-8])
    files[1].unlink()  # not downloaded yet
    cached = {path.name: str(path) for path in sharded.iterdir()}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name, revision: cached.get(name))
    source = Source("x", "somebody/model", "0" * 40, "somebody/model@0", random=False, config={})
    with pytest.raises(ValueError, match=rf"{files[0].name} is not a complete weight file"):
        weights.check_weights(source)
    files[0].unlink()
    cached.pop(files[0].name)
    weights.check_weights(source)


def test_a_tokenizer_of_a_larger_model_is_refused(folder: Path, refused: Callable[..., str]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"new{number}" for number in range(30)), *WORDS]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    line = refused(f"model.name={folder}")
    assert f"but the model's embedding has {5 + len(WORDS)} rows (vocab_size)" in line


def test_a_tokenizer_without_a_padding_token_is_refused(folder: Path, refused: Callable[..., str]) -> None:
    unknown = "[UNK]"
    rules = Tokenizer(WordLevel({word: number for number, word in enumerate([unknown, *WORDS])}, unk_token=unknown))
    rules.pre_tokenizer = Whitespace()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    PreTrainedTokenizerFast(tokenizer_object=rules, unk_token=unknown).save_pretrained(folder)
    assert "has neither a padding token nor an end-of-text token" in refused(f"model.name={folder}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{text} {label}", "has the unknown placeholder {label}"),
        ("{text} {}", "has the unknown placeholder {}"),
        ("{text.upper}", "lacks the placeholder {text}"),
        ("{text:{x}}", "'x'"),
        ("{text:d}", "Unknown format code 'd'"),
        ("{text", "expected '}'"),
        ("no text", "lacks the placeholder {text}"),
    ],
)
def test_an_invalid_template_is_refused(template: str, message: str, tiny: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^method\.template=") as caught:
        cells([*tiny, "method=p_tuning", f"method.template='{template}'"], multirun=False)
    assert message in str(caught.value)


def test_letters_that_are_no_single_tokens_are_refused(questions: Path, inline: Run, tmp_path: Path) -> None:
    words = ["task=medmcqa", f"task.path={questions}", *SMALL, "task.select_rows=12", "rank=4", "method=lora"]
    folders = [f"{name}_dir={tmp_path / name}" for name in ("results", "cache")]
    done = inline(*words, *folders, "prompt.letters='the letter {letter}'")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "are not single tokens of this model's tokenizer" in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("where", ["question", "opb"])
def test_half_of_a_surrogate_pair_is_refused_with_its_line(
    where: str, questions: Path, inline: Run, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(questions, tmp_path / "data"))
    rows = (data / "train.json").read_text().splitlines()
    rows[5] = json.dumps(json.loads(rows[5]) | {where: "the brain \ud83d of it"})
    (data / "train.json").write_text("\n".join(rows))
    words = ["task=medmcqa", f"task.path={data}", *SMALL, "task.select_rows=12", "rank=4", "method=lora"]
    done = inline(*words, *(f"{name}_dir={tmp_path / name}" for name in ("results", "cache")))
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "train.json: line 6 holds \\ud83d, half of a surrogate pair" in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("setting", ["results_dir", "cache_dir", "save_dir", "WANDB_DIR", "hydra.run.dir"])
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    setting: str, place: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    before = {path.name for path in tmp_path.iterdir()}
    words = ["track=offline"] if setting == "WANDB_DIR" else [f"{setting}={place}", "save=adapter"]
    monkeypatch.setenv("WANDB_DIR", place if setting == "WANDB_DIR" else "elsewhere")
    monkeypatch.setattr("bench.runner.launch.check_in_worker", lambda _: pytest.fail("a worker has begun"))
    line = refused(*words)
    assert line.startswith(f"error: {setting}: ")
    assert f"choose another {setting}" in line
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_check_creates_no_folder(tiny: list[str], tmp_path: Path) -> None:
    from bench.runner.preflight import check_ready

    check_ready(cells([*tiny, "save=adapter", f"save_dir={tmp_path / 'a' / 'b'}"], multirun=False))
    assert not list(tmp_path.iterdir())


def test_texts_that_the_check_encoded_are_not_encoded_again(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = cells(["-m", *tiny, "method=lora,head", "rank=2"][1:], multirun=True)
    answers: list[object] = []
    worker.check_cells(jobs, type("Pipe", (), {"send": staticmethod(answers.append)}))  # type: ignore[arg-type]
    assert answers == [({}, None)]
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert stored
    monkeypatch.setattr("bench.tasks.encoding.token_cache.replace_file", lambda *_: pytest.fail("it was encoded again"))
    for cell in jobs:
        load_data(cell)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == stored
