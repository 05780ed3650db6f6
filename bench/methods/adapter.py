"""Bottleneck adapters: two small matrices after a sublayer (Houlsby et al., 2019; Pfeiffer et al., 2021)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from bench.methods.head import is_head

INIT_STD = 1e-3  # adapter-bert: near the identity, so that training starts from the pretrained model
PLACES = {"attention": "attention.output", "feed_forward": "output"}


class Bottleneck(nn.Module):
    """x + up(activation(down(x))). x: [..., hidden]; the inner width is the method's rank."""

    def __init__(self, hidden_size: int, width: int, activation: str) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, width)
        self.activation = ACT2FN[activation]
        self.up = nn.Linear(width, hidden_size)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.up(self.activation(self.down(x)))
        return x + change


class Adapted(nn.Module):
    """A sublayer's dropout followed by its adapter: the last thing before the residual sum and its layer norm."""

    def __init__(self, inner: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        adapted: Tensor = self.adapter(self.inner(x))
        return adapted


def attach(model: nn.Module, *, width: int, after: Sequence[str], layer_norms: bool, activation: str) -> nn.Module:
    """Freeze the model and put an adapter after the named sublayers of every layer.

    after: any of attention, feed_forward (both: Houlsby). layer_norms: train those of the layers too.
    Trainable: per adapter 2 * hidden * width + hidden + width. ValueError: an unknown place.
    """
    if unknown := [place for place in after if place not in PLACES]:
        raise ValueError(f"method.attach.after: {unknown[0]!r} is unknown; choose from {', '.join(PLACES)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = is_head(name)
    encoder: Any = model.base_model
    for layer in encoder.encoder.layer:
        for path in PLACES.values():
            layer.get_submodule(path).LayerNorm.requires_grad_(layer_norms)
        for place in after:
            output = layer.get_submodule(PLACES[place])
            output.dropout = Adapted(output.dropout, Bottleneck(output.dense.out_features, width, activation))
    return model
