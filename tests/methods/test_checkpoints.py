"""Adapters on disk: a saved adapter reloads unchanged, and one that does not fit is refused in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, axes
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, RobertaConfig

from bench.config.schema import ModelConf
from bench.methods.checkpoints import adapter_bytes, load_adapter, save_adapter
from bench.models.load import load_model
from bench.models.source import find_model
from bench.models.targets import resolve

CONF = REPOSITORY / "conf" / "method"
OURS = ["full", "head", "bitfit", "adapter", "adapter_pfeiffer"]
PEFTS = ["lora", "ia3"]


def base(folder: Path, head_seed: int) -> nn.Module:
    """Return the same backbone every time, with a head drawn from the seed."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)
    torch.manual_seed(head_seed)
    nn.init.normal_(model.classifier.weight)
    return model.eval()


def attached(model: nn.Module, name: str) -> tuple[nn.Module, dict[str, Any]]:
    conf = OmegaConf.to_container(OmegaConf.merge(axes(4), OmegaConf.load(CONF / f"{name}.yaml")), resolve=True)
    placed = {"target": resolve(conf["target"], "bert")} if "target" in conf["uses"] else {}
    return instantiate(conf["attach"])(model, **placed), conf["attach"]


@torch.no_grad()
def trained(model: nn.Module) -> nn.Module:
    """Move everything that the method trains far from its start; return the model."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) / 5)
    return model.eval()


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(20).view(2, 10)).logits


def saved(tiny_bert: Path, folder: Path, name: str) -> torch.Tensor:
    """Train and save an adapter; return its logits."""
    model, attach = attached(base(tiny_bert, head_seed=1), name)
    save_adapter(trained(model), folder, attach)
    return logits(model)


@pytest.mark.parametrize("name", OURS)
def test_an_adapter_of_ours_reloads_exactly(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    expected, fresh = saved(tiny_bert, tmp_path, name), base(tiny_bert, head_seed=2)
    assert not torch.allclose(logits(fresh), expected, atol=1e-2)
    assert torch.equal(logits(load_adapter(fresh, tmp_path)), expected)


@pytest.mark.parametrize("name", PEFTS)
def test_a_peft_adapter_reloads_exactly_without_this_package(
    name: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, fresh = saved(tiny_bert, tmp_path, name), base(tiny_bert, head_seed=2)
    assert not torch.allclose(logits(fresh), expected, atol=1e-2)
    for module in [module for module in sys.modules if module.split(".")[0] == "bench"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert torch.equal(logits(PeftModel.from_pretrained(fresh, tmp_path)), expected)


@pytest.mark.parametrize("name", [*OURS, *PEFTS])
def test_saving_writes_a_config_and_only_the_trained_weights(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    model, attach = attached(base(tiny_bert, head_seed=1), name)
    save_adapter(model, tmp_path / "new" / "folder", attach)
    files = {path.name: path.stat().st_size for path in (tmp_path / "new" / "folder").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(files)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    size = adapter_bytes(tmp_path / "new" / "folder")
    assert size == files["adapter_model.safetensors"]
    assert weights < size < weights + 12_000  # the header names the tensors


@pytest.mark.parametrize("name", PEFTS)
def test_saving_a_peft_adapter_does_not_contact_the_hub(
    name: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, attach = attached(base(tiny_bert, head_seed=1), name)
    model.peft_config["default"].base_model_name_or_path = "google-bert/bert-base-uncased"

    def ask_hub(*_: Any, **__: Any) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask_hub)
    save_adapter(model, tmp_path, attach)


def test_saving_again_replaces_the_saved_adapter(tiny_bert: Path, tmp_path: Path) -> None:
    saved(tiny_bert, tmp_path, "adapter")
    expected = saved(tiny_bert, tmp_path, "bitfit")
    assert torch.equal(logits(load_adapter(base(tiny_bert, head_seed=2), tmp_path)), expected)


def refused(model: nn.Module, folder: Path) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load_adapter(model, folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", ["nothing", "no folder", "no weights", "torn config", "torn weights"])
def test_a_folder_without_a_complete_adapter_is_refused(content: str, tiny_bert: Path, tmp_path: Path) -> None:
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    folder = tmp_path / "elsewhere" if content == "no folder" else tmp_path
    if content not in ("nothing", "no folder"):
        saved(tiny_bert, tmp_path, "head")
    if content == "no weights":
        weights.unlink()
    if content == "torn config":
        config.write_text(config.read_text()[:20])
    if content == "torn weights":
        weights.write_bytes(weights.read_bytes()[:30])
    assert "holds no adapter" in refused(base(tiny_bert, head_seed=2), folder)


@pytest.mark.parametrize("name", PEFTS)
def test_pefts_own_adapters_are_refused_with_the_way_to_load_them(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    saved(tiny_bert, tmp_path, name)
    assert "PeftModel.from_pretrained" in refused(base(tiny_bert, head_seed=2), tmp_path)


def other(tiny_bert: Path, kind: str) -> nn.Module:
    sizes = AutoConfig.from_pretrained(tiny_bert).to_dict()
    known = {
        key: sizes[key]
        for key in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
        )
    }
    changed = {
        "wider": {"hidden_size": 48},
        "deeper": {"num_hidden_layers": 3},
        "shallower": {"num_hidden_layers": 1},
        "labels": {"num_labels": 3},
        "roberta": {},
    }[kind]
    config = (RobertaConfig if kind == "roberta" else BertConfig)(**{**known, **changed})
    return AutoModelForSequenceClassification.from_config(config)


# A head fits every backbone of its width.
MISFITS = [(name, kind) for name in OURS for kind in ("wider", "labels", "roberta")]
MISFITS += [(name, kind) for name in OURS if name != "head" for kind in ("deeper", "shallower")]


@pytest.mark.parametrize(("name", "kind"), MISFITS)
def test_another_base_model_is_refused(name: str, kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    saved(tiny_bert, tmp_path, name)
    assert "another model" in refused(other(tiny_bert, kind), tmp_path)


def test_the_config_says_how_to_attach_again(tiny_bert: Path, tmp_path: Path) -> None:
    saved(tiny_bert, tmp_path, "adapter")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "BENCH"
    assert config["attach"]["_target_"] == "bench.methods.adapter.attach"
    assert config["attach"]["width"] == 4


def fresh(tiny_bert: Path, seed: int) -> nn.Module:
    """Load a model as a cell does: the checkpoint has no pooler, so a new one is drawn with the head."""
    return load_model(find_model(ModelConf(label="x", name=str(tiny_bert))), 2, seed=seed, attention="eager")


@pytest.mark.parametrize("name", OURS)
def test_a_new_pooler_is_saved_and_loaded_with_the_head(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    model, attach = attached(fresh(tiny_bert, seed=1), name)
    save_adapter(trained(model), tmp_path, attach)
    other = fresh(tiny_bert, seed=2)
    other.new_modules = ()  # loaded without this package
    assert torch.equal(logits(load_adapter(other, tmp_path)), logits(model))


@pytest.mark.parametrize("place", ["attach", "deeper"])
def test_a_config_that_would_call_anything_else_is_refused_and_nothing_is_called(
    place: str, tiny_bert: Path, tmp_path: Path
) -> None:
    saved(tiny_bert, tmp_path, "adapter")
    path, mark = tmp_path / "adapter_config.json", tmp_path / "called"
    config, call = json.loads(path.read_text()), {"_target_": "pathlib.Path.touch", "self": str(mark)}
    config["attach"] = call if place == "attach" else config["attach"] | {"after": [{"what": [call]}]}
    path.write_text(json.dumps(config))
    assert "wants to call pathlib.Path.touch" in refused(base(tiny_bert, head_seed=2), tmp_path)
    assert not mark.exists()


def test_an_expression_in_a_config_is_not_evaluated(tiny_bert: Path, tmp_path: Path) -> None:
    """An expression could create a node that calls something."""
    saved(tiny_bert, tmp_path, "adapter")
    path, mark = tmp_path / "adapter_config.json", tmp_path / "called"
    config = json.loads(path.read_text())
    config["attach"]["after"] = f"${{oc.create:{{_target_: pathlib.Path.touch, self: {mark}}}}}"
    path.write_text(json.dumps(config))
    assert "holds an expression" in refused(base(tiny_bert, head_seed=2), tmp_path)
    assert not mark.exists()


def test_a_users_own_method_is_loaded_if_it_is_trusted(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["from bench.methods import selective", "", "def head(model):", "    return selective.head(model)"]
    (tmp_path / "mine_alone.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    expected = saved(tiny_bert, tmp_path / "saved", "head")
    path = tmp_path / "saved" / "adapter_config.json"
    path.write_text(path.read_text().replace("bench.methods.selective.head", "mine_alone.head"))
    assert "mine_alone.head" in refused(base(tiny_bert, head_seed=2), tmp_path / "saved")
    loaded = load_adapter(base(tiny_bert, head_seed=2), tmp_path / "saved", trusted=("mine_alone.",))
    assert torch.equal(logits(loaded), expected)


@pytest.mark.parametrize(
    "name",
    ["bench.methods.checkpoints.Path.touch", "bench.methods.checkpoints.import_module", "peft.utils.other.os.system"],
)
def test_a_name_that_a_trusted_module_only_imports_is_not_called(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    saved(tiny_bert, tmp_path, "head")
    path = tmp_path / "adapter_config.json"
    path.write_text(path.read_text().replace("bench.methods.selective.head", name))
    assert name in refused(base(tiny_bert, head_seed=2), tmp_path)
