"""A base whose frozen matrices are stored in fewer bits: in 4 or 8 by bitsandbytes, or in bf16."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.enums import ComputeType
from bench.config.schema import QuantConf
from bench.models.class_swap import mix_in
from bench.models.structure import is_head
from bench.models.vmap.folding import folded

SWITCH = "support_avx512bf16_for_cpu"


@dataclass(frozen=True)
class Quant:
    """name: nf4, fp4 or int8. double: the block scales are quantised too (4 bits only). compute: of the products."""

    name: str
    double: bool
    compute: torch.dtype

    def settings(self, skip: list[str]) -> Any:
        """What transformers needs to load a quantised model. skip: modules that are left as they are."""
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
    """Read the `quant` node of a configuration; None for a base that needs no bitsandbytes. dtype: the cell's."""
    if conf.name in {"none", "bf16"}:
        return None
    chosen = {None: dtype, ComputeType.fp32: torch.float32, ComputeType.bf16: torch.bfloat16}[conf.compute]
    return Quant(conf.name, conf.double, chosen)


def halve(model: nn.Module) -> nn.Module:
    """Store the base's matrices in bf16. What is trained, the head, norms and biases stay in fp32, and so does what
    flows from block to block.
    """
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and not is_head(f"{name}.weight", model):
            module.weight.data = module.weight.data.to(torch.bfloat16)
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda _, __, found: found.float())
    return model


def keep_gradients(model: nn.Module) -> nn.Module:
    """Keep 4-bit layers able to train after an evaluation.

    On a CPU with AVX512_BF16 an eval-mode forward of bitsandbytes 0.50 repacks them into a layout that has no gradient
    and outlives `.train()`: every adapter below the head would stand still, unnoticed.
    """
    for module in model.modules():
        if hasattr(module, SWITCH):
            setattr(module, SWITCH, False)
    return model


def map_over_trials(model: nn.Module) -> nn.Module:
    """Let vmap pass through quantised layers, which know nothing of it: they see more rows."""
    for module in model.modules():
        if type(module).__module__.startswith("bitsandbytes.nn"):
            mix_in(module, _Folding)
    return model


class _Folding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return folded(super().forward, x)
