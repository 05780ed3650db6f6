"""Before the first step: what a method takes from the data, and where the trials of a pack begin."""

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

PREPARING = 16  # batches that a method may look at before it trains
EVALUATED = 2  # rows


class Unpackable(Exception):  # noqa: N818 - the trials run one by one instead
    """Why the trials of a cell cannot be trained together."""


def rehearse(model: nn.Module, training: Training) -> None:
    """What comes before the first step: the method's start from data, and an evaluation of a few rows.

    The evaluation is there for its after-effects: what it breaks must show in training, where the guard sees it.
    """
    data, plan, compute = training.data, training.plan, training.compute
    model.eval()
    batches = plan.one_pass(data.train, number=0, seed=plan.data_seed)
    first = [arguments(batch.to(compute.device)) for batch in islice(batches, PREPARING)]
    training.recipe.hooks.prepare(model, first)
    predict(model, data.select.first(EVALUATED), plan.eval_batch, compute)


@dataclass(frozen=True)
class Layout:
    """Where each trained tensor lies in a trial's row of numbers. The head's come first, `head` numbers in all."""

    shapes: dict[str, torch.Size]
    names_of_head: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module) -> "Layout":
        """Unpackable: the trained tensors are not all in fp32."""
        head, body = trained(model)
        named = head | body
        if other := [name for name, parameter in named.items() if parameter.dtype is not torch.float32]:
            raise Unpackable(f"{other[0]} is trained in {named[other[0]].dtype}")
        return cls({name: parameter.shape for name, parameter in named.items()}, frozenset(head))

    @property
    def head(self) -> int:
        return sum(prod(shape) for name, shape in self.shapes.items() if name in self.names_of_head)

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """The tensors by name. row: [numbers]."""
        parts = torch.split(row, [prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}

    def join(self, tensors: dict[str, Tensor]) -> Tensor:
        """The row of the tensors."""
        return torch.cat([tensors[name].detach().flatten() for name in self.shapes])

    def point(self, parameters: Mapping[str, nn.Parameter], row: Tensor, gradient: Tensor) -> None:
        """Let parameters and their gradients be views of two rows; they stay the objects that an optimizer holds."""
        parts, gradients = self.split(row), self.split(gradient)
        for name, parameter in parameters.items():
            parameter.data = parts[name]
            parameter.grad = gradients[name]


@dataclass(frozen=True)
class Start:
    """Where the trials of one seed begin. row: the trained numbers. gradient: theirs on the sample, in their own model.

    other: the tensors that the seed draws and the method leaves frozen, as far as the seeds differ in them.
    """

    seed: int
    row: Tensor
    gradient: Tensor
    other: dict[str, Tensor] = field(default_factory=dict)


def gather(models: Iterable[tuple[int, nn.Module]], sample: Batch, compute: Compute) -> tuple[nn.Module, list[Start]]:
    """Keep one model of all seeds' and, of the others, where they begin. Unpackable: they differ in more than numbers.

    models: prepared ones with their seeds; only two are alive at a time.
    """
    given = iter(models)
    first, frame = next(given)
    layout = Layout.of(frame)
    starts = [_start(first, frame, frame, layout, sample, compute)]
    starts += [_start(seed, model, frame, layout, sample, compute) for seed, model in given]
    names = {name for start in starts for name in start.other}
    own = _frozen(frame, layout)
    for start in starts:
        start.other.update({name: own[name].detach().clone() for name in names - set(start.other)})
    return frame, starts


def _start(seed: int, model: nn.Module, frame: nn.Module, layout: Layout, sample: Batch, compute: Compute) -> Start:
    other = dict(_differing(frame, model, layout))
    row = layout.join(dict(model.named_parameters()))
    return Start(seed, row, _gradient(model, layout, sample, seed, compute), other)


def sample_of(rows: Rows) -> Batch:
    """Two rows, a short one and one of median length: padded, and fast."""
    order = by_length(rows, 1)
    return collate(rows, torch.cat([order[0], order[len(order) // 2]]))


def _frozen(model: nn.Module, layout: Layout) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor for name, tensor in named if name not in layout.shapes}


def _differing(frame: nn.Module, model: nn.Module, layout: Layout) -> Iterator[tuple[str, Tensor]]:
    """The frozen tensors in which a model differs from the frame."""
    if Layout.of(model).shapes != layout.shapes:
        raise Unpackable("the seeds differ in the shapes of what they train")
    ours, theirs = _frozen(frame, layout), _frozen(model, layout)
    for name, tensor in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != tensor.shape or other.dtype is not tensor.dtype:
            raise Unpackable(f"the seeds differ in the shape of {name}")
        if frame is not model and not torch.equal(tensor, other):
            yield name, other.detach()


def _gradient(model: nn.Module, layout: Layout, sample: Batch, seed: int, compute: Compute) -> Tensor:
    """The gradient of the sample's loss by ordinary backpropagation: [numbers]. Unpackable: some tensor gets none."""
    model.train()
    streams = Streams([seed], compute.device)
    streams.start(0)
    with drawing(streams), of_trial(torch.tensor(0)), compute.autocast():
        logits = forward(model, sample)
    loss_of(logits, sample).backward()  # type: ignore[no-untyped-call]
    named = dict(model.named_parameters())
    gradients = {name: named[name].grad for name in layout.shapes}
    model.zero_grad(set_to_none=True)
    if idle := [name for name, gradient in gradients.items() if gradient is None]:
        raise Unpackable(f"{idle[0]} gets no gradient")
    return layout.join(gradients)  # type: ignore[arg-type]
