"""Diff pruning (Guo et al. 2021, arXiv:2012.07463): a sparse change of the frozen weights, chosen while it is learned.

The weights are pretrained + z * w. Each z is a product of two hard-concrete gates (Louizos et al. 2018,
arXiv:1712.01312), one of its own and one of the whole tensor: the paper's structured variant. The loss pays for the
expected number of open gates; then the largest |z * w| are kept, exactly as many as the budget allows, and trained on.
"""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.hooks import Hooks
from bench.models.class_swap import swap_back
from bench.models.structure import is_head, train_head_alone


class Diff(nn.Module):
    """What is added to one frozen tensor. Until `mask` is set, gates decide: sampled in training, not in eval mode."""

    mask: Tensor | None

    def __init__(self, original: Tensor, budget: float, alpha: float, low: float, high: float) -> None:
        super().__init__()
        self.budget, self.low, self.high = budget, low, high
        self.w = nn.Parameter(original.new_zeros(original.shape))
        # Flat, so that weight decay, which would shut the gates, takes it for a bias and passes it by.
        self.alpha = nn.Parameter(original.new_full((original.numel(),), alpha))
        self.alpha_group = nn.Parameter(original.new_full((1,), alpha))
        self.register_buffer("mask", None)

    def forward(self, original: Tensor) -> Tensor:
        return torch.addcmul(original, self.w, self.gates(sample=self.training) if self.mask is None else self.mask)

    def gates(self, *, sample: bool) -> Tensor:
        """z, in the tensor's shape."""
        return (self._gate(self.alpha, sample=sample) * self._gate(self.alpha_group, sample=sample)).view_as(self.w)

    def _gate(self, alpha: Tensor, *, sample: bool) -> Tensor:
        # In place where autograd lets us: on a CPU, fresh memory costs more than the arithmetic.
        logits = torch.rand_like(alpha).logit_().add_(alpha) if sample else alpha
        stretched = (logits.sigmoid() * (self.high - self.low)).add_(self.low)
        return nn.functional.hardtanh(stretched, 0, 1, inplace=True)

    def expected_open(self) -> Tensor:
        """Expected count of open gates, as in the authors' code: paying for open z shut 99 % of MiniLM's tensors."""
        if self.mask is not None:
            return self.alpha_group.new_zeros(())
        shift = math.log(-self.low / self.high)
        return (self.alpha - shift).sigmoid().sum() + (self.alpha_group - shift).sigmoid().sum()


def attach(model: nn.Module, *, budget: float, alpha: float, stretch: Sequence[float]) -> nn.Module:
    """Add a gated change to every tensor of the backbone, N weights in G tensors; the head is trained as it is.

    Trains 2 * N + G + head parameters, of which the projection leaves round(budget * N) + head in use.
    budget: share of the backbone's weights that may change. alpha: the gates' first logits. stretch: of their sigmoids.
    """
    low, high = stretch
    if not 0 < budget <= 1:
        raise ValueError(f"budget={budget} must be above 0 and at most 1; the paper's is 0.005")
    if low >= 0 or high <= 1:
        raise ValueError(f"stretch={list(stretch)} must reach below 0 and above 1, such as [-1.5, 1.5]")
    train_head_alone(model)
    for name, tensor in list(model.named_parameters()):
        if tensor.is_floating_point() and not is_head(name, model):
            path, _, kind = name.rpartition(".")
            change = Diff(tensor, budget, alpha, low, high)
            # unsafe: the check of shapes, which cannot change here, would sample every gate
            parametrize.register_parametrization(model.get_submodule(path), kind, change, unsafe=True)
    return model


class PruningSchedule(Hooks):
    """Search, project, train on.

    project_at: the share of the steps after which the projection comes. weight: the price of an open gate in the loss.
    """

    alone: str | None = "diff pruning draws gates and then fixes a mask while it trains"

    def __init__(self, project_at: float, weight: float) -> None:
        if not 0 < project_at <= 1:
            raise ValueError(f"project_at={project_at} must be above 0 and at most 1: it is a share of the steps")
        self.project_at, self.weight = project_at, weight
        self.last_search = 1

    def begin(self, model: nn.Module, steps: int) -> None:  # noqa: ARG002 - the signature is the seam
        self.last_search = max(1, round(self.project_at * steps))

    def penalty(self, model: nn.Module) -> Tensor:
        """The expected L0 norm of the gates times its weight; zero once the mask is fixed."""
        return self.weight * torch.stack([diff.expected_open() for diff in _diffs(model).values()]).sum()

    def after_step(self, model: nn.Module, step: int) -> None:
        if step == self.last_search:
            project(model)

    def is_final(self, step: int) -> bool:
        return step >= self.last_search


@torch.no_grad()
def project(model: nn.Module) -> None:
    """Fix the mask, and w at z * w. The parameters stay the same objects: an optimizer holds them."""
    diffs = _diffs(model).values()
    for diff, (mask, change) in zip(diffs, _kept(diffs), strict=True):
        diff.w.copy_(change)
        diff.mask = mask


@torch.no_grad()
def state(model: nn.Module) -> dict[str, Tensor]:
    """The head; per tensor of the backbone NAME.indices (flat) and NAME.values of what is kept, or would be by now."""
    found = {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if is_head(name, model)}
    diffs = _diffs(model)
    for name, (mask, change) in zip(diffs, _kept(diffs.values()), strict=True):
        places = mask.flatten().nonzero().flatten()
        found[f"{name}.indices"] = places.to(torch.int32 if mask.numel() <= 2**31 else torch.int64)
        found[f"{name}.values"] = change.flatten()[places].float()
    return found


@torch.no_grad()
def restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill in what `state` gave; the mask is then fixed. ValueError: names, shapes or places do not fit the model."""
    diffs = _diffs(model)
    head = {name: tensor for name, tensor in model.named_parameters() if is_head(name, model)}
    sparse = {f"{name}.{part}" for name in diffs for part in ("indices", "values")}
    if set(tensors) != sparse | set(head) or any(tensors[name].shape != head[name].shape for name in head):
        raise ValueError("tensors do not fit")
    for name, diff in diffs.items():
        places, values = (tensors[f"{name}.{part}"].to(diff.w.device) for part in ("indices", "values"))
        if places.shape != values.shape or ((places < 0) | (places >= diff.w.numel())).any():
            raise ValueError(f"the places in {name} do not fit")
        diff.mask = torch.zeros_like(diff.w, dtype=torch.bool)
        diff.mask.view(-1)[places.long()] = True
        diff.w.zero_().view(-1)[places.long()] = values.to(diff.w)
    for name, tensor in head.items():
        tensor.copy_(tensors[name])


def merged(model: nn.Module) -> nn.Module:
    """The plain model with the changed weights. Uses the model up."""
    for module in [module for module in model.modules() if parametrize.is_parametrized(module)]:
        module.eval()  # no sampling
        tuned = {kind: getattr(module, kind).detach().clone() for kind in module.parametrizations}  # type: ignore[union-attr]
        # Not remove_parametrizations: it takes the tensor's name from a class that copies of the module share.
        swap_back(module)
        del module.parametrizations
        for kind, tensor in tuned.items():
            module.register_parameter(kind, nn.Parameter(tensor))
    return model


def _kept(diffs: Collection[Diff]) -> list[tuple[Tensor, Tensor]]:
    """Each tensor's mask and change: as they are, or as a projection now would leave them."""
    if found := [(diff.mask, diff.w.data) for diff in diffs if diff.mask is not None]:
        return found
    changes = [diff.w * diff.gates(sample=False) for diff in diffs]
    sizes = torch.cat([change.abs().flatten() for change in changes])
    count = max(1, round(next(iter(diffs)).budget * len(sizes)))
    kept = torch.zeros_like(sizes, dtype=torch.bool)
    kept[sizes.topk(count, sorted=False).indices] = True
    parts = torch.split(kept, [change.numel() for change in changes])
    return [(part.view_as(change), change * part.view_as(change)) for part, change in zip(parts, changes, strict=True)]


def _diffs(model: nn.Module) -> dict[str, Diff]:
    """The changes, by the names that their tensors have in the plain model."""
    diffs = {name: module for name, module in model.named_modules() if isinstance(module, Diff)}
    return {name.replace("parametrizations.", "").removesuffix(".0"): diff for name, diff in diffs.items()}
