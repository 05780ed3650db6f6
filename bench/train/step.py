"""One update, the same for every method."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from bench.hooks import Hooks
from bench.models.parts import is_head
from bench.train.batches import Batch
from bench.train.evaluate import forward
from bench.train.precision import autocast


@dataclass(frozen=True)
class Measured:
    """What an update tells, as scalars on the device: reading them would wait.

    loss: the cross-entropy. penalty: what the method adds to it. norm: of all gradients before clipping. body_norm: of
    those that are not the head's, None where the head alone is trained.
    """

    loss: Tensor
    penalty: Tensor | None
    norm: Tensor
    body_norm: Tensor | None


class Stepper:
    """Forward, backward, clip, update."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, hooks: Hooks, *, clip: float, dtype: torch.dtype
    ) -> None:
        self.model, self.optimizer, self.hooks, self.clip, self.dtype = model, optimizer, hooks, clip, dtype
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.head = [parameter for name, parameter in trained if is_head(name, model)]
        self.body = [parameter for name, parameter in trained if not is_head(name, model)]
        self.steps = 0

    def __call__(self, batch: Batch) -> Measured:
        """Update once from a batch that is on the model's device."""
        with autocast(batch.labels.device, self.dtype):
            logits = forward(self.model, batch)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        penalty = self.hooks.penalty(self.model)
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
        norm, body_norm = self._clip()
        self.optimizer.step()
        self.steps += 1
        self.hooks.after_step(self.model, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        return Measured(loss.detach(), None if penalty is None else penalty.detach(), norm, body_norm)

    def _clip(self) -> tuple[Tensor, Tensor | None]:
        norms = [get_total_norm(_gradients(group)) for group in (self.head, self.body) if group]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        clip_grads_with_norm_([*self.head, *self.body], self.clip, norm)
        return norm, norms[-1] if self.body else None


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
