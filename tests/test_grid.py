"""Wrong input: one clear line that names the value, what is allowed and the remedy; exit code 2; nothing written."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

COMPLETE = "name: mine\nfamily: x\npaper: x\nlr: 1e-3\nlr_grid: [1e-3]\nlr_source: x\n"
WRONG = {
    "unknown method": (["method=lorra"], ["method 'lorra' is unknown", "lora", "bitfit"]),
    "unknown target": (["target=qz"], ["target 'qz' is unknown", "qkvo"]),
    "unknown model": (["model=gpt"], ["model 'gpt' is unknown", "minilm"]),
    "unknown task": (["task=imdb"], ["task 'imdb' is unknown", "reviews"]),
    "unknown target part": (["target.parts=[q,z]"], ["target part 'z' is unknown for bert", "down"]),
    "rank zero": (["rank=0"], ["rank=0", "at least 1"]),
    "rank too large": (["rank=385"], ["rank=385 is larger than the matrices", "1 to 384"]),
    "rank no number": (["rank=many"], ["rank", "many", "Integer"]),
    "learning rate zero": (["lrs=[0]"], ["lrs", "above 0"]),
    "no seeds": (["seeds=[]"], ["seeds is empty"]),
    "negative seed": (["seeds=[-1]"], ["seeds=[-1]", "at least 0"]),
    "batch of nothing": (["protocol.batch=0"], ["batch=0", "at least 1"]),
    "dropout": (["protocol.dropout=1.5"], ["protocol.dropout=1.5"]),
    "too long": (["protocol.max_length=1000"], ["protocol.max_length=1000", "512"]),
    "unknown key": (["rnk=8"], ["'rnk' is no setting", "--help"]),
    "unknown nested key": (["protocol.epoch=3"], ["'protocol.epoch' is no setting", "epochs"]),
    "unknown added key": (["+protocol.foo=3"], ["protocol.foo", "epochs"]),
    "wrong type": (["force=perhaps"], ["force", "perhaps"]),
    "unknown enum": (["precision=fp8"], ["precision", "fp8", "bf16"]),
    "no such folder": (["task=sst2", "task.path=nowhere"], ["task.path=nowhere is not a folder", "train.tsv"]),
    "no such model folder": (["model.name=./nowhere"], ["./nowhere", "config.json", "model.name="]),
    "no such package": (["model.name=package:no_such_thing/model"], ["no_such_thing", "pip install"]),
    "bad syntax": (["rank=[1"], ["rank=[1"]),
    "bad dtype of attach": (["method.attach.config.r=[1]"], ["lora"]),
    "unknown attach setting": (["+method.attach.config.lora_alfa=3"], ["lora_alfa"]),
    "unknown adapter place": (["method=adapter", "method.attach.after=[nose]"], ["nose", "feed_forward"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_clear_line(name: str, inline: Run, tmp_path: Path) -> None:
    arguments, words = WRONG[name]
    done = inline(*arguments, "track=off")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_wrong_cell_of_a_grid_stops_all_before_the_first(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline("-m", *tiny, "method=head,lora", "target=q,qz")
    assert done.returncode == 2
    assert "qz" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: mine\nlr: fast\n", ["method.lr", "fast"]),
        ("name: mine\nlearning_rate: 1e-3\n", ["learning_rate", "lr_grid"]),
        (
            COMPLETE + "uses: [rnak]\nattach: {_target_: a.b}\n",
            ["rnak", "target"],
        ),
        (
            COMPLETE + "uses: []\nattach: {}\n",
            ["method.attach", "_target_"],
        ),
        ("name: mine\n", ["method."]),
        ("name: [mine\n", ["mine"]),
    ],
)
def test_a_wrong_yaml_is_one_clear_line(text: str, words: list[str], inline: Run, tmp_path: Path) -> None:
    (tmp_path / "extra" / "method").mkdir(parents=True)
    (tmp_path / "extra" / "method" / "mine.yaml").write_text(text)
    done = inline("--config-dir", str(tmp_path / "extra"), "method=mine", "track=off")
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["extra"]
