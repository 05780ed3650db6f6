"""Diff pruning (Guo et al. 2021, arXiv:2012.07463): learn a sparse change of the frozen weights and where it is.

The weights are pretrained + z * w. Each z is the product of two hard-concrete gates (Louizos et al. 2018,
arXiv:1712.01312): one per weight and one per tensor. This is the paper's structured variant. The loss penalises the
expected number of open gates. After this search, a projection keeps the largest |z * w|, exactly as many as the budget
allows, and these are trained further.
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
    """The change of one frozen tensor.

    Until `mask` is set, the gates select the changed weights. They are sampled in training mode only.

    Attributes:
        budget: Share of the backbone's weights that may change.
        low: Lower end of the stretched sigmoid, below 0.
        high: Upper end of the stretched sigmoid, above 1.
        w: The change, in the tensor's shape.
        alpha: Logits of the weights' gates, [numel].
        alpha_group: Logit of the tensor's gate, [1].
        mask: Which weights change, in the tensor's shape. None before the projection.
    """

    mask: Tensor | None

    def __init__(self, original: Tensor, budget: float, alpha: float, low: float, high: float) -> None:
        super().__init__()
        self.budget, self.low, self.high = budget, low, high
        self.w = nn.Parameter(original.new_zeros(original.shape))
        # One-dimensional, so that weight decay treats it as a bias and skips it. Decay would close the gates.
        self.alpha = nn.Parameter(original.new_full((original.numel(),), alpha))
        self.alpha_group = nn.Parameter(original.new_full((1,), alpha))
        self.register_buffer("mask", None)

    def forward(self, original: Tensor) -> Tensor:
        return torch.addcmul(original, self.w, self.gates(sample=self.training) if self.mask is None else self.mask)

    def gates(self, *, sample: bool) -> Tensor:
        """Return z, in the tensor's shape.

        Args:
            sample: Whether to sample the gates or take their values without noise.
        """
        return (self._gate(self.alpha, sample=sample) * self._gate(self.alpha_group, sample=sample)).view_as(self.w)

    def _gate(self, alpha: Tensor, *, sample: bool) -> Tensor:
        # In place where autograd allows it: on a CPU, allocating memory costs more than the arithmetic.
        logits = torch.rand_like(alpha).logit_().add_(alpha) if sample else alpha
        stretched = (logits.sigmoid() * (self.high - self.low)).add_(self.low)
        return nn.functional.hardtanh(stretched, 0, 1, inplace=True)

    def expected_open(self) -> Tensor:
        """Return the expected number of open gates, a scalar. It is zero once the mask is set.

        The gates are counted separately, as in the authors' code. Counting open z instead closed 99% of MiniLM's
        tensors.
        """
        if self.mask is not None:
            return self.alpha_group.new_zeros(())
        shift = math.log(-self.low / self.high)
        return (self.alpha - shift).sigmoid().sum() + (self.alpha_group - shift).sigmoid().sum()


def attach(model: nn.Module, *, budget: float, alpha: float, stretch: Sequence[float]) -> nn.Module:
    """Add a gated change to every tensor of the backbone. The head is trained directly.

    With N weights in G tensors, this trains 2 * N + G + head parameters. The projection keeps round(budget * N) + head
    of them in use.

    Args:
        model: Changed in place.
        budget: Share of the backbone's weights that may change.
        alpha: Initial logit of the gates.
        stretch: Interval to which the gates' sigmoids are stretched: below 0, above 1.

    Returns:
        The same model.

    Raises:
        ValueError: The budget or the stretch is outside its range.
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
            # unsafe=True skips a check of shapes, which would sample every gate. Shapes cannot change here.
            parametrize.register_parametrization(model.get_submodule(path), kind, change, unsafe=True)
    return model


class PruningSchedule(Hooks):
    """Search with gates, project onto the budget, then train the weights that are left.

    Attributes:
        project_at: Share of the steps after which the projection is done.
        weight: Penalty for an open gate in the loss.
        last_search: The step after which the projection is done, set by `begin`.
    """

    alone: str | None = "diff pruning samples gates and then fixes a mask during training"

    def __init__(self, project_at: float, weight: float) -> None:
        if not 0 < project_at <= 1:
            raise ValueError(f"project_at={project_at} must be above 0 and at most 1: it is a share of the steps")
        self.project_at, self.weight = project_at, weight
        self.last_search = 1

    def begin(self, model: nn.Module, steps: int) -> None:  # noqa: ARG002 - the signature is the seam
        self.last_search = max(1, round(self.project_at * steps))

    def penalty(self, model: nn.Module) -> Tensor:
        """Return the expected L0 norm of the gates times its weight, a scalar. It is zero once the mask is fixed."""
        return self.weight * torch.stack([diff.expected_open() for diff in _diffs(model).values()]).sum()

    def after_step(self, model: nn.Module, step: int) -> None:
        if step == self.last_search:
            project(model)

    def is_final(self, step: int) -> bool:
        return step >= self.last_search


@torch.no_grad()
def project(model: nn.Module) -> None:
    """Fix the mask and set w to z * w. The parameters stay the same objects because the optimizer holds them.

    Args:
        model: A model with gates from `attach`. Changed in place.
    """
    diffs = _diffs(model).values()
    for diff, (mask, change) in zip(diffs, _kept(diffs), strict=True):
        diff.w.copy_(change)
        diff.mask = mask


@torch.no_grad()
def state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to save.

    Returns:
        The head's parameters by name and, for every tensor NAME of the backbone, NAME.indices (into the flat tensor)
        and NAME.values of the weights that change. Before the projection, these are the weights that it would keep now.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if is_head(name, model)}
    diffs = _diffs(model)
    for name, (mask, change) in zip(diffs, _kept(diffs.values()), strict=True):
        indices = mask.flatten().nonzero().flatten()
        tensors[f"{name}.indices"] = indices.to(torch.int32 if mask.numel() <= 2**31 else torch.int64)
        tensors[f"{name}.values"] = change.flatten()[indices].float()
    return tensors


@torch.no_grad()
def restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill in the tensors that `state` returned and fix the mask.

    Args:
        model: A model with gates from `attach`. Changed in place.
        tensors: Tensors by name, as `state` returns them.

    Raises:
        ValueError: Names, shapes or indices do not fit the model.
    """
    diffs = _diffs(model)
    head = {name: tensor for name, tensor in model.named_parameters() if is_head(name, model)}
    sparse = {f"{name}.{part}" for name in diffs for part in ("indices", "values")}
    if set(tensors) != sparse | set(head) or any(tensors[name].shape != head[name].shape for name in head):
        raise ValueError("tensors do not fit")
    for name, diff in diffs.items():
        indices, values = (tensors[f"{name}.{part}"].to(diff.w.device) for part in ("indices", "values"))
        if indices.shape != values.shape or ((indices < 0) | (indices >= diff.w.numel())).any():
            raise ValueError(f"the indices in {name} do not fit")
        diff.mask = torch.zeros_like(diff.w, dtype=torch.bool)
        diff.mask.view(-1)[indices.long()] = True
        diff.w.zero_().view(-1)[indices.long()] = values.to(diff.w)
    for name, tensor in head.items():
        tensor.copy_(tensors[name])


def merged(model: nn.Module) -> nn.Module:
    """Merge the changes into the weights.

    Args:
        model: A model with gates from `attach`. Changed in place.

    Returns:
        The same model with ordinary parameters and the changed weights.
    """
    for module in [module for module in model.modules() if parametrize.is_parametrized(module)]:
        module.eval()  # do not sample the gates
        tuned = {kind: getattr(module, kind).detach().clone() for kind in module.parametrizations}  # type: ignore[union-attr]
        # remove_parametrizations would delete the property from a class that copies of the module share.
        swap_back(module)
        del module.parametrizations
        for kind, tensor in tuned.items():
            module.register_parameter(kind, nn.Parameter(tensor))
    return model


def _kept(diffs: Collection[Diff]) -> list[tuple[Tensor, Tensor]]:
    """Return the mask and the change of each tensor: the fixed ones, or those that a projection now would produce."""
    if projected := [(diff.mask, diff.w.data) for diff in diffs if diff.mask is not None]:
        return projected
    changes = [diff.w * diff.gates(sample=False) for diff in diffs]
    magnitudes = torch.cat([change.abs().flatten() for change in changes])
    count = max(1, round(next(iter(diffs)).budget * len(magnitudes)))
    kept = torch.zeros_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.topk(count, sorted=False).indices] = True
    masks = torch.split(kept, [change.numel() for change in changes])
    return [(mask.view_as(change), change * mask.view_as(change)) for mask, change in zip(masks, changes, strict=True)]


def _diffs(model: nn.Module) -> dict[str, Diff]:
    """Return the changes, keyed by the names of their tensors in the original model."""
    diffs = {name: module for name, module in model.named_modules() if isinstance(module, Diff)}
    return {name.replace("parametrizations.", "").removesuffix(".0"): diff for name, diff in diffs.items()}
