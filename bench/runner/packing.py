"""Train the trials of a cell, packed together if possible and one by one if not, until each has ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from torch import nn

from bench.cells.cell import Cell, Trial
from bench.config.enums import OnOom
from bench.events import Ended, Event, Judged
from bench.models.speed.speedups import quicken
from bench.runner.build import build, keep, load_data
from bench.runner.malloc import free_unused_models
from bench.runner.setup import CellSetup
from bench.tasks.encoding.forgetting import Retained
from bench.train.loop import Pack, run_trials
from bench.train.memory import room_for
from bench.train.outcome import describe, failure, is_oom, release
from bench.train.packed.pack import Packed
from bench.train.packed.start import Unpackable, gather, rehearse, sample_of
from bench.train.settings import Plan, Training, Wanted
from bench.train.single import Alone
from bench.train.trial_state import Member
from bench.train.untrained import score_untrained

# Tokens per batch. On two cores, packing 9 trials was 1.1 to 1.4 times as fast at batch 16 (232 tokens), and 0.9 to 1.2
# times at batch 32 (464 tokens).
FULL_CPU = 256


class Trials:
    """Trains the trials of one cell.

    Args:
        setup: The cell with its data and plan. The plan has the micro-batch size that fitted in the probe.
        emit: Receives the events.
        retained: Texts that the model should still predict after training; None if retention is not measured.

    Attributes:
        why: Why the trials are not all trained together; None if they are.
    """

    def __init__(
        self,
        setup: CellSetup,
        emit: Callable[[Event], None],
        retained: Retained | None = None,
    ) -> None:
        self.cell, self.fast, self.training = setup.cell, setup.fast, setup.training
        self.emit, self.retained = emit, retained
        self.why: str | None = None

    def run(self, trials: Sequence[Trial]) -> None:
        """Train trials to the end and score them."""
        for _ in self.each(trials, self._train):
            pass

    def each(
        self,
        trials: Sequence[Trial],
        train: Callable[[Sequence[Trial]], Iterator[Judged | Ended]],
        free: Callable[[], bool] = lambda: False,
    ) -> Iterator[Judged | Ended]:
        """Train groups of trials until each trial has a result.

        If a group fails, its trials without a result start again in smaller groups. If memory runs out for a single
        trial, its micro-batch is halved. A trial that fails alone ends with that error.

        Args:
            trials: The trials to train.
            train: Trains a group and yields one result per trial.
            free: Called when memory runs out. Returns whether it freed any memory, so that a retry may succeed.

        Yields:
            The result of each trial, after emitting it.
        """
        waiting = {trial.id: trial for trial in trials}
        size = self._wanted_size(len(waiting))
        while waiting:
            group = list(waiting.values())[:size]
            try:
                for result in train(group):
                    waiting.pop(result.trial)
                    self.emit(result)
                    yield result
            except Exception as error:  # noqa: BLE001 - every failure is an outcome
                release(error)
                if is_oom(error) and free():
                    continue
                if len(group) == 1 and (smaller := halved(self.training, error, self.cell)):
                    self.training = smaller
                    continue
                if len(group) == 1:
                    ended = ended_with(waiting.pop(group[0].id).id, error)
                    self.emit(ended)
                    yield ended
                    continue
                size = error.room if isinstance(error, Crowded) else len(group) // 2 if is_oom(error) else 1
                self.why = _reason(error, size)

    def _wanted_size(self, trials: int) -> int:
        """Return the size of the first group, and set `why` if it is smaller than the number of trials."""
        pack = self.cell.conf.pack
        if not self.cell.trains:
            return 1
        if self.fast.attention != "own" and trials > 1:
            self.why = f"fast.attention={self.fast.attention} cannot run packed trials"
            return 1
        if self.cell.checkpointing and trials > 1:
            self.why = "checkpointing recomputes blocks when trials are no longer mapped"
            return 1
        if pack != "auto":
            self.why = f"pack={pack}" if int(pack) < trials else None
            return int(pack)
        self.why = (self.training.recipe.hooks.alone or self._fills_device()) if trials > 1 else None
        return 1 if self.why else trials

    def _fills_device(self) -> str | None:
        """Return why one trial already fills this device, or None. A CPU gains nothing once its caches are full."""
        rows, plan = self.training.data.train, self.training.plan
        tokens = plan.tokens or int(plan.batch * rows.each * rows.lengths.double().mean())
        fills = self.training.compute.device.type == "cpu" and tokens > FULL_CPU
        return f"batches of {tokens} tokens fill a CPU" if fills else None

    def _train(self, group: Sequence[Trial]) -> Iterator[Ended]:
        """Train a group together, and yield how each trial ended."""
        by_id = {trial.id: trial for trial in group}
        if not self.cell.trains:
            yield self._score_untrained(group[0])
            return
        pack_cost = {"pack": len(group), "pack_why": self.why, **self.training.plan.at_most}
        pack = self.ready(group)
        for member, end in run_trials(pack, self.emit, self.retained):
            name = member.wanted.trial
            if isinstance(end, Exception):
                yield ended_with(name, end)
                continue
            yield self._saved(replace(end, cost={**(end.cost or {}), **pack_cost}), pack, member, by_id[name])

    def _saved(self, ended: Ended, pack: Pack, member: Member, trial: Trial) -> Ended:
        """Save the model of a trial that ended ok. If saving fails, the trial keeps its scores and gets an error."""
        try:
            return replace(ended, saved=keep(pack.model_of(member), self.cell, trial))
        except Exception as error:  # noqa: BLE001 - a full disk, a method that cannot be merged
            return replace(ended, error=failure(error, f"save={self.cell.conf.save.value}", ended.error))

    def _score_untrained(self, trial: Trial) -> Ended:
        """Score a method that trains nothing. The trial's seed draws the solved examples."""
        shown = replace(self.training, data=load_data(self.cell, trial.seed)) if self.cell.shots else self.training
        return score_untrained(self._bare, trial.id, shown, self.emit)

    @cached_property
    def _bare(self) -> nn.Module:
        """The model shared by all trials if none is trained."""
        return quicken(build(self.cell, seed=0, compute=self.training.compute), self.fast)

    def ready(self, group: Sequence[Trial]) -> Pack:
        """Prepare a group of one or more trials for training.

        Raises:
            Unpackable: The trials cannot be packed.
            Crowded: Memory has no room for so many trials.
        """
        return self.alone(group[0]) if len(group) == 1 else self.packed(group)

    def alone(self, trial: Trial) -> Pack:
        """Prepare one trial for training in a model of its own."""
        return Alone(quicken(self._prepared(trial.seed), self.fast), _wanted(trial), self.training, self.emit)

    def packed(self, group: Sequence[Trial]) -> Pack:
        """Prepare a group for training over one shared frozen model.

        Raises:
            Unpackable: The trials cannot be packed.
            Crowded: Memory has no room for so many trials.
        """
        training, compute = self.training, self.training.compute
        rows, sample = training.data.train, sample_of(training.data.train).to(compute.device)
        seeds = dict.fromkeys(trial.seed for trial in group)
        frame, starts = gather(((seed, self._prepared(seed)) for seed in seeds), sample, compute)
        if self.cell.conf.pack == "auto":
            largest = training.plan.parts(training.plan.largest(rows))[0].to(compute.device)
            room = room_for(frame, largest, len(starts[0].row), compute)
            if room < len(group):
                raise Crowded(room)
        # Blocks that are mapped over trials run uncompiled.
        frame = quicken(frame, replace(self.fast, compile="none"))
        pack = Packed(frame, starts, [_wanted(trial) for trial in group], training, self.emit)
        pack.verify(starts, sample)
        return pack

    def _prepared(self, seed: int) -> nn.Module:
        """Build a model with the method attached, ready for its first step."""
        free_unused_models()
        model = build(self.cell, seed=seed, compute=self.training.compute)
        rehearse(model, self.training)
        return model


def halved(training: Training, error: Exception, cell: Cell) -> Training | None:
    """Halve the micro-batch after memory ran out.

    Args:
        training: The settings that failed.
        error: What went wrong.
        cell: The cell. Its `on_oom` says whether halving is allowed.

    Returns:
        The settings with half the micro-batch; None if the error has another cause, halving is not allowed, or nothing
        is left to halve.
    """
    if not is_oom(error) or cell.conf.on_oom is not OnOom.halve:
        return None
    plan = training.plan.halved(training.data.train, Plan.of(cell.conf.protocol))
    return None if plan is None else replace(training, plan=plan)


class Crowded(Exception):  # noqa: N818 - not an error: a smaller group is tried instead
    """Memory has room for fewer trials than the group has.

    Attributes:
        room: How many trials fit at once.
    """

    def __init__(self, room: int) -> None:
        super().__init__(f"memory for {room} at once")
        self.room = room


def _wanted(trial: Trial) -> Wanted:
    return Wanted(trial.id, float(trial.lr or 0), trial.seed)


def ended_with(trial: str, error: Exception) -> Ended:
    """Return the result of a trial that failed with an error."""
    outcome, described = describe(error)
    return Ended(trial, outcome, error=described)


def _reason(error: Exception, size: int) -> str:
    """Say in one line why the next groups have at most `size` trials."""
    if isinstance(error, (Unpackable, Crowded)):
        return str(error)
    if is_oom(error):
        return f"out of memory with more than {size}"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
