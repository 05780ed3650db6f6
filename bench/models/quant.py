"""Store the frozen matrices of the base in fewer bits: in 4 or 8 with bitsandbytes, or in bf16."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.enums import ComputeType
from bench.config.method_schema import QuantConf
from bench.models.class_swap import mix_in
from bench.models.structure import is_head
from bench.models.vmap.folding import folded

SWITCH = "support_avx512bf16_for_cpu"


@dataclass(frozen=True)
class Quant:
    """How bitsandbytes quantises the base.

    Attributes:
        name: nf4, fp4 or int8.
        double: Whether the block scales are quantised too (4 bits only).
        compute: The dtype of the matrix products.
    """

    name: str
    double: bool
    compute: torch.dtype

    def settings(self, skip: list[str]) -> Any:
        """Return the configuration with which transformers loads a quantised model.

        Args:
            skip: Names of the modules that are not quantised.

        Returns:
            A `BitsAndBytesConfig`.
        """
        from transformers import BitsAndBytesConfig

        if self.name == "int8":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.name,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=self.compute,
            llm_int8_skip_modules=skip,
        )


def quant_of(conf: QuantConf, dtype: torch.dtype) -> Quant | None:
    """Read the `quant` node of a configuration.

    Args:
        conf: The node.
        dtype: The cell's dtype, used for the products unless the node names another one.

    Returns:
        The settings, or None if the base does not need bitsandbytes.
    """
    if conf.name in {"none", "bf16"}:
        return None
    compute = {None: dtype, ComputeType.fp32: torch.float32, ComputeType.bf16: torch.bfloat16}[conf.compute]
    return Quant(conf.name, conf.double, compute)


def halve(model: nn.Module) -> nn.Module:
    """Store the base's matrices in bf16.

    Trained parameters, the head, norms and biases stay in fp32. So do the activations between blocks.

    Args:
        model: Changed in place.

    Returns:
        The same model.
    """
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and not is_head(f"{name}.weight", model):
            module.weight.data = module.weight.data.to(torch.bfloat16)
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda _, __, output: output.float())
    return model


def keep_gradients(model: nn.Module) -> nn.Module:
    """Keep 4-bit layers trainable after an evaluation. Return the same model.

    On a CPU with AVX512_BF16, an eval-mode forward pass of bitsandbytes 0.50 repacks these layers. The new layout has
    no gradient and stays after `.train()`, so every adapter below the head would silently stop learning.
    """
    for module in model.modules():
        if hasattr(module, SWITCH):
            setattr(module, SWITCH, False)
    return model


def map_over_trials(model: nn.Module) -> nn.Module:
    """Make quantised layers work under vmap by passing them mapped inputs as more rows. Return the same model."""
    for module in model.modules():
        if type(module).__module__.startswith("bitsandbytes.nn"):
            mix_in(module, _Folding)
    return model


class _Folding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return folded(super().forward, x)
