"""Train several trials over one copy of the frozen model. Their trained weights are stacked, and one pass serves all.

The loss of one trial is a function of its row of trained numbers. `torch.func` maps this function over the rows, so no
method needs code of its own. Trials do not interact in the losses, so the gradient of the summed loss with respect to
all rows contains each trial's own gradient. Computation that does not depend on a trial's row is done once: the layers
below the first adapted one are computed once for all trials of a seed.
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

# Largest allowed distance between a packed gradient and that of a separate model, as a share of the gradient's norm.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


class Packed:
    """The trials of one cell in one model."""

    def __init__(
        self,
        frame: nn.Module,
        starts: Sequence[Start],
        wanted: Sequence[Wanted],
        training: Training,
        emit: Callable[[Event], None],
    ) -> None:
        """Stack the trials.

        Args:
            frame: The model that all trials share.
            starts: The starting point of every seed that the trials use.
            wanted: The trials.
            training: The settings that the trials share.
            emit: Receives the events of the trials.
        """
        self.frame, self.training, self.device = frame, training, training.compute.device
        self.layout, self.guard = Layout.of(frame), Guard(frame)
        self.seeds = [start.seed for start in starts]
        self.other = {name: torch.stack([start.other[name] for start in starts]) for name in starts[0].other}
        ordered = sorted(wanted, key=lambda trial: self.seeds.index(trial.seed))
        self.rows = torch.stack([starts[self.seeds.index(trial.seed)].row for trial in ordered])
        self.grads = torch.zeros_like(self.rows)
        self.chunk = len(ordered)  # trials per forward pass
        # shares: whether to compute the layers below the first adapted one only once per seed.
        self.steps, self.depth, self.shares = 0, trained_depth(frame), True
        self.members: list[Member] = []
        for row, gradient, trial in zip(self.rows, self.grads, ordered, strict=True):
            parameters = {name: nn.Parameter(part) for name, part in self.layout.split(row).items()}
            self.layout.point(parameters, row, gradient)
            self.members.append(Member(trial, parameters, self.layout.names_of_head, training, emit))
        self._index_seeds()
        self.before = {id(member): self._body_fingerprint(place) for place, member in enumerate(self.members)}

    def verify(self, starts: Sequence[Start], sample: Batch) -> None:
        """Compare the packed gradients at the start with those of one model per seed.

        Args:
            starts: The starting points, with the expected gradients.
            sample: The batch on which those gradients were computed.

        Raises:
            Unpackable: The gradients differ by more than TOLERANCE, or the model does not map over trials.
        """
        grads = self._first_gradients(sample)
        for member, gradient in zip(self.members, grads, strict=True):
            expected = starts[self.seeds.index(member.wanted.seed)].gradient
            distance, size = torch.linalg.vector_norm(gradient - expected), torch.linalg.vector_norm(expected)
            if not distance <= TOLERANCE[self.training.compute.dtype] * size:
                raise Unpackable(
                    f"packed gradients are {float(distance / size):.1g} of their norm away from those of single trials"
                )

    def _first_gradients(self, sample: Batch) -> Tensor:
        """The gradients of a first pass. Computation is shared between trials where possible; otherwise nothing is."""
        self.frame.train()
        for shares in dict.fromkeys(
            (self.depth < 1, False)
        ):  # sharing costs a vmap level, wasted if no layer is shared
            self.shares = shares
            try:
                with warnings.catch_warnings():
                    # vmap warns when it falls back to a loop over trials; that counts as a failure.
                    warnings.filterwarnings("error", message="There is a performance drop")
                    self.streams.start(self.steps)
                    self._gradients(sample, range(len(self.members)))
                return self.grads.clone()
            except Exception as error:
                if is_oom(error):
                    raise
                release(error)
                cause = error
        raise Unpackable(f"it does not map over trials: {str(cause).strip().partition(chr(10))[0]}") from cause

    is_final = True  # methods with intermediate states are never packed

    def train(self) -> None:
        """Switch to training mode."""
        self.frame.train()

    def step(self, batch: Batch) -> list[Measured]:
        """Update every member once.

        If memory runs out, fewer trials share a forward pass from then on.

        Args:
            batch: A batch on the model's device.

        Returns:
            One measurement per member.
        """
        losses = self._in_chunks(self._gradients, batch)
        self.steps += 1
        norm, body = clip_rows(self.grads, self.layout.head, self.training.plan.clip)
        for member in self.members:
            member.optimizer.step()
            member.advance()
        bodies = [None] * len(norm) if body is None else body
        return [Measured(loss, None, *norms) for loss, *norms in zip(torch.cat(losses), norm, bodies, strict=True)]

    @torch.no_grad()
    def predict(self, rows: Rows, batch: int) -> Tensor:
        """Return the answers of every member, on the CPU.

        Args:
            rows: The rows to answer.
            batch: The maximum number of rows per forward pass.

        Returns:
            Answers in the rows' order, [members, rows].
        """
        if isinstance(rows.read, Written):  # generation takes a varying number of calls: one trial at a time
            models = (self.model_of(member) for member in self.members)
            return torch.stack([predict(model, rows, batch, self.training.compute) for model in models])
        return rows.answers(self._read(rows, batch, rows.read.answers))

    @torch.no_grad()
    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """Return the answers of every member and their losses, on the CPU.

        Args:
            rows: The rows to answer.
            batch: The maximum number of rows per forward pass.

        Returns:
            Answers and losses in the rows' order, both [members, questions]. Losses of generated answers are NaN.
        """
        if isinstance(rows.read, Written):  # a generated answer has no loss
            answers = self.predict(rows, batch)
            return answers, torch.full(answers.shape, torch.nan)
        return rows.judged(self._read(rows, batch, rows.read.judge))

    def _read(self, rows: Rows, batch: int, read: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """Apply `read` to every member's logits for every row: [members, rows, ...], on the CPU."""
        self.frame.eval()
        order = for_evaluation(rows, batch, self.device)
        batches = (collate(rows, numbers).to(self.device) for numbers in order)
        outputs = [torch.cat(self._in_chunks(partial(self._answers, read), part)) for part in batches]
        return torch.cat(outputs, 1).cpu()[:, torch.cat(order).argsort()]

    def check(self) -> None:
        """Check the frozen weights.

        Raises:
            Unsound: A frozen tensor has changed.
        """
        self.guard.check_frozen(self.frame)

    def check_moved(self, member: Member) -> None:
        """Check the trained weights of one member.

        Raises:
            Unsound: None of them has changed, except in the head.
        """
        has_body = self.rows.shape[1] > self.layout.head
        if has_body and self._body_fingerprint(self.members.index(member)) == self.before[id(member)]:
            raise Unsound("no trained weight has moved, except in the head: no gradient reaches the others")

    @torch.no_grad()
    def drop(self, members: Sequence[Member]) -> None:
        """Remove these members and their rows. The numbers of the other members do not change."""
        keep = [place for place, member in enumerate(self.members) if member not in members]
        self.members = [self.members[place] for place in keep]
        self.rows, self.grads = self.rows[keep], self.grads[keep]
        self._index_seeds()
        for member, row, gradient in zip(self.members, self.rows, self.grads, strict=True):
            self.layout.point(member.parameters, row, gradient)

    @torch.no_grad()
    def model_of(self, member: Member) -> nn.Module:
        """Return the model with this member's weights loaded. It is valid until the next call."""
        tensors = dict([*self.frame.named_parameters(), *self.frame.named_buffers()])
        seed = self.seeds.index(member.wanted.seed)
        of_seed = ((name, by_seed[seed]) for name, by_seed in self.other.items())
        for name, tensor in [*member.parameters.items(), *of_seed]:
            tensors[name].copy_(tensor)
        return self.frame

    def _index_seeds(self) -> None:
        """Set the dropout streams and the seed indices of the current members."""
        self.streams = Streams([member.wanted.seed for member in self.members], self.device)
        self.seed_of = [self.seeds.index(member.wanted.seed) for member in self.members]

    def _body_fingerprint(self, place: int) -> Any:
        return fingerprints({"body": self.rows[place, self.layout.head :]})

    def _in_chunks(self, call: Callable[[Batch, range], Tensor], batch: Batch) -> list[Tensor]:
        """Call with the places of as many trials at once as fit into memory. Halve their number when memory runs out.

        Every attempt draws the same random numbers, so dropout masks do not depend on the available memory.
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
        """Compute the gradients of these trials into `grads`, and return their losses."""
        rows = self.rows[places.start : places.stop].detach().requires_grad_()
        gradients, losses = self.grads[places.start : places.stop].zero_(), torch.zeros(len(rows), device=self.device)
        for part in self.training.plan.parts(batch):
            part_losses = self._over(places, loss_of, part, rows)
            gradients += torch.autograd.grad(part_losses.sum(), rows)[0]
            losses += part_losses.detach()
        return losses

    def _answers(self, read: Callable[[Tensor, Batch], Tensor], batch: Batch, places: range) -> Tensor:
        return self._over(places, read, batch, self.rows[places.start : places.stop])

    def _over(self, places: range, read: Callable[[Tensor, Batch], Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """Apply `read` to the logits of these trials, and stack the results. rows: the rows of these trials."""

        def read_trial(row: Tensor, number: Tensor, other: dict[str, Tensor], part: Batch) -> Tensor:
            return read(self._logits(row, number, other, part), part)

        seeds, numbers = [self.seed_of[place] for place in places], torch.arange(places.start, places.stop)
        with drawing(self.streams):
            return over_trials(read_trial, rows, numbers, seeds, self.other, batch, shares=self.shares)

    def _logits(self, row: Tensor, number: Tensor, other: dict[str, Tensor], batch: Batch) -> Tensor:
        """The logits of one trial, in fp32."""
        with of_trial(number), self.training.compute.autocast():
            output: Any = functional_call(self.frame, self.layout.split(row) | other, kwargs=arguments(batch))
        logits: Tensor = output.logits.float()
        return logits
