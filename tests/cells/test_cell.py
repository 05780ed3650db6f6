"""Which settings make up the ids of cells and trials, by which records are looked up."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.cells.cell import Cell
from bench.cells.identity import NEUTRAL, NUMERICS
from bench.config import accelerator
from bench.config import function_names as functions
from bench.config.compose import cells
from bench.config.former_paths import with_current_paths
from bench.config.resolved import call, typed
from bench.config.schema import Config
from bench.config.user_sources import targets_of

# Config groups; other overrides are single values and need no composing.
COMPOSED = ("method", "target", "rank", "scale", "quant", "optim")


@pytest.fixture
def base(tiny: list[str]) -> list[str]:
    """The overrides, equal for all tests, of a cell that needs neither a hub nor an installed model."""
    return [override for override in tiny if not override.startswith(("results_dir", "cache_dir", "rank", "precision"))]


@cache
def composed(*overrides: str) -> Cell:
    (composed_cell,) = cells(list(overrides), multirun=False)
    return composed_cell


def cell(base: list[str], *more: str) -> Cell:
    """Return the cell of these overrides."""
    groups = {"method": "method=lora", "rank": "rank=4"}
    groups |= {override.partition("=")[0]: override for override in more if override.partition("=")[0] in COMPOSED}
    unchanged = composed(*base, *groups.values())
    if not (leaves := [override.lstrip("+") for override in more if override not in groups.values()]):
        return unchanged
    return Cell.of(OmegaConf.merge(Config, unchanged.config, OmegaConf.from_dotlist(leaves)))


def test_a_grid_keeps_its_order_and_repeats_equal_cells(base: list[str]) -> None:
    grid = cells([*base, "method=lora,ia3", "rank=1,4"], multirun=True)
    assert [member.title for member in grid] == ["lora r=1 qv", "lora r=4 qv", "ia3 kv+down", "ia3 kv+down"]
    assert len({member.id for member in grid}) == 3


@pytest.mark.parametrize(("method", "unused"), [
    ("ia3", ["rank"]), ("adapter", ["target"]), ("adapter_pfeiffer", ["target"]), ("full", ["rank", "target"]),
    ("head", ["rank", "target"]), ("bitfit", ["rank", "target"]), ("top_k", ["target"]),
])  # fmt: skip
def test_an_unused_axis_does_not_split_a_cell(method: str, unused: list[str], base: list[str]) -> None:
    low, high = {"rank": "rank=1", "target": "target=q"}, {"rank": "rank=8", "target": "target=all"}
    first, second = (cell(base, f"method={method}", *(values[axis] for axis in unused)) for values in (low, high))
    assert first.id == second.id
    assert first.identity == second.identity
    assert first.folder == second.folder
    assert first.trials == second.trials


@pytest.mark.parametrize(
    ("method", "axis"), [("lora", "rank"), ("lora", "target"), ("adapter", "rank"), ("ia3", "target")]
)
def test_a_used_axis_splits_a_cell(method: str, axis: str, base: list[str]) -> None:
    values = {"rank": ("1", "4"), "target": ("q", "mlp")}[axis]
    first, second = (cell(base, f"method={method}", f"{axis}={value}") for value in values)
    assert first.id != second.id
    assert first.folder != second.folder


@pytest.mark.parametrize("method", ["adapter", "ia3", "full", "adalora", "loftq", "gralora", "hira"])
def test_a_method_without_a_scale_is_the_same_cell_under_every_scale(method: str, base: list[str]) -> None:
    variants = [cell(base, f"method={method}", "rank=8", f"scale={scale}") for scale in ("rank", "fixed", "sqrt")]
    assert len({variant.id for variant in variants}) == 1
    assert [variant.scale for variant in variants] == [None] * 3


@pytest.mark.parametrize("method", [
    "lora", "qlora", "dora", "lora_plus", "lora_fa", "pissa", "olora", "eva",
])  # fmt: skip
def test_the_lora_family_is_another_cell_under_every_scale(method: str, base: list[str]) -> None:
    """This holds even if two policies give the same alpha, so that a table of policies has no gap."""
    variants = [cell(base, f"method={method}", "rank=32", f"scale={scale}") for scale in ("rank", "fixed", "sqrt")]
    assert len({variant.id for variant in variants}) == 3
    assert [variant.scale for variant in variants] == [None, "fixed", "sqrt"]
    configs = [variant.config["method"]["attach"]["config"] for variant in variants]
    assert [(config["lora_alpha"], config["use_rslora"]) for config in configs] == [
        (32, False),
        (32, False),
        (32, True),
    ]


def test_another_alpha_is_another_cell(base: list[str]) -> None:
    assert len({composed(*base, "rank=4", "scale=fixed", f"scale.alpha={alpha}").id for alpha in (16, 32)}) == 2


def test_rslora_is_lora_under_the_scale_sqrt(base: list[str]) -> None:
    rslora, lora = cell(base, "method=rslora"), cell(base, "method=lora", "scale=sqrt")
    assert (rslora.id, rslora.title, rslora.folder, rslora.method) == (lora.id, lora.title, lora.folder, "lora")
    assert cell(base, "method=rslora", "scale=rank").id == cell(base).id


@pytest.mark.parametrize("same", ["target=qv", "target.parts=[v,q]", "target.parts=[q,v,q]"])
def test_the_spelling_of_a_target_does_not_split_a_cell(same: str, base: list[str]) -> None:
    default, respelled = cell(base, "target=default"), cell(base, same)
    assert default.id == respelled.id
    assert default.target == respelled.target == "qv"
    assert default.folder == respelled.folder


@pytest.mark.parametrize("override", [
    "lrs=[1e-5]", "lrs=[1e-5,1e-4]", "lrs=all", "lrs=published", "seeds=[7]",
    "protocol.tune_seed=7", "protocol.candidates=5", "protocol.finalists=2", "workers=2",
    "seeds=[0,1,2,3]", "track.mode=offline",
    "track.project=mine", "results_dir=elsewhere", "cache_dir=elsewhere", "force=true", "device=cpu", "device=cuda",
    "protocol.probe_steps=9", "protocol.name=mine", "method.lr=1e-5", "method.paper=none", "method.family=mine",
    "model.label=mine", "merge=true", "save=adapter", "save=merged", "save_dir=elsewhere",
    "method.merges_into=[full,nf4]", "method.quant=[]", "method.models=[bert]", "method.rank_is=mine",
    "method.rank_step=2", "method.needs_cuda=true",
])  # fmt: skip
def test_what_changes_no_result_does_not_split_a_cell(override: str, base: list[str]) -> None:
    base = [*base, "precision=fp32"]  # what `auto` means depends on the device
    changed, unchanged = cell(base, override), cell(base)
    assert changed.config != unchanged.config
    assert changed.id == unchanged.id


@pytest.mark.parametrize("override", [
    "protocol.batch=16", "protocol.epochs=2", "protocol.train_rows=32", "protocol.train_rows=null",
    "protocol.dropout=0.1", "protocol.dropout=0.2", "protocol.weight_decay=0.1", "protocol.warmup=0", "protocol.clip=2",
    "protocol.max_length=16", "protocol.data_seed=1", "precision=bf16", "protocol.head_lr=2e-3",
    "protocol.steps=10", "protocol.warmup_steps=0", "protocol.eval_steps=2",
    "task.labels=[bad,good]", "task.labels=[positive,negative]", "task.select_rows=20", "task.name=mine",
    "+task.load.text=text", "model.weights=random", "method=ia3", "method=adapter", "method.name=mine",
    "method.attach.config.lora_dropout=0.1", "method.attach.config.lora_alpha=32",
    "+method.attach.config.use_dora=true", "quant=nf4", "quant=fp4", "quant=int8",
    "scale=fixed", "scale=sqrt", "optim=sgd_momentum", "optim=lion",
    "+optim.build.amsgrad=true", "method.lr_ratio.lora_B=20", "method.head_at_lr=true",
    "method.hooks._target_=bench.hooks.Hooks", "method.template=it was {text}",
])  # fmt: skip
def test_what_changes_the_result_splits_a_cell(override: str, base: list[str]) -> None:
    assert cell(base, override).id != cell(base).id


@pytest.mark.parametrize(("budget", "unused"), [
    ("protocol.steps=9", "protocol.epochs=7"), ("protocol.warmup_steps=3", "protocol.warmup=0.5"),
    ("protocol.tokens=64", "protocol.batch=3"),
])  # fmt: skip
def test_a_setting_that_another_replaces_does_not_split_a_cell(budget: str, unused: str, base: list[str]) -> None:
    without_unused, with_unused = cell(base, budget), cell(base, budget, unused)
    assert without_unused.id == with_unused.id != cell(base).id
    assert unused.partition("=")[0].removeprefix("protocol.") not in without_unused.identity["protocol"]


def test_budgets_that_are_not_set_are_not_in_the_identity(base: list[str]) -> None:
    assert not {"steps", "warmup_steps", "eval_steps", "tokens"} & set(cell(base).identity["protocol"])


@pytest.mark.parametrize("form", ["mask", "head"])
def test_the_heads_rate_splits_a_cell_where_there_is_a_head(form: str, base: list[str]) -> None:
    words = [f"task.form={form}", "task.cloze='{text} {mask}'", "task.words=[bad,good]"] if form == "mask" else []
    first, second = (cell(base, *words, f"protocol.head_lr={rate}") for rate in ("1e-3", "2e-3"))
    assert (first.id == second.id) == (form == "mask")


@pytest.mark.parametrize("override", ["quant.double=true", "quant.compute=bf16"])
def test_how_a_quantised_base_is_stored_and_computed_splits_a_cell(override: str, base: list[str]) -> None:
    assert cell(base, "quant=nf4", override).id != cell(base, "quant=nf4").id


def test_a_base_in_the_precision_of_its_cell_does_not_split_a_cell(base: list[str]) -> None:
    assert cell(base, "quant=nf4", "quant.compute=fp32").id == cell(base, "quant=nf4").id


# ---- The precision: set by a rule, and part of a cell's identity -----------------------------------------------------


GPU = {"its driver tells": 9, "its driver does not tell": None}


@pytest.fixture(params=GPU)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with a GPU, and a torch that is built for it."""
    pretend(GPU[request.param], monkeypatch)


def pretend(capability: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "NVIDIA", (sys.executable,))
    monkeypatch.setattr(accelerator, "_built_for_gpus", lambda: True)
    monkeypatch.setattr(accelerator, "_capability", lambda _: capability)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def ids(base: list[str], *words: str) -> list[str]:
    return [cell(base, *word.split()).id for word in words]


def test_auto_is_fp32_on_a_cpu(base: list[str]) -> None:
    assert len(set(ids(base, "precision=auto", "precision=fp32", "precision=auto device=cpu"))) == 1
    assert cell(base, "precision=auto").identity["precision"] == "fp32"
    assert cell(base, "precision=bf16").identity["precision"] == "bf16"


@pytest.mark.usefixtures("gpu")
def test_auto_is_bf16_on_a_gpu(base: list[str]) -> None:
    bf16_ids = ids(base, "precision=auto", "precision=bf16", "precision=auto device=cuda", "precision=bf16 device=cpu")
    assert len(set(bf16_ids)) == 1
    assert bf16_ids[0] not in ids(base, "precision=auto device=cpu", "precision=fp32")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_auto_is_fp32_on_a_gpu_without_bf16(device: str, base: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(7, monkeypatch)
    assert ids(base, f"precision=auto device={device}") == ids(base, "precision=fp32")


def test_a_gpu_that_the_installed_torch_is_not_built_for_changes_nothing(
    base: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accelerator, "NVIDIA", (sys.executable,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").touch()
    monkeypatch.setattr(accelerator, "find_spec", lambda _: SimpleNamespace(origin=str(torch / "__init__.py")))
    for line, meant in (("None", "fp32"), ("'13.0'", "bf16")):
        (torch / "version.py").write_text(
            f"from typing import Optional\ncuda: Optional[str] = {line}\nhip: str = None\n"
        )
        assert cell(base, "precision=auto").precision == meant


def test_device_cuda_means_the_same_cell_on_a_machine_without_a_gpu(base: list[str]) -> None:
    """For example, a job may be prepared on a login node."""
    assert ids(base, "precision=auto device=cuda") == ids(base, "precision=bf16")


def test_a_base_in_bf16_computes_in_bf16(base: list[str]) -> None:
    assert cell(base, "quant=bf16").identity["precision"] == "bf16"
    assert ids(base, "quant=bf16") == ids(base, "quant=bf16 precision=bf16")


# ---- Names that stay when code moves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "old", "new"), [
    ("peft", "bench.methods.peft_library.attach", "bench.methods.elsewhere.attach"),
    ("glue", "bench.tasks.loaders.glue.load", "bench.tasks.elsewhere.load"),
])  # fmt: skip
def test_a_module_that_moves_renames_no_cell(
    name: str, old: str, new: str, base: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cell(base)
    monkeypatch.setitem(functions.FUNCTIONS, name, new)
    after = replace(before, conf=typed(Config, json.loads(json.dumps(before.config).replace(old, new))))
    assert after.config != before.config
    assert after.id == before.id


@pytest.mark.parametrize("old", functions.MOVED)
def test_a_yaml_with_the_former_path_of_a_function_means_the_same_cell_and_function(old: str) -> None:
    node = {"inner": [{"_target_": old, "_partial_": True, "size": 2}]}
    new = functions.FUNCTIONS[functions.MOVED[old]]
    assert with_current_paths(node) == {"inner": [{"_target_": new, "_partial_": True, "size": 2}]}
    assert functions.with_names(node) == functions.with_names(with_current_paths(node))
    assert callable(call({"_target_": old, "_partial_": True}))


def test_no_module_of_bench_is_in_an_identity(base: list[str]) -> None:
    for path in (REPOSITORY / "conf" / "method").glob("*.yaml"):
        node = yaml.safe_load(path.read_text("utf-8"))
        for part in ("attach", "hooks"):
            named = json.dumps(functions.with_names(node.get(part) or {}))
            assert "bench." not in named, f"{path}: name its function in bench/config/function_names.py"
    assert "bench." not in json.dumps(cell(base, "method=adalora", "rank=8", "optim=lion").identity)


def test_every_bench_function_in_a_yaml_has_a_unique_name() -> None:
    nodes = [yaml.safe_load(path.read_text("utf-8")) for path in (REPOSITORY / "conf").rglob("*.yaml")]
    ours = {target for target in targets_of(nodes) if target.startswith("bench.")}
    assert set(functions.FUNCTIONS.values()) <= ours
    names = {path: functions.with_names({"_target_": path})["call"] for path in ours}
    assert len(set(names.values())) == len(names), "give these functions names in bench/config/function_names.py"
    assert not [name for name in names.values() if "." in name]  # paths of libraries and users contain a dot
    for path in ours:
        assert callable(call({"_target_": "hydra.utils.get_object", "path": path}))


def test_an_unlisted_function_of_ours_goes_by_its_own_name_wherever_it_is() -> None:
    for path in ("bench.methods.selective.last_blocks", "bench.methods.elsewhere.last_blocks"):
        assert functions.with_names({"_target_": path}) == {"call": "last_blocks"}
    for path in ("bench.methods.elsewhere.full", "mine.last_blocks", "peft.LoraConfig"):  # taken; not ours
        assert functions.with_names({"_target_": path}) == {"call": path}


@pytest.mark.parametrize("other", [
    "bench.methods.adapter.attach_parallel", "bench.methods.diff_pruning.attach", "bench.methods.blocks.attach",
    "peft.adapter", "adapter.attach",
])  # fmt: skip
def test_two_functions_never_share_an_identity(other: str, base: list[str]) -> None:
    """This holds even if their settings and the last part of their paths are equal."""
    assert ids(base, f"method=adapter method.attach._target_={other}") != ids(base, "method=adapter")


def test_a_rank_beyond_the_models_layers_is_the_rank_of_all_layers(base: list[str]) -> None:
    """tiny_bert has two layers."""
    first, second, beyond, farther = (cell(base, "method=top_k", f"rank={rank}") for rank in (1, 2, 6, 8))
    assert len({second.id, beyond.id, farther.id}) == 1
    assert second.config == beyond.config == farther.config
    assert (farther.rank, farther.config["method"]["attach"]["layers"], farther.title) == (2, 2, "top_k r=2")
    assert farther.folder == second.folder
    assert farther.trials == second.trials
    assert first.id != second.id


def test_a_rank_within_the_models_width_stays_as_it_is(base: list[str]) -> None:
    assert [cell(base, f"rank={rank}").rank for rank in (1, 3, 32)] == [1, 3, 32]


def moved(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_data_and_model_in_another_folder_are_the_same_cell(
    base: list[str], tiny_bert: Path, tiny_sst2: Path, tmp_path: Path
) -> None:
    model, data = moved(tiny_bert, tmp_path / "there" / "model"), moved(tiny_sst2, tmp_path / "there" / "data")
    assert cell(base, f"model.name={model}", f"task.path={data}").id == cell(base).id


def test_a_method_that_races_the_heads_rate_has_no_separate_rate_for_the_head(base: list[str]) -> None:
    from bench.runner.build import recipe_of  # imports torch

    rates = {
        name: recipe_of(cell(base, f"method={name}", "protocol.head_lr=2e-3")).head_lr for name in ("lora", "head")
    }
    assert rates == {"lora": 2e-3, "head": None}


def test_a_relative_path_names_the_same_cell(base: list[str], tiny_sst2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_sst2.parent)
    assert cell(base, f"task.path={tiny_sst2.name}").id == cell(base).id


@pytest.mark.parametrize("name", ["train.tsv", "dev.tsv"])
def test_other_data_under_the_same_name_is_another_cell(
    name: str, base: list[str], tiny_sst2: Path, tmp_path: Path
) -> None:
    data = moved(tiny_sst2, tmp_path / "data")
    before = cell(base, f"task.path={data}").id
    (data / name).write_text((data / name).read_text().replace("good", "fine"))
    assert cell(base, f"task.path={data}").id != before == cell(base).id


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_another_model_under_the_same_name_is_another_cell(
    name: str, base: list[str], tiny_bert: Path, tmp_path: Path
) -> None:
    model = moved(tiny_bert, tmp_path / "model")
    before = cell(base, f"model.name={model}").id
    content = (model / name).read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1]) if name == "model.safetensors" else content + b"\n"
    (model / name).write_bytes(changed)
    assert cell(base, f"model.name={model}").id != before == cell(base).id


def test_a_file_that_is_never_read_does_not_split_a_cell(
    base: list[str], tiny_bert: Path, tiny_sst2: Path, tmp_path: Path
) -> None:
    model, data = moved(tiny_bert, tmp_path / "model"), moved(tiny_sst2, tmp_path / "data")
    for folder in (model, data):
        (folder / "README.md").write_text("notes")
    assert cell(base, f"model.name={model}", f"task.path={data}").id == cell(base).id


def test_trials_are_every_rate_with_every_seed_once(base: list[str]) -> None:
    lora = cell(base, "lrs=[1e-3,1e-4,0.001]", "seeds=[0,1,1]")
    assert [(trial.lr, trial.seed) for trial in lora.trials] == [(1e-3, 0), (1e-3, 1), (1e-4, 0), (1e-4, 1)]
    assert {trial.cell_id for trial in lora.trials} == {lora.id}


def test_trial_ids_are_unique_over_a_grid(base: list[str]) -> None:
    trials = ["lrs=[1e-3,1.0000001e-3,3e-05,1e38,1]", "seeds=[0,1,10]"]
    ranked = [[f"method={name}", f"rank={rank}"] for name in ("lora", "adapter") for rank in (1, 4, 8)]
    by_id = {member.id: member for member in (cell(base, *axes, *trials) for axes in [["method=head"], *ranked])}
    assert len(by_id) == 7
    ids = [trial.id for member in by_id.values() for trial in member.trials]
    assert len(set(ids)) == len(ids) == 7 * 5 * 3
    assert all(re.fullmatch(r"[0-9a-f]{10}-lr[-+.0-9e]+-seed\d+", name) for name in ids)


def test_ids_are_equal_in_another_process(base: list[str]) -> None:
    child = (
        "import sys\n"
        "from bench.config.compose import cells\n"
        "(cell,) = cells(sys.argv[1:], multirun=False)\n"
        "print(cell.id, cell.folder, *(trial.id for trial in cell.trials))"
    )
    command = [sys.executable, "-c", child, *base, "method=lora", "rank=4", "seeds=[0,1]"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = cell(base, "seeds=[0,1]")
    assert done.stdout.split() == [expected.id, expected.folder, *(trial.id for trial in expected.trials)]


def test_equal_overrides_in_another_order_are_the_same_cell(base: list[str]) -> None:
    assert composed(*base[::-1]).id == composed(*base).id


@pytest.mark.parametrize(("overrides", "title"), [
    (["method=lora", "rank=8", "target=q"], "lora r=8 q"), (["target.parts=[q,up]"], "lora r=4 q+up"),
    (["scale=sqrt"], "lora r=4 qv scale=sqrt"), (["method=ia3", "scale=fixed"], "ia3 kv+down"),
    (["scale=rank"], "lora r=4 qv"), (["method=ia3"], "ia3 kv+down"), (["method=adapter"], "adapter r=4"),
    (["method=full"], "full"),
    (["target=mlp"], "lora r=4 mlp"), (["quant=int8"], "lora r=4 qv int8"), (["optim=lion"], "lora r=4 qv lion"),
    (["quant=nf4", "quant.double=true", "optim=adamw_8bit"], "lora r=4 qv nf4+double adamw_8bit"),
])  # fmt: skip
def test_title_and_folder_are_readable(overrides: list[str], title: str, base: list[str], tiny_bert: Path) -> None:
    titled = cell(base, *overrides)
    assert titled.title == title
    name = title.replace(" ", "-").replace("=", "").replace("nf4+double", "nf4dq")
    assert titled.folder == f"{tiny_bert.name}/sst2/{name}-{titled.id}"
    assert re.fullmatch(r"[\w.+/-]+", titled.folder)
    assert re.fullmatch(r"[0-9a-f]{10}", titled.id)


def test_results_of_random_weights_have_their_own_folder(base: list[str], tiny_bert: Path) -> None:
    assert cell(base, "model.weights=random").folder.startswith(f"{tiny_bert.name}-random/")


def test_a_cell_carries_its_whole_configuration_as_plain_data(base: list[str]) -> None:
    config = cell(base, "rank=3").config
    assert config["method"]["attach"]["config"]["r"] == 3
    assert config["lrs"] == "tuned"
    assert config["precision"] == "auto"  # as requested
    assert "hydra" not in config
    assert "${" not in str(config)


def test_settings_at_their_neutral_values_are_not_in_the_identity() -> None:
    (lora,) = cells(["method=lora", "rank=8"], multirun=False)
    assert {key: lora.config[key] for key in NEUTRAL} == NEUTRAL
    assert set(lora.identity["method"]) == {"name", "attach"}


def test_a_change_of_the_numerics_makes_another_cell(base: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell(base, "seeds=[0]").id
    monkeypatch.setattr("bench.cells.identity.NUMERICS", NUMERICS + 1)
    assert cell(base, "seeds=[0]").id != before


def test_an_edited_function_of_the_user_makes_another_cell(
    base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function is named at the top of a node or inside it, in a module or in a package."""
    code = tmp_path / "code"
    (code / "mine").mkdir(parents=True)
    files = [code / "own_leaf.py", code / "mine" / "leaf.py"]
    for file in files:
        file.write_text("def attach(model, part=None):\n    return model\n")
    monkeypatch.syspath_prepend(str(code))
    named = ["method.attach.part._target_=mine.leaf.attach", "method.attach._target_=own_leaf.attach"]
    own = ["method=bitfit", *named]
    first = cell(base, *own)
    assert cell(base, *own).id == first.id
    assert set(first.identity["sources"]) == {"own_leaf.attach", "mine.leaf.attach"}
    for file in files:
        before = cell(base, *own).id
        file.write_text(file.read_text() + "# edited\n")
        assert cell(base, *own).id != before
    assert "sources" not in cell(base).identity


@pytest.mark.parametrize("name", ["studies", "perf"])
def test_a_model_named_like_a_reserved_folder_is_rejected(name: str, base: list[str], tmp_path: Path) -> None:
    model = next(override for override in base if override.startswith("model.name=")).partition("=")[2]
    shutil.copytree(model, tmp_path / name)
    with pytest.raises(ValueError, match=f"a model called '{name}' cannot have results"):
        cell(base, f"model.name={tmp_path / name}")


@pytest.mark.parametrize("key", ["model.label", "task.name", "method.name"])
def test_a_name_that_leads_out_of_the_results_is_rejected(key: str, base: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{key}='../x' becomes a folder's name"):
        cell(base, f"{key}=../x")
