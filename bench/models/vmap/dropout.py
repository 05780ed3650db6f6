"""Separate random numbers for every trial, even when trials are trained together.

A trial's dropout masks come from a stream that depends only on its seed and the number of the update. They are the same
in whichever pack the trial runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bench.models.class_swap import swap

LEVELS = 256  # a mask's probability is a multiple of 1/256, so one 64-bit draw yields eight mask entries


class Streams:
    """One generator per trial, on the device that draws, reseeded for every update."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = list(seeds)
        self.generators = [torch.Generator(device) for _ in seeds]

    def start(self, step: int) -> None:
        """Reseed the generator of every trial for update number `step`."""
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(seed * 1_000_003 + step)


class _Current:
    """The streams in use, and the number of the current trial's stream.

    The number is a scalar, or one per trial inside vmap.
    """

    streams: Streams | None = None
    number: Tensor | None = None


def drawing(streams: Streams) -> AbstractContextManager[None]:
    """Return a context in which dropout draws from these streams instead of torch's own."""
    return _override("streams", streams)


def of_trial(number: Tensor) -> AbstractContextManager[None]:
    """Return a context for the forward pass of one trial.

    Args:
        number: The index of the trial's stream: a scalar, or one per trial inside vmap.
    """
    return _override("number", number)


@contextmanager
def _override(name: str, value: Any) -> Iterator[None]:
    previous = getattr(_Current, name)
    setattr(_Current, name, value)
    try:
        yield
    finally:
        setattr(_Current, name, previous)


def replaying() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return two contexts for activation checkpointing, so that a block draws the same numbers when it is run again.

    Returns:
        The context of the first run, and the context of the recomputation.
    """
    streams, number = _Current.streams, _Current.number
    generators = streams.generators if streams else []
    states_before: list[Tensor] = []

    @contextmanager
    def first_run() -> Iterator[None]:
        states_before.extend(generator.get_state() for generator in generators)
        yield

    @contextmanager
    def recomputation() -> Iterator[None]:
        states_now = [generator.get_state() for generator in generators]
        _set_states(generators, states_before)
        with _override("streams", streams), _override("number", number):
            yield
        _set_states(generators, states_now)

    return first_run(), recomputation()


def _set_states(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def drop(x: Tensor, p: float) -> Tensor:
    """Apply dropout, drawn from the trial's own stream, or from torch's if no stream is set.

    Args:
        x: Any shape.
        p: Probability of dropping an entry. A stream rounds it to a multiple of 1/256.

    Returns:
        The tensor in the same shape. The entries that are kept are scaled by 1 / (1 - rounded p).
    """
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
    """Let every dropout of the model draw from the trial's stream. Return the model."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            swap(module, Dropout)
    return model


class _Drop(torch.autograd.Function):
    """Dropout of x: [*trials, ...] with the trials' stream numbers: [*trials].

    The shape of `number` is exactly the leading dimensions of x that count trials.
    """

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
    """Move the dimension that vmap maps over to the front. A tensor that is not mapped is repeated."""
    return tensor.expand(size, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
