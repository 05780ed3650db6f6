"""Random numbers of their own for every trial, also where trials are trained together.

A trial's masks are drawn from a stream that its seed and the number of the update decide, and nothing else: they are
the same whichever pack the trial runs in.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bench.models.class_swap import swap

LEVELS = 256  # a mask's probability is a multiple of 1/256: eight masks come out of one 64-bit draw


class Streams:
    """One generator per trial, on the device that draws. Fresh for every update."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = list(seeds)
        self.generators = [torch.Generator(device) for _ in seeds]

    def start(self, step: int) -> None:
        """Begin update number `step` of every trial."""
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(seed * 1_000_003 + step)


class _Current:
    """The streams in use, and which of them the trial at hand has: a scalar, or one per trial inside vmap."""

    streams: Streams | None = None
    number: Tensor | None = None


def drawing(streams: Streams) -> AbstractContextManager[None]:
    """Let dropout draw from these streams instead of torch's own."""
    return _set("streams", streams)


def of_trial(number: Tensor) -> AbstractContextManager[None]:
    """The trial whose forward pass this is, as the number of its stream."""
    return _set("number", number)


@contextmanager
def _set(name: str, value: Any) -> Iterator[None]:
    before = getattr(_Current, name)
    setattr(_Current, name, value)
    try:
        yield
    finally:
        setattr(_Current, name, before)


def replaying() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for a checkpoint: what is drawn while a block runs is drawn again when it is run a second time."""
    streams, number = _Current.streams, _Current.number
    generators = streams.generators if streams else []
    before: list[Tensor] = []

    @contextmanager
    def first() -> Iterator[None]:
        before.extend(generator.get_state() for generator in generators)
        yield

    @contextmanager
    def again() -> Iterator[None]:
        after = [generator.get_state() for generator in generators]
        _rewind(generators, before)
        with _set("streams", streams), _set("number", number):
            yield
        _rewind(generators, after)

    return first(), again()


def _rewind(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout from the trial's own stream. p is rounded to a multiple of 1/256, and what is kept is scaled by that."""
    if p == 0.0:
        return x
    if _Current.streams is None or _Current.number is None:
        return nn.functional.dropout(x, p)
    dropped, _ = _Drop.apply(x, _Current.number, p)  # type: ignore[no-untyped-call]
    return dropped  # type: ignore[no-any-return]


class Dropout(nn.Dropout):
    """nn.Dropout that draws from the trial's stream."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return drop(input, self.p) if self.training else input


def own_streams(model: nn.Module) -> nn.Module:
    """Let every dropout of the model draw from the trial's stream."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            swap(module, Dropout)
    return model


class _Drop(torch.autograd.Function):
    """x: [..., any shape], number: the leading dimensions that count trials, and no other."""

    @staticmethod
    def forward(x: Tensor, number: Tensor, p: float) -> tuple[Tensor, Tensor]:
        limit = max(1, round(p * LEVELS))
        generators = _Current.streams.generators if _Current.streams else []
        numbers = number.flatten().tolist()
        rows = x.reshape(len(numbers), -1)
        words = torch.empty(len(numbers), -(-rows.shape[1] // 8), dtype=torch.int64, device=x.device)
        for trial, row in zip(numbers, words, strict=True):
            row.random_(-(2**63), None, generator=generators[trial])
        kept = words.view(torch.uint8)[:, : rows.shape[1]] >= limit
        mask = (kept.to(x.dtype) * (LEVELS / (LEVELS - limit))).view(x.shape)
        return x * mask, mask

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return grad * mask, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, number: Tensor, p: float) -> Any:
        return _Drop.apply(  # type: ignore[no-untyped-call]
            _leading(x, in_dims[0], info.batch_size), _leading(number, in_dims[1], info.batch_size), p
        ), (0, 0)


def _leading(tensor: Tensor, dimension: int | None, size: int) -> Tensor:
    """The dimension that vmap maps over, in front; what is the same for all is repeated."""
    return tensor.expand(size, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
