"""Adapters on disk: what PEFT writes for its own methods, and the same two files for ours."""

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.config.former_paths import with_current_paths
from bench.config.resolved import call
from bench.config.user_sources import targets_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def save_adapter(model: nn.Module, folder: Path, attach: dict[str, Any]) -> None:
    """Write the trained tensors and what is needed to attach them again.

    attach: the resolved `attach` node of the method. What PEFT writes loads with `PeftModel.from_pretrained` onto the
    model as it was published; ours load with `load_adapter`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _is_peft_format(model):
        _save_peft(model, folder)
        return
    save_file(_own(attach, "state", trained_state)(model), folder / WEIGHTS)
    about = {"peft_type": "BENCH", "attach": attach, "new_modules": list(getattr(model, "new_modules", ()))}
    (folder / CONFIG).write_text(json.dumps(about, indent=1) + "\n")


def load_adapter(model: nn.Module, folder: Path, trusted: tuple[str, ...] = ("bench.methods.",)) -> nn.Module:
    """Attach one of our own adapters to its base model and fill in the trained weights.

    trusted: beginnings of the names of functions that the folder's config may call; add your own method's module.
    ValueError: the folder holds no adapter of ours, or one that does not fit the model.
    """
    try:
        config, trained = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no adapter: {CONFIG} and {WEIGHTS} must be there, and whole") from error
    if config.get("peft_type") != "BENCH":
        raise ValueError(f"{folder} holds no adapter of this package; PEFT's own load with PeftModel.from_pretrained")
    attach = with_current_paths(config["attach"])
    if untrusted := [name for name in targets_of(attach) if not _is_trusted(name, trusted)]:
        raise ValueError(
            f"{folder} wants to call {untrusted[0]}; allowed are what {', '.join(trusted)} defines and PEFT's "
            "configurations"
        )
    model.new_modules = tuple(config.get("new_modules", ()))  # type: ignore[assignment]
    model = call(attach)(model)
    try:
        _own(attach, "restore", restore_trained)(model, trained)
    except ValueError as error:
        raise ValueError(f"{folder} was saved from another model: its tensors do not fit this one") from error
    return model


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What is trained. A method's module may define its own `state` and `restore` where that is not what to keep."""
    return {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if tensor.requires_grad}


def restore_trained(model: nn.Module, trained: dict[str, Tensor]) -> None:
    """Fill in what `trained_state` gave. ValueError: names or shapes differ."""
    shapes = {name: tensor.shape for name, tensor in model.named_parameters() if tensor.requires_grad}
    if shapes != {name: tensor.shape for name, tensor in trained.items()}:
        raise ValueError("tensors do not fit")
    model.load_state_dict(trained, strict=False)


def merge_adapter(model: nn.Module, attach: dict[str, Any]) -> nn.Module:
    """The model with the adapter merged into its weights, as plain transformers knows it. Uses the model up."""
    from peft import PeftModel
    from peft.utils import ModulesToSaveWrapper

    if isinstance(model, PeftModel):
        base = model.get_base_model()
        # Unwrapped first: PEFT looks for a `weight` in what it unwraps, and a head may be a module of several layers.
        for name, module in list(base.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):
                base.set_submodule(name, module.modules_to_save[module.active_adapter])
        plain: nn.Module = model.merge_and_unload()
        return plain
    changed: nn.Module = _own(attach, "merged", lambda same: same)(model)
    return changed


def save_merged(model: nn.Module, folder: Path, attach: dict[str, Any], labels: list[str]) -> None:
    """Write the merged model as plain transformers loads it. Uses the model up."""
    plain: Any = merge_adapter(model, attach)
    if labels:  # else a number is predicted
        plain.config.id2label = dict(enumerate(labels))
        plain.config.label2id = {label: number for number, label in enumerate(labels)}
    plain.save_pretrained(folder)


def adapter_bytes(folder: Path) -> int:
    """Size of the weights on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _own(attach: dict[str, Any], name: str, default: Any) -> Any:
    """A function of the module that the method lives in, or the default."""
    return getattr(import_module(attach["_target_"].rpartition(".")[0]), name, default)


def _is_trusted(name: str, trusted: tuple[str, ...]) -> bool:
    """Whether a name is defined, and not merely imported, by a trusted module; or is a class of PEFT."""
    import peft

    place, _, attribute = name.rpartition(".")
    if place == "peft":
        return isinstance(getattr(peft, attribute, None), type)
    if not name.startswith(trusted):
        return False
    try:
        return getattr(getattr(import_module(place), attribute, None), "__module__", None) == place
    except ImportError:
        return False


def _is_peft_format(model: nn.Module) -> bool:
    """Whether PEFT writes all that is trained: its class for LLaMA-Adapter knows nothing of a head."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return False
    return "modules_to_save" in {field.name for field in fields(model.active_peft_config)}


def _save_peft(model: Any, folder: Path) -> None:
    """What PEFT writes; where the start was taken out of the base weights, as a plain LoRA of twice the rank.

    With the start A0, B0 the model computes W - B0 A0 + B A = W + [B, -B0] [A; A0].
    """
    # "auto" would ask the hub whether the vocabulary was resized; it never is here.
    model.save_pretrained(folder, save_embedding_layers=False)
    start = getattr(model, "start", None)
    if start is None:
        return
    trained = load_file(folder / WEIGHTS)
    for name, tensor in trained.items():
        if ".lora_A." in name:
            trained[name] = torch.cat([tensor, start[name].to(tensor)], dim=0)
        elif ".lora_B." in name:
            trained[name] = torch.cat([tensor, -start[name].to(tensor)], dim=1)
    save_file(trained, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text())
    scale = 2**0.5 if config["use_rslora"] else 2  # alpha / sqrt(r) or alpha / r: it must stay the same
    config |= {"r": 2 * config["r"], "lora_alpha": scale * config["lora_alpha"], "init_lora_weights": True}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
