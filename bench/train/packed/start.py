"""Before the first step: initialise a method from data, and record where the trials of a pack start."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import prod

import torch
from torch import Tensor, nn

from bench.models.structure import trained
from bench.models.vmap.dropout import Streams, drawing, of_trial
from bench.tasks.encoding.rows import Rows
from bench.train.batches import Batch, by_length, collate
from bench.train.device import Compute
from bench.train.evaluate import arguments, forward, loss_of, predict
from bench.train.settings import Training

PREPARING = 16  # batches that a method may use to initialise itself
EVALUATED = 2  # rows of the rehearsal's evaluation


class Unpackable(Exception):  # noqa: N818 - the trials run one by one instead
    """The trials of a cell cannot be trained together. The message is the reason."""


def rehearse(model: nn.Module, training: Training) -> None:
    """Prepare a model for its first step: initialise the method from data, and evaluate a few rows.

    The evaluation is run for its side effects: if it breaks the model, the guard must see that in training.

    Args:
        model: A model with the method attached.
        training: The settings of the cell.
    """
    data, plan, compute = training.data, training.plan, training.compute
    model.eval()
    batches = plan.one_pass(data.train, number=0, seed=plan.data_seed)
    first = [arguments(batch.to(compute.device)) for batch in islice(batches, PREPARING)]
    training.recipe.hooks.prepare(model, first)
    predict(model, data.select.first(EVALUATED), plan.eval_batch, compute)


@dataclass(frozen=True)
class Layout:
    """The position of each trained tensor in a trial's row of numbers.

    Attributes:
        shapes: The shape of each trained tensor, by name, in the order of the row. The head comes first.
        names_of_head: The names of the tensors that belong to the task's head.
    """

    shapes: dict[str, torch.Size]
    names_of_head: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module) -> "Layout":
        """Return the layout of a model's trained tensors.

        Raises:
            Unpackable: A trained tensor is not in fp32.
        """
        head, body = trained(model)
        parameters = head | body
        if not_fp32 := [name for name, parameter in parameters.items() if parameter.dtype is not torch.float32]:
            raise Unpackable(f"{not_fp32[0]} is trained in {parameters[not_fp32[0]].dtype}")
        return cls({name: parameter.shape for name, parameter in parameters.items()}, frozenset(head))

    @property
    def head(self) -> int:
        """How many numbers at the beginning of a row belong to the head."""
        return sum(prod(shape) for name, shape in self.shapes.items() if name in self.names_of_head)

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """Return the tensors of a row by name, as views.

        Args:
            row: The trained numbers of one trial, [numbers].
        """
        parts = torch.split(row, [prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}

    def join(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the row that holds these tensors, [numbers]. It is the inverse of `split`."""
        return torch.cat([tensors[name].detach().flatten() for name in self.shapes])

    def point(self, parameters: Mapping[str, nn.Parameter], row: Tensor, gradient: Tensor) -> None:
        """Make parameters and their gradients views of two rows.

        The parameter objects stay the same, so an optimizer that holds them stays valid.

        Args:
            parameters: The trained parameters, by name.
            row: The numbers that the parameters shall view, [numbers].
            gradient: The numbers that their gradients shall view, [numbers].
        """
        parts, gradients = self.split(row), self.split(gradient)
        for name, parameter in parameters.items():
            parameter.data = parts[name]
            parameter.grad = gradients[name]


@dataclass(frozen=True)
class Start:
    """The starting point of the trials of one seed.

    Attributes:
        seed: The seed.
        row: The trained numbers, [numbers].
        gradient: Their gradient on the sample, computed in the seed's own model, [numbers].
        other: Frozen tensors that depend on the seed, by name. Only those that differ between seeds are kept.
    """

    seed: int
    row: Tensor
    gradient: Tensor
    other: dict[str, Tensor] = field(default_factory=dict)


def gather(models: Iterable[tuple[int, nn.Module]], sample: Batch, compute: Compute) -> tuple[nn.Module, list[Start]]:
    """Keep the model of the first seed, and the starting point of every seed.

    Args:
        models: Each seed with its prepared model. Only two models are alive at a time.
        sample: The batch for the gradients.
        compute: The device and the arithmetic.

    Returns:
        The first model, and one starting point per seed.

    Raises:
        Unpackable: The models differ in more than their numbers, or a trained tensor is not in fp32 or gets no
            gradient.
    """
    remaining = iter(models)
    first_seed, frame = next(remaining)
    layout = Layout.of(frame)
    starts = [_start(first_seed, frame, frame, layout, sample, compute)]
    starts += [_start(seed, model, frame, layout, sample, compute) for seed, model in remaining]
    names = {name for start in starts for name in start.other}
    frozen = _frozen(frame, layout)
    for start in starts:
        start.other.update({name: frozen[name].detach().clone() for name in names - set(start.other)})
    return frame, starts


def _start(seed: int, model: nn.Module, frame: nn.Module, layout: Layout, sample: Batch, compute: Compute) -> Start:
    other = dict(_differing(frame, model, layout))
    row = layout.join(dict(model.named_parameters()))
    return Start(seed, row, _gradient(model, layout, sample, seed, compute), other)


def sample_of(rows: Rows) -> Batch:
    """Return a batch of two rows, the shortest one and one of median length. It is padded, and fast to compute."""
    order = by_length(rows, 1)
    return collate(rows, torch.cat([order[0], order[len(order) // 2]]))


def _frozen(model: nn.Module, layout: Layout) -> dict[str, Tensor]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor for name, tensor in tensors if name not in layout.shapes}


def _differing(frame: nn.Module, model: nn.Module, layout: Layout) -> Iterator[tuple[str, Tensor]]:
    """The frozen tensors of a model that differ from those of the frame."""
    if Layout.of(model).shapes != layout.shapes:
        raise Unpackable("the seeds differ in the shapes of their trained tensors")
    frame_tensors, model_tensors = _frozen(frame, layout), _frozen(model, layout)
    for name, tensor in frame_tensors.items():
        other = model_tensors.get(name)
        if other is None or other.shape != tensor.shape or other.dtype is not tensor.dtype:
            raise Unpackable(f"the seeds differ in the shape of {name}")
        if frame is not model and not torch.equal(tensor, other):
            yield name, other.detach()


def _gradient(model: nn.Module, layout: Layout, sample: Batch, seed: int, compute: Compute) -> Tensor:
    """The gradient of the sample's loss by ordinary backpropagation, [numbers]. Unpackable if a tensor gets none."""
    model.train()
    streams = Streams([seed], compute.device)
    streams.start(0)
    with drawing(streams), of_trial(torch.tensor(0)), compute.autocast():
        logits = forward(model, sample)
    loss_of(logits, sample).backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    gradients = {name: parameters[name].grad for name in layout.shapes}
    model.zero_grad(set_to_none=True)
    if unreached := [name for name, gradient in gradients.items() if gradient is None]:
        raise Unpackable(f"{unreached[0]} gets no gradient")
    return layout.join(gradients)  # type: ignore[arg-type]
