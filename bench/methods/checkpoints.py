"""Save and load adapters: PEFT's own format for its methods, and the same two files for ours."""

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

    An adapter in PEFT's format loads with `PeftModel.from_pretrained` onto the published model. Our own adapters load
    with `load_adapter`.

    Args:
        model: The trained model with its method attached.
        folder: Created if it does not exist.
        attach: The resolved `attach` node of the method.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _is_peft_format(model):
        _save_peft(model, folder)
        return
    save_file(_method_function(attach, "state", trained_state)(model), folder / WEIGHTS)
    config = {"peft_type": "BENCH", "attach": attach, "new_modules": list(getattr(model, "new_modules", ()))}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def load_adapter(model: nn.Module, folder: Path, trusted: tuple[str, ...] = ("bench.methods.",)) -> nn.Module:
    """Attach one of our own adapters to its base model and fill in the trained weights.

    Args:
        model: The base model.
        folder: The folder that `save_adapter` wrote.
        trusted: Prefixes of the functions that the folder's configuration may call. Add the module of your own method.

    Returns:
        The model with the adapter.

    Raises:
        ValueError: The folder holds no adapter of ours, calls a function that is not trusted, or does not fit the
            model.
    """
    try:
        config, trained = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no adapter: {CONFIG} and {WEIGHTS} must exist and be complete") from error
    if config.get("peft_type") != "BENCH":
        raise ValueError(
            f"{folder} holds no adapter of this package; load PEFT's own adapters with PeftModel.from_pretrained"
        )
    attach = with_current_paths(config["attach"])
    if untrusted := [name for name in targets_of(attach) if not _is_trusted(name, trusted)]:
        raise ValueError(
            f"{folder} wants to call {untrusted[0]}; allowed: functions defined in {', '.join(trusted)} and PEFT's "
            "configurations"
        )
    model.new_modules = tuple(config.get("new_modules", ()))  # type: ignore[assignment]
    model = call(attach)(model)
    try:
        _method_function(attach, "restore", restore_trained)(model, trained)
    except ValueError as error:
        raise ValueError(f"{folder} was saved from another model: its tensors do not fit this one") from error
    return model


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the trained tensors by name, detached.

    A method's module may define its own `state` and `restore` if something else must be saved.
    """
    return {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if tensor.requires_grad}


def restore_trained(model: nn.Module, trained: dict[str, Tensor]) -> None:
    """Fill in the tensors that `trained_state` returned.

    Args:
        model: A model with the same method attached. Changed in place.
        trained: Tensors by parameter name.

    Raises:
        ValueError: The names or shapes differ from the model's trained parameters.
    """
    shapes = {name: tensor.shape for name, tensor in model.named_parameters() if tensor.requires_grad}
    if shapes != {name: tensor.shape for name, tensor in trained.items()}:
        raise ValueError("tensors do not fit")
    model.load_state_dict(trained, strict=False)


def merge_adapter(model: nn.Module, attach: dict[str, Any]) -> nn.Module:
    """Merge the adapter into the weights.

    Args:
        model: A model with its method attached. It must not be used afterwards.
        attach: The resolved `attach` node of the method.

    Returns:
        The merged model, as an ordinary transformers model.
    """
    from peft import PeftModel
    from peft.utils import ModulesToSaveWrapper

    if isinstance(model, PeftModel):
        base = model.get_base_model()
        # Unwrap the head first: PEFT expects a `weight` in what it unwraps, but a head may consist of several layers.
        for name, module in list(base.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):
                base.set_submodule(name, module.modules_to_save[module.active_adapter])
        unloaded: nn.Module = model.merge_and_unload()
        return unloaded
    merged: nn.Module = _method_function(attach, "merged", lambda unchanged: unchanged)(model)
    return merged


def save_merged(model: nn.Module, folder: Path, attach: dict[str, Any], labels: list[str]) -> None:
    """Write the merged model in the format that transformers loads.

    Args:
        model: A model with its method attached. It must not be used afterwards.
        folder: Where to write.
        attach: The resolved `attach` node of the method.
        labels: Names of the labels, in order. Empty for regression.
    """
    merged: Any = merge_adapter(model, attach)
    if labels:
        merged.config.id2label = dict(enumerate(labels))
        merged.config.label2id = {label: number for number, label in enumerate(labels)}
    merged.save_pretrained(folder)


def adapter_bytes(folder: Path) -> int:
    """Return the size of the weights on disk, in bytes."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _method_function(attach: dict[str, Any], name: str, default: Any) -> Any:
    """Return a function of the module that defines the method, or the default if the module has none."""
    return getattr(import_module(attach["_target_"].rpartition(".")[0]), name, default)


def _is_trusted(name: str, trusted: tuple[str, ...]) -> bool:
    """Return whether a trusted module defines the name (importing it is not enough), or it is a class of PEFT."""
    import peft

    module, _, attribute = name.rpartition(".")
    if module == "peft":
        return isinstance(getattr(peft, attribute, None), type)
    if not name.startswith(trusted):
        return False
    try:
        return getattr(getattr(import_module(module), attribute, None), "__module__", None) == module
    except ImportError:
        return False


def _is_peft_format(model: nn.Module) -> bool:
    """Return whether PEFT saves everything that is trained. Its class for LLaMA-Adapter does not save a head."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return False
    return "modules_to_save" in {field.name for field in fields(model.active_peft_config)}


def _save_peft(model: Any, folder: Path) -> None:
    """Save in PEFT's format.

    If the initial value was subtracted from the base weights, save an ordinary LoRA of twice the rank: with the initial
    A0 and B0 the model computes W - B0 A0 + B A = W + [B, -B0] [A; A0].
    """
    # "auto" would ask the hub whether the vocabulary was resized. It never is.
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
    scale = 2**0.5 if config["use_rslora"] else 2  # keeps alpha / sqrt(r) or alpha / r the same
    config |= {"r": 2 * config["r"], "lora_alpha": scale * config["lora_alpha"], "init_lora_weights": True}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
