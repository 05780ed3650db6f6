"""Bottleneck adapters: two small matrices after a sublayer, or in parallel to the feed-forward.

Houlsby et al. 2019 (arXiv:1902.00751), Pfeiffer et al. 2021 (arXiv:2005.00247), He et al. 2022 (arXiv:2110.04366),
Rücklé et al. 2021 (arXiv:2010.11918).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from transformers.activations import ACT2FN

from bench.models.structure import architecture, blocks, train_head_alone
from bench.models.structure import width as width_of

INIT_STD = 1e-3  # as in adapter-bert: near the identity, so that training starts from the pretrained model


class Squeeze(nn.Module):
    """Compute up(activation(down(x))) for x: [..., hidden]. The inner width is the method's rank."""

    def __init__(self, hidden_size: int, width: int, activation: str) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, width)
        self.activation = ACT2FN[activation]
        self.up = nn.Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.up(self.activation(self.down(x)))
        return changed


class Bottleneck(Squeeze):
    """Compute x + up(activation(down(x))), which is close to the identity at the start."""

    def __init__(self, hidden_size: int, width: int, activation: str) -> None:
        super().__init__(hidden_size, width, activation)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Adapted(nn.Module):
    """The last module of a sublayer followed by an adapter, before the residual sum and its layer norm."""

    def __init__(self, inner: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        adapted: Tensor = self.adapter(self.inner(x))
        return adapted


class Parallel(nn.Module):
    """A feed-forward with a parallel adapter: FFN(x) + scale * up(activation(down(x))).

    The adapter's output is zero at the start.
    """

    def __init__(self, inner: nn.Module, adapter: Squeeze, scale: float) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = adapter
        self.scale = scale
        nn.init.kaiming_uniform_(adapter.down.weight, a=5**0.5)
        for tensor in (adapter.down.bias, adapter.up.weight, adapter.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the feed-forward and its adapter.

        Args:
            x: [..., hidden], or [..., inner] if a residual is given.
            residual: [..., hidden]. BERT's output layer takes the inner activation and adds the residual itself.

        Returns:
            [..., hidden].
        """
        if residual is None:
            changed: Tensor = self.inner(x) + self.scale * self.adapter(x)
        else:
            changed = self.inner(x, residual + self.scale * self.adapter(residual))
        return changed


def attach(
    model: nn.Module, *, width: int, after: Sequence[str], layer_norms: bool, activation: str, skip: float = 0.0
) -> nn.Module:
    """Freeze the model and put an adapter after sublayers of every block.

    Each adapter has 2 * hidden * width + hidden + width trainable parameters.

    Args:
        model: Changed in place.
        width: Inner width of the adapters.
        after: The sublayers: attention, feed_forward or both (both: Houlsby).
        layer_norms: Whether to train the layer norms of the blocks too.
        activation: Name of the activation function in transformers.
        skip: Share of the blocks, counted from the input, without adapters (AdapterDrop). It is rounded down to whole
            blocks.

    Returns:
        The same model.

    Raises:
        ValueError: The architecture has no such sublayer.
    """
    kind = architecture(model)
    if unknown := [place for place in after if place not in kind.adapters]:
        raise ValueError(f"method.attach.after: {unknown[0]!r} is unknown; choose from {', '.join(kind.adapters)}")
    train_head_alone(model)
    all_blocks = blocks(model)
    for block in all_blocks[int(skip * len(all_blocks)) :]:
        for norm in kind.norms:
            block.get_submodule(norm).requires_grad_(layer_norms)
        for place in after:
            path = kind.adapters[place]
            adapter = Bottleneck(width_of(model), width, activation)
            block.set_submodule(path, Adapted(block.get_submodule(path), adapter))
    return model


def attach_parallel(model: nn.Module, *, width: int, scale: float, activation: str) -> nn.Module:
    """Freeze the model and add a scaled parallel adapter to the feed-forward of every block.

    Each block has 2 * hidden * width + hidden + width trainable parameters.

    Args:
        model: Changed in place.
        width: Inner width of the adapters.
        scale: Factor of the adapter's output.
        activation: Name of the activation function in transformers.

    Returns:
        The same model.
    """
    path = architecture(model).feed_forward
    train_head_alone(model)
    for block in blocks(model):
        adapter = Squeeze(width_of(model), width, activation)
        block.set_submodule(path, Parallel(block.get_submodule(path), adapter, scale))
    return model
