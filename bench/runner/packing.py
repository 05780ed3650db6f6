"""All trials of a cell, together where that is possible and one by one where it is not; every one comes to an end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from torch import nn

from bench.cells.cell import Cell, Trial
from bench.config.enums import OnOom
from bench.events import Ended, Event, Judged
from bench.models.speed.speedups import quicken
from bench.runner.build import build, keep, load_data
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

# Tokens: two cores ran 9 trials at batch 16 (232 tokens) 1.1 to 1.4 times as fast, at 32 (464) 0.9 to 1.2.
FULL_CPU = 256


class Trials:
    """The trials of one cell that are still to be trained.

    setup: its plan has the micro-batch that the probe could do with. retained: texts that they should still predict.
    """

    def __init__(
        self,
        setup: CellSetup,
        emit: Callable[[Event], None],
        retained: Retained | None = None,
    ) -> None:
        self.cell, self.fast, self.training = setup.cell, setup.fast, setup.training
        self.emit, self.retained = emit, retained
        self.why: str | None = None  # trials are not all trained together

    def run(self, trials: Sequence[Trial]) -> None:
        """Train them to the end and score them."""
        for _ in self.each(trials, self._train):
            pass

    def each(
        self,
        trials: Sequence[Trial],
        train: Callable[[Sequence[Trial]], Iterator[Judged | Ended]],
        free: Callable[[], bool] = lambda: False,
    ) -> Iterator[Judged | Ended]:
        """Train groups of trials until each has come to an end; what is told of them is emitted, too.

        What stops a group stops no trial: those of which nothing is told yet begin again, fewer at a time.

        Args:
            trials: What is to be trained.
            train: Trains a group, and tells the end of each of its trials.
            free: Called where memory has run out. Whether it has freed any, so that it may do now.
        """
        waiting = {trial.id: trial for trial in trials}
        size = self._wanted_size(len(waiting))
        while waiting:
            group = list(waiting.values())[:size]
            try:
                for told in train(group):
                    waiting.pop(told.trial)
                    self.emit(told)
                    yield told
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
        """How many to begin with at once."""
        pack = self.cell.conf.pack
        if not self.cell.trains:
            return 1
        if self.fast.attention != "own" and trials > 1:
            self.why = f"fast.attention={self.fast.attention} knows nothing of trials"
            return 1
        if self.cell.checkpointing and trials > 1:
            self.why = "checkpointing runs blocks a second time when trials are no longer mapped"
            return 1
        if pack != "auto":
            self.why = f"pack={pack}" if int(pack) < trials else None
            return int(pack)
        self.why = (self.training.recipe.hooks.alone or self._full()) if trials > 1 else None
        return 1 if self.why else trials

    def _full(self) -> str | None:
        """Why one trial is enough for this device: a CPU gains nothing beyond what its caches hold."""
        rows, plan = self.training.data.train, self.training.plan
        tokens = plan.tokens or int(plan.batch * rows.each * rows.lengths.double().mean())
        fills = self.training.compute.device.type == "cpu" and tokens > FULL_CPU
        return f"batches of {tokens} tokens fill a CPU" if fills else None

    def _train(self, group: Sequence[Trial]) -> Iterator[Ended]:
        """Train a group together; gives how each trial ended."""
        by_id = {trial.id: trial for trial in group}
        if not self.cell.trains:
            yield self._as_it_is(group[0])
            return
        together = {"pack": len(group), "pack_why": self.why, **self.training.plan.at_most}
        pack = self.ready(group)
        for member, end in run_trials(pack, self.emit, self.retained):
            name = member.wanted.trial
            if isinstance(end, Exception):
                yield ended_with(name, end)
                continue
            yield self._saved(replace(end, cost={**(end.cost or {}), **together}), pack, member, by_id[name])

    def _saved(self, ended: Ended, pack: Pack, member: Member, trial: Trial) -> Ended:
        """A trial that ended well, with what is kept of it. Where that fails, it has its scores all the same."""
        try:
            return replace(ended, saved=keep(pack.model_of(member), self.cell, trial))
        except Exception as error:  # noqa: BLE001 - a full disk, a method that cannot be merged
            return replace(ended, error=failure(error, f"save={self.cell.conf.save.value}", ended.error))

    def _as_it_is(self, trial: Trial) -> Ended:
        """What a method scores that trains nothing; the trial's seed draws the solved examples."""
        shown = replace(self.training, data=load_data(self.cell, trial.seed)) if self.cell.shots else self.training
        return score_untrained(self._bare, trial.id, shown, self.emit)

    @cached_property
    def _bare(self) -> nn.Module:
        """The model of all trials, where none is trained."""
        return quicken(build(self.cell, seed=0, compute=self.training.compute), self.fast)

    def ready(self, group: Sequence[Trial]) -> Pack:
        """A group, ready to be trained. Unpackable, Crowded: as for `packed`."""
        return self.alone(group[0]) if len(group) == 1 else self.packed(group)

    def alone(self, trial: Trial) -> Pack:
        """One trial in a model of its own, ready to be trained."""
        return Alone(quicken(self._prepared(trial.seed), self.fast), _wanted(trial), self.training, self.emit)

    def packed(self, group: Sequence[Trial]) -> Pack:
        """A group over one frozen model, ready to be trained.

        Unpackable: it cannot be done. Crowded: there is no room for so many.
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
        # Mapped over trials, blocks run as they are.
        frame = quicken(frame, replace(self.fast, compile="none"))
        pack = Packed(frame, starts, [_wanted(trial) for trial in group], training, self.emit)
        pack.verify(starts, sample)
        return pack

    def _prepared(self, seed: int) -> nn.Module:
        model = build(self.cell, seed=seed, compute=self.training.compute)
        rehearse(model, self.training)
        return model


def halved(training: Training, error: Exception, cell: Cell) -> Training | None:
    """The same with half as much at once, where memory ran out and that may help; else None."""
    if not is_oom(error) or cell.conf.on_oom is not OnOom.halve:
        return None
    plan = training.plan.halved(training.data.train, Plan.of(cell.conf.protocol))
    return None if plan is None else replace(training, plan=plan)


class Crowded(Exception):  # noqa: N818 - fewer trials go together instead
    """Memory has room for so many trials at once."""

    def __init__(self, room: int) -> None:
        super().__init__(f"memory for {room} at once")
        self.room = room


def _wanted(trial: Trial) -> Wanted:
    return Wanted(trial.id, float(trial.lr or 0), trial.seed)


def ended_with(trial: str, error: Exception) -> Ended:
    """The end of a trial that failed."""
    outcome, described = describe(error)
    return Ended(trial, outcome, error=described)


def _reason(error: Exception, size: int) -> str:
    if isinstance(error, (Unpackable, Crowded)):
        return str(error)
    if is_oom(error):
        return f"out of memory with more than {size}"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
