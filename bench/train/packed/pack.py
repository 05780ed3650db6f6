"""Several trials over one copy of the frozen model: what they train is stacked, and one pass serves all of them.

The loss of one trial is a function of its row of trained numbers; `torch.func` maps it over the rows, without a line of
code per method. Trials do not meet in the losses, so the gradient of their sum by all rows holds each one's own. What
does not depend on a trial's row is computed once: the layers below the first adapted one, for all trials of a seed.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.events import Event
from bench.models.structure import trained_depth
from bench.models.vmap.dropout import Streams, drawing, of_trial
from bench.tasks.encoding.rows import Rows
from bench.tasks.encoding.written import Written
from bench.train.batches import Batch, collate, for_evaluation
from bench.train.curve import Measured
from bench.train.evaluate import arguments, loss_of, predict
from bench.train.guard import Guard, fingerprints
from bench.train.memory import trials_in_cache
from bench.train.outcome import Unsound, is_oom, release
from bench.train.packed.start import Layout, Start, Unpackable
from bench.train.packed.vmap import over_trials
from bench.train.settings import Training, Wanted
from bench.train.step import clip_rows
from bench.train.trial_state import Member

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the gradient's norm: packed against a model of its own


class Packed:
    """The trials of one cell in one model. starts: of every seed that the trials have."""

    def __init__(
        self,
        frame: nn.Module,
        starts: Sequence[Start],
        wanted: Sequence[Wanted],
        training: Training,
        emit: Callable[[Event], None],
    ) -> None:
        self.frame, self.training, self.device = frame, training, training.compute.device
        self.layout, self.guard = Layout.of(frame), Guard(frame)
        self.seeds = [start.seed for start in starts]
        self.other = {name: torch.stack([start.other[name] for start in starts]) for name in starts[0].other}
        ordered = sorted(wanted, key=lambda one: self.seeds.index(one.seed))
        self.rows = torch.stack([starts[self.seeds.index(one.seed)].row for one in ordered])
        self.grads = torch.zeros_like(self.rows)
        self.chunk = len(ordered)  # trials that go through the model at once
        self.steps, self.depth, self.shares = 0, trained_depth(frame), True  # shared: what does not depend on the trial
        self.members: list[Member] = []
        for row, gradient, one in zip(self.rows, self.grads, ordered, strict=True):
            parameters = {name: nn.Parameter(part) for name, part in self.layout.split(row).items()}
            self.layout.point(parameters, row, gradient)
            self.members.append(Member(one, parameters, self.layout.names_of_head, training, emit))
        self._settle()
        self.before = {id(member): self._body(place) for place, member in enumerate(self.members)}

    def verify(self, starts: Sequence[Start], sample: Batch) -> None:
        """Compare the gradients at the start with those of a model per seed. Unpackable: they differ, or cannot be."""
        grads = self._tried(sample)
        for member, found in zip(self.members, grads, strict=True):
            expected = starts[self.seeds.index(member.wanted.seed)].gradient
            apart, size = torch.linalg.vector_norm(found - expected), torch.linalg.vector_norm(expected)
            if not apart <= TOLERANCE[self.training.compute.dtype] * size:
                raise Unpackable(f"packed gradients are {float(apart / size):.1g} of their norm away from single ones")

    def _tried(self, sample: Batch) -> Tensor:
        """The gradients of a first pass: with what trials have in common shared, or else with nothing shared."""
        self.frame.train()
        for shares in dict.fromkeys((self.depth < 1, False)):  # without a layer to share it is a level for nothing
            self.shares = shares
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", message="There is a performance drop")  # a loop over trials
                    self.streams.start(self.steps)
                    self._gradients(sample, range(len(self.members)))
                return self.grads.clone()
            except Exception as error:
                if is_oom(error):
                    raise
                release(error)
                why = error
        raise Unpackable(f"it does not map over trials: {str(why).strip().partition(chr(10))[0]}") from why

    is_final = True  # methods that are on the way to something run alone

    def train(self) -> None:
        self.frame.train()

    def step(self, batch: Batch) -> list[Measured]:
        """Update every member once. Where memory runs out, fewer trials go through the model at once from then on."""
        losses = self._in_chunks(self._gradients, batch)
        self.steps += 1
        norm, body = clip_rows(self.grads, self.layout.head, self.training.plan.clip)
        for member in self.members:
            member.optimizer.step()
            member.advance()
        bodies = [None] * len(norm) if body is None else body
        return [Measured(loss, None, *both) for loss, *both in zip(torch.cat(losses), norm, bodies, strict=True)]

    @torch.no_grad()
    def predict(self, rows: Rows, batch: int) -> Tensor:
        """The answers, on the CPU, in the rows' order: [members, rows]."""
        if isinstance(rows.read, Written):  # it takes as many calls as it takes: one trial after the other
            each = (self.model_of(member) for member in self.members)
            return torch.stack([predict(model, rows, batch, self.training.compute) for model in each])
        return rows.answers(self._read(rows, batch, rows.read.answers))

    @torch.no_grad()
    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """The answers and their losses, on the CPU, in the rows' order: both [members, questions]."""
        if isinstance(rows.read, Written):  # what is written out has no loss
            answers = self.predict(rows, batch)
            return answers, torch.full(answers.shape, torch.nan)
        return rows.judged(self._read(rows, batch, rows.read.judge))

    def _read(self, rows: Rows, batch: int, read: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """What is read of every row, by every member: [members, rows, ...]."""
        self.frame.eval()
        order = for_evaluation(rows, batch, self.device)
        batches = (collate(rows, numbers).to(self.device) for numbers in order)
        found = [torch.cat(self._in_chunks(partial(self._answers, read), one)) for one in batches]
        return torch.cat(found, 1).cpu()[:, torch.cat(order).argsort()]

    def check(self) -> None:
        """Unsound: what is frozen has moved."""
        self.guard.check_frozen(self.frame)

    def check_moved(self, member: Member) -> None:
        """Unsound: what it trains stands where it began, except the head."""
        if self.rows.shape[1] > self.layout.head and self._body(self.members.index(member)) == self.before[id(member)]:
            raise Unsound("nothing that is trained has moved, except the head: no gradient reaches it")

    @torch.no_grad()
    def drop(self, members: Sequence[Member]) -> None:
        """Go on without them: their rows are given up, and nobody else's numbers change."""
        keep = [place for place, member in enumerate(self.members) if member not in members]
        self.members = [self.members[place] for place in keep]
        self.rows, self.grads = self.rows[keep], self.grads[keep]
        self._settle()
        for member, row, gradient in zip(self.members, self.rows, self.grads, strict=True):
            self.layout.point(member.parameters, row, gradient)

    @torch.no_grad()
    def model_of(self, member: Member) -> nn.Module:
        """The model with that trial's weights in it, until the next call."""
        named = dict([*self.frame.named_parameters(), *self.frame.named_buffers()])
        seed = self.seeds.index(member.wanted.seed)
        for name, tensor in [*member.parameters.items(), *((name, many[seed]) for name, many in self.other.items())]:
            named[name].copy_(tensor)
        return self.frame

    def _settle(self) -> None:
        self.streams = Streams([member.wanted.seed for member in self.members], self.device)
        self.seed_of = [self.seeds.index(member.wanted.seed) for member in self.members]

    def _body(self, place: int) -> Any:
        return fingerprints({"body": self.rows[place, self.layout.head :]})

    def _in_chunks(self, call: Callable[[Batch, range], Tensor], batch: Batch) -> list[Tensor]:
        """Call with the places of as many trials at once as there is room for; halves them where there is not.

        Every attempt draws the same random numbers: dropout's masks do not tell how much memory there was.
        """
        while True:
            self.streams.start(self.steps)
            places = range(len(self.members))
            rows = self.training.plan.at_once(batch.rows, batch.width)
            tokens = rows * batch.input_ids.shape[-1] * (self.depth if self.shares else 1)
            size = min(self.chunk, len(places), trials_in_cache(tokens, self.device))
            try:
                return [call(batch, places[first : first + size]) for first in range(0, len(places), size)]
            except Exception as error:
                if size == 1 or not is_oom(error):
                    raise
                release(error)
            self.chunk = -(-size // 2)

    def _gradients(self, batch: Batch, places: range) -> Tensor:
        """Fill in the gradients of some trials; gives their losses."""
        rows = self.rows[places.start : places.stop].detach().requires_grad_()
        gradients, losses = self.grads[places.start : places.stop].zero_(), torch.zeros(len(rows), device=self.device)
        for part in self.training.plan.parts(batch):
            found = self._over(places, loss_of, part, rows)
            gradients += torch.autograd.grad(found.sum(), rows)[0]
            losses += found.detach()
        return losses

    def _answers(self, read: Callable[[Tensor, Batch], Tensor], batch: Batch, places: range) -> Tensor:
        return self._over(places, read, batch, self.rows[places.start : places.stop])

    def _over(self, places: range, read: Callable[[Tensor, Batch], Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """What is read of the logits of some trials, stacked. rows: the trials' own."""

        def one(row: Tensor, number: Tensor, other: dict[str, Tensor], part: Batch) -> Tensor:
            return read(self._logits(row, number, other, part), part)

        seeds, numbers = [self.seed_of[place] for place in places], torch.arange(places.start, places.stop)
        with drawing(self.streams):
            return over_trials(one, rows, numbers, seeds, self.other, batch, shares=self.shares)

    def _logits(self, row: Tensor, number: Tensor, other: dict[str, Tensor], batch: Batch) -> Tensor:
        """Of one trial, in fp32."""
        with of_trial(number), self.training.compute.autocast():
            called: Any = functional_call(self.frame, self.layout.split(row) | other, kwargs=arguments(batch))
        logits: Tensor = called.logits.float()
        return logits
