"""Adapters on disk: what PEFT writes for its own methods, and the same two files for ours."""

import json
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def save_adapter(model: nn.Module, folder: Path, attach: dict[str, Any]) -> None:
    """Write the trained tensors and what is needed to attach them again.

    attach: the resolved `attach` node of the method. A PEFT model is written by PEFT and loads with
    `PeftModel.from_pretrained`; ours load with `load_adapter`.
    """
    from peft import PeftModel

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        # "auto" would ask the hub whether the vocabulary was resized; it never is here.
        model.save_pretrained(folder, save_embedding_layers=False)
        return
    trained = {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if tensor.requires_grad}
    save_file(trained, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "BENCH", "attach": attach}, indent=1) + "\n")


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
    if not str(config["attach"]["_target_"]).startswith(trusted):
        raise ValueError(f"{folder} wants to call {config['attach']['_target_']}; allowed are names under {trusted}")
    model = instantiate(config["attach"])(model)
    shapes = {name: tensor.shape for name, tensor in model.named_parameters() if tensor.requires_grad}
    if shapes != {name: tensor.shape for name, tensor in trained.items()}:
        raise ValueError(f"{folder} was saved from another model: its tensors do not fit this one")
    model.load_state_dict(trained, strict=False)
    return model


def adapter_bytes(folder: Path) -> int:
    """Size of the weights on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
