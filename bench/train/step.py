"""One update of one trial in its own model. It is the same for every method."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from bench.hooks import Hooks
from bench.models.structure import trained
from bench.models.vmap.dropout import Streams, drawing, of_trial
from bench.train.batches import Batch
from bench.train.curve import Measured
from bench.train.device import Compute
from bench.train.evaluate import forward, loss_of


class Stepper:
    """Update a model from a batch: forward, backward, clip, optimizer step."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        hooks: Hooks,
        *,
        clip: float,
        compute: Compute,
        parts: Callable[[Batch], list[Batch]] | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare the updates.

        Args:
            model: The model.
            optimizer: The optimizer over its trained parameters.
            hooks: The hooks of the method.
            clip: The maximum gradient norm.
            compute: The device and the arithmetic.
            parts: Splits a batch into the parts of separate forward passes. None for one forward pass.
            seed: The seed of the trial's own random numbers.
        """
        self.model, self.optimizer, self.hooks, self.clip, self.compute = model, optimizer, hooks, clip, compute
        self.parts = parts or (lambda batch: [batch])
        head, body = trained(model)
        self.head, self.body = list(head.values()), list(body.values())
        self.streams = Streams([seed], compute.device)
        self.steps = 0

    def __call__(self, batch: Batch) -> Measured:
        """Update once and return the measurements.

        Args:
            batch: A batch on the model's device.
        """
        self.streams.start(self.steps)
        losses, penalty = [], None
        for part in self.parts(batch):
            with drawing(self.streams), of_trial(torch.tensor(0)), self.compute.autocast():
                logits = forward(self.model, part)
            loss = loss_of(logits, part)
            losses.append(loss.detach())
            if penalty is None:  # the penalty counts once per batch, not once per part
                penalty = self.hooks.penalty(self.model)
                loss = loss if penalty is None else loss + penalty
            loss.backward()  # type: ignore[no-untyped-call]
        norm, body_norm = self._clip()
        self.optimizer.step()
        self.steps += 1
        self.hooks.after_step(self.model, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        return Measured(torch.stack(losses).sum(), None if penalty is None else penalty.detach(), norm, body_norm)

    def _clip(self) -> tuple[Tensor, Tensor | None]:
        norms = [get_total_norm(_gradients(group)) for group in (self.head, self.body) if group]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        clip_grads_with_norm_([*self.head, *self.body], self.clip, norm)
        return norm, norms[-1] if self.body else None


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def clip_rows(gradients: Tensor, head: int, clip: float) -> tuple[Tensor, Tensor | None]:
    """Clip the gradients of several trials in place, each by its own norm.

    Args:
        gradients: The gradients, [trials, numbers].
        head: How many numbers at the beginning of a row belong to the head.
        clip: The maximum norm after clipping.

    Returns:
        Norms before clipping, both [trials]: those of the whole rows, and those below the head. The latter are None if
        only the head is trained.
    """
    parts = [part for part in (gradients[:, :head], gradients[:, head:]) if part.shape[1]]
    norms = [torch.linalg.vector_norm(part, dim=1) for part in parts]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    gradients.mul_((clip / (norm + 1e-6)).clamp(max=1.0)[:, None])
    return norm, norms[-1] if gradients.shape[1] > head else None
