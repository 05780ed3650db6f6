"""Check that a trial is sound: its trained weights change, and its frozen weights do not."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.structure import head_names, is_head
from bench.train.outcome import Unsound


class Guard:
    """Take fingerprints of a model before training and compare them afterwards."""

    def __init__(self, model: nn.Module) -> None:
        """Take the fingerprints.

        Args:
            model: The model before training.

        Raises:
            Unsound: The task's head is frozen, or a weight is not finite.
        """
        if head_is_frozen(model):
            raise Unsound("the task's head is frozen: the method must train it")
        self.frozen = fingerprints(_frozen(model))
        self.trained = fingerprints(_trained(model))
        check_finite(model, self.frozen | self.trained)

    def check(self, model: nn.Module) -> None:
        """Compare the model with the fingerprints.

        Raises:
            Unsound: A frozen tensor has changed, or no trained tensor except those of the head has.
        """
        self.check_frozen(model)
        trained = fingerprints(_trained(model))
        body = [name for name in trained if not is_head(name, model)]
        if body and all(trained[name] == self.trained.get(name) for name in body):
            raise Unsound(f"none of the {len(body)} trained tensors moved, except the head: no gradient reaches them")

    def check_frozen(self, model: nn.Module) -> None:
        """Compare the frozen tensors with the fingerprints.

        Raises:
            Unsound: A frozen tensor has changed.
        """
        frozen = fingerprints(_frozen(model))
        if moved := [name for name in self.frozen if frozen.get(name) != self.frozen[name]]:
            raise Unsound(
                f"{len(moved)} frozen tensors moved, the first is {moved[0]}: the method must leave them alone"
            )

    @staticmethod
    def alive(body_norms: list[float], step: int) -> None:
        """Check that gradients reach the weights below the head.

        Args:
            body_norms: The gradient norms below the head in consecutive updates.
            step: The number of the last of these updates.

        Raises:
            Unsound: All of these norms are exactly zero.
        """
        if body_norms and not any(body_norms):
            raise Unsound(
                f"steps {step - len(body_norms) + 1} to {step}: the gradients of all trained weights, except the head, "
                "are exactly zero: nothing is learned below the head"
            )


def head_is_frozen(model: nn.Module) -> bool:
    """Return whether the model has a task's head and trains none of it."""
    return bool(head_names(model)) and not any(is_head(name, model) for name in _trained(model))


def check_finite(model: nn.Module, prints: Mapping[str, Any] | None = None) -> None:
    """Check that all weights are finite before training.

    Args:
        model: The model before training.
        prints: Fingerprints of the parameters. None to compute them.

    Raises:
        Unsound: A weight is NaN or infinite.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    known = fingerprints(parameters) if prints is None else prints
    for name, parameter in parameters.items():
        if name not in known or math.isfinite(known[name][1]):
            continue
        if not_finite := int((~torch.isfinite(parameter)).sum()):
            raise Unsound(
                f"the model's weights are not finite before training: {name} has {not_finite:,} of "
                f"{parameter.numel():,} values that are NaN or infinite; the checkpoint is broken, use another one"
            )


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def _frozen(model: nn.Module) -> dict[str, Tensor]:
    trained = _trained(model)
    return {name: tensor for name, tensor in _tensors(model) if name not in trained}


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@torch.no_grad()
def fingerprints(tensors: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Return a hash of each tensor's bits, with its norm.

    The norm is needed because the hash cannot see equal changes of an even number of entries.

    Args:
        tensors: The tensors by name. Empty ones are skipped.
    """
    nonempty = {name: tensor.detach() for name, tensor in tensors.items() if tensor.numel()}
    if not nonempty:
        return {}
    hashes = torch.stack([torch.hash_tensor(tensor).to(torch.int64) for tensor in nonempty.values()]).tolist()
    norms = torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in nonempty.values()]).tolist()
    return dict(zip(nonempty, zip(hashes, norms, strict=True), strict=True))
