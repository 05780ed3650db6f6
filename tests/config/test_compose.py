"""Wrong input: one clear line with the value, the valid ones and the remedy, exit code 2, and nothing written."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from bench.cells.compatibility import Misfit
from bench.config import compose
from bench.config.compose import cells
from bench.config.register import register

Run = Callable[..., subprocess.CompletedProcess[str]]

COMPLETE = "name: mine\nfamily: x\npaper: x\nlr: 1e-3\nlr_source: x\n"
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
    "head's rate zero": (["protocol.head_lr=0"], ["protocol.head_lr=0.0", "above 0", "finite"]),
    "head's rate infinite": (["protocol.head_lr=inf"], ["protocol.head_lr=inf", "above 0", "finite"]),
    "task's rate of the head": (["task.head_lr=-1"], ["protocol.head_lr=-1.0", "above 0"]),
    "head's rate as a ratio": (["+method.lr_ratio.head=0.1"], ["method.lr_ratio", "'head'", "protocol.head_lr"]),
    "unknown scale": (["scale=root"], ["scale 'root' is unknown", "choose from fixed, rank, sqrt"]),
    "alpha of nothing": (["scale.alpha=0"], ["scale.alpha=0", "at least 1"]),
    "two budgets": (
        ["protocol.steps=100", "protocol.epochs=3"],
        ["protocol.steps=100 and protocol.epochs=3 are both set"],
    ),
    "two budgets of a task": (
        ["task.epochs=3", "protocol.steps=5"],
        ["protocol.steps=5 and task.epochs=3 are both set"],
    ),
    "two budgets in a grid": (["-m", "protocol.steps=9,8", "protocol.epochs=3"], ["protocol.steps=9", "are both set"]),
    "no steps": (["protocol.steps=0"], ["protocol.steps=0", "at least 1"]),
    "evaluation every zero steps": (["protocol.eval_steps=0"], ["protocol.eval_steps=0", "at least 1"]),
    "negative warm-up": (["protocol.warmup_steps=-1"], ["protocol.warmup_steps=-1", "at least 0"]),
    "nothing but warm-up": (["protocol.warmup_steps=225"], ["protocol.warmup_steps=225", "225 updates", "below"]),
    "too few candidates": (["protocol.candidates=2"], ["protocol.candidates=2", "at least 3", "null"]),
    "no finalists": (["protocol.finalists=0"], ["protocol.finalists=0", "at least 1", "candidates=7"]),
    "too many finalists": (["protocol.finalists=8"], ["protocol.finalists=8", "at most", "candidates=7"]),
    "negative tuning seed": (["protocol.tune_seed=-1"], ["protocol.tune_seed=-1", "at least 0"]),
    "tuning seed in the report": (["seeds=[0,1000]"], ["protocol.tune_seed=1000 is one of seeds=[0, 1000]"]),
    "no seeds": (["seeds=[]"], ["seeds is empty"]),
    "negative seed": (["seeds=[-1]"], ["seeds=[-1]", "at least 0"]),
    "batch of nothing": (["protocol.batch=0"], ["batch=0", "at least 1"]),
    "dropout": (["protocol.dropout=1.5"], ["protocol.dropout=1.5"]),
    "too long": (["protocol.max_length=1000"], ["protocol.max_length=1000", "512"]),
    "unknown key": (["rnk=8"], ["unknown setting 'rnk'", "--help"]),
    "unknown nested key": (["protocol.epoch=3"], ["unknown setting 'protocol.epoch'", "epochs"]),
    "unknown added key": (["+protocol.foo=3"], ["protocol.foo", "epochs"]),
    "wrong type": (["force=perhaps"], ["force", "perhaps"]),
    "unknown enum": (["precision=fp8"], ["precision", "fp8", "bf16"]),
    "no such folder": (["task=sst2", "task.path=nowhere"], ["task.path=nowhere is not a folder", "train.tsv"]),
    "no such model folder": (["model.name=./nowhere"], ["./nowhere", "config.json", "model.name="]),
    "no such package": (["model.name=package:no_such_thing/model"], ["no_such_thing", "pip install"]),
    "bad syntax": (["rank=[1"], ["rank=[1"]),
    "bad dtype of attach": (["method.attach.config.r=[1]"], ["lora"]),
    "unknown attach setting": (["+method.attach.config.lora_alfa=3"], ["lora_alfa"]),
    "template with an unknown place": (
        ["method.template='{text} {x}'"],
        ["method.template='{text} {x}' has the unknown placeholder {x}; it needs {text}"],
    ),
    "template with a place without a name": (["method.template='{text} {}'"], ["unknown placeholder {}"]),
    "template with an open brace": (["method.template='{text} {'"], ["method.template=", "write {{ for a brace"]),
    "template without a place": (["method.template=words"], ["method.template='words'", "{text}"]),
    "wrong architecture": (["method=llama_adapter"], ["'llama_adapter' does not fit minilm", "it fits llama"]),
    "wrong base": (["method=bitfit", "quant=nf4"], ["'bitfit'", "quantised to nf4", "works on quant=none"]),
    "unknown base": (["quant=nf8"], ["quant 'nf8' is unknown", "nf4", "int8"]),
    "unknown optimizer": (["optim=adam"], ["optim 'adam' is unknown", "adamw", "sgd_momentum"]),
    "merging what cannot be": (["method=adapter", "save=merged"], ["'adapter' cannot be merged", "save=adapter"]),
    "nothing to keep": (["save=everything"], ["save", "everything", "merged"]),
    "pack of nothing": (["pack=0"], ["pack=0", "auto", "whole number"]),
    "pack of a word": (["pack=many"], ["pack=many", "auto", "whole number"]),
    "unknown way": (["fast.linear=mkl"], ["linear", "mkl", "onednn"]),
    "unknown adapter place": (["method=adapter", "method.attach.after=[nose]"], ["nose", "feed_forward"]),
}


@pytest.mark.parametrize("words", [
    ["protocol.steps=null", "protocol.epochs=3"], ["protocol=smoke", "protocol.steps=5"],
    ["seeds=[1000]", "protocol=smoke"], ["protocol=quick"], ["protocol=smoke", "protocol.finalists=0"],
])  # fmt: skip
def test_settings_that_do_not_contradict_are_allowed(words: list[str]) -> None:
    assert len(cells(words, multirun=False)) == 1


GRIDS = {
    "values": ["method=lora,adapter", "rank=1,4", "protocol.steps=9"],
    "files and values": ["task=reviews,quiz", "model=minilm,tiny-llama", "lrs=[1e-3],[2e-3]", "quant.double=false"],
    "a sweep": ["+sweeps=lora_table6", "seeds=[0,1]"],
    "the user's files": ["method=mine,lora", "rank=2,4", "+method.lr_ratio.lora_B=2"],
    "added and deleted settings": [
        "++task.load.text=a,b",
        "+task.load.key=c",
        "~task.load.key",
        "scale=fixed,sqrt",
        "scale.alpha=8",
    ],
    "Hydra's settings": ["hydra.sweep.dir=elsewhere", "rank=1,2"],
}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of each job that Hydra itself composes from yaml files."""
    loads, load = [], ConfigLoaderImpl.load_sweep_config

    def counted(loader: ConfigLoaderImpl, master: DictConfig, overrides: list[str]) -> DictConfig:
        loads.append(overrides)
        return load(loader, master, overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    return loads


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_composed_as_hydra_composes_each_job(name: str, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [lora, _self_]\nname: mine\nlr: 2e-3\n")
    overrides = [*GRIDS[name], f"hydra.searchpath=[file://{tmp_path}]"]
    register()
    with initialize_config_dir(str(compose.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
        swept = [f"{key}={value}" for key, value in (master.hydra.sweeper.get("params") or {}).items()]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *overrides])
        own = [override for override in parsed if not override.is_hydra_override()]
        (jobs,) = BasicSweeper.split_arguments(own, max_batch_size=None)
        ours = list(compose.compose_jobs(loader, master, jobs))
        theirs = [loader.load_sweep_config(master, list(job)) for job in jobs]
    assert len(jobs) > 1
    for our, their in zip(ours, theirs, strict=True):
        assert {key: our[key] for key in our if key != "hydra"} == {key: their[key] for key in their if key != "hydra"}


def test_the_files_of_a_grid_are_read_once(loads: list[list[str]]) -> None:
    cells(["method=lora,adapter", "rank=1,2,4", "target=q"], multirun=True)
    assert loads == [["method=lora", "target=q"], ["method=adapter", "target=q"]]


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


def test_a_wrong_cell_stops_a_grid_before_its_first_cell(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline("-m", *tiny, "method=head,lora", "target=q,qz")
    assert done.returncode == 2
    assert "qz" in done.stderr
    assert not (tmp_path / "results").exists()


def fitting(*overrides: str) -> tuple[list[str], list[str]]:
    """Return the titles of a grid's cells and the messages about those that are skipped."""
    messages: list[str] = []
    return [cell.title for cell in cells(list(overrides), multirun=True, say=messages.append)], messages


def test_an_invalid_combination_is_skipped_in_a_grid_and_reported_once(tiny: list[str]) -> None:
    titles, messages = fitting(*tiny, "method=head,lora,adapter", "rank=4,33", "target=q")
    assert sorted(titles) == ["adapter r=4", "head", "head", "lora r=4 q"]
    (line,) = messages  # the reason is the same for lora and adapter
    assert line.startswith("left out: rank=33 is larger than the matrices of ")
    assert line.endswith("choose a rank from 1 to 32")
    assert "\n" not in line


def test_every_reason_for_skipping_is_reported(tiny: list[str]) -> None:
    titles, messages = fitting(*tiny, "method=bitfit,lora", "quant=none,nf4", "rank=4,33", "target=q")
    assert sorted(titles) == ["bitfit", "bitfit", "lora r=4 q", "lora r=4 q nf4"]
    assert [line.partition(" is larger ")[0] for line in messages if "rank" in line] == ["left out: rank=33"]
    assert [line for line in messages if line.startswith("left out: method 'bitfit' does not work on a base quantised")]
    assert len(messages) == 2


def test_a_valid_grid_reports_nothing(tiny: list[str]) -> None:
    assert fitting(*tiny, "method=head,lora", "target=q") == (["head", "lora r=4 q"], [])


def test_a_grid_without_a_valid_cell_is_an_error(tiny: list[str]) -> None:
    messages: list[str] = []
    with pytest.raises(Misfit, match="rank=33"):
        cells([*tiny, "method=lora,adapter", "rank=33,34"], multirun=True, say=messages.append)
    assert messages == []


def test_an_invalid_combination_requested_alone_is_an_error(tiny: list[str]) -> None:
    with pytest.raises(Misfit, match="rank=33"):
        cells([*tiny, "method=lora", "rank=33"], multirun=False)


def test_a_wrong_value_in_a_grid_is_not_skipped(tiny: list[str]) -> None:
    with pytest.raises(ValueError, match="'z' is unknown") as caught:
        cells([*tiny, "method=lora,head", "target.parts=[z],[q]"], multirun=True, say=pytest.fail)
    assert not isinstance(caught.value, Misfit)


def test_ranks_beyond_the_number_of_layers_are_one_cell(tiny: list[str]) -> None:
    ids = [cell.id for cell in cells([*tiny, "method=top_k", "rank=1,2,6,8"], multirun=True, say=pytest.fail)]
    assert ids[0] != ids[1] == ids[2] == ids[3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: mine\nlr: fast\n", ["method.lr", "fast"]),
        ("name: mine\nlearning_rate: 1e-3\n", ["learning_rate", "lr_source"]),
        (
            COMPLETE + "uses: [rnak]\nattach: {_target_: a.b}\n",
            ["rnak", "target"],
        ),
        (
            COMPLETE + "uses: []\nattach: {}\n",
            ["method.attach", "_target_"],
        ),
        ("name: mine\n", ["method.", "is missing: set it in the yaml of the method"]),
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
