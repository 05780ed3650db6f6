"""What a person sees while a sweep runs: a live line on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.cells.race import Race
from bench.events import Ended, Event, Judged, Probed, Raced, Ready, Started, Stepped

PLAIN_SECONDS = 20  # between two lines about a running trial, without a terminal


class Clock:
    """Guesses the time that is left from the work that is done and the time in which any of it was running.

    Work is counted in whole trainings. A trial that never started, because its cell broke, counts as done and tells
    nothing of the others.
    """

    def __init__(self, work: float) -> None:
        self.left = work
        self.done, self.seconds, self.began = 0.0, 0.0, 0.0
        self.running: dict[str, float] = {}  # share of each trial that was trained since it was last counted
        self.counted: dict[str, float] = {}  # share of each trial that is counted as done

    def start(self, trial: str) -> None:
        """A trial begins, or begins again."""
        self._run(trial)
        self.counted[trial] = self.running[trial] = 0.0

    def advance(self, trial: str, share: float) -> None:
        """So much of a trial is trained."""
        self._run(trial)
        self.running[trial] = share - self.counted.get(trial, 0.0)

    def pause(self, trial: str) -> float:
        """A trial stands still: what is trained of it counts. Gives how much that is."""
        share = self.running.pop(trial, 0.0)
        self.counted[trial] = self.counted.get(trial, 0.0) + share
        self._count(share, share)
        return share

    def finish(self, trial: str) -> None:
        """A trial that was planned as a whole is over."""
        started = trial in self.counted
        self.running.pop(trial, None)
        rest = 1 - self.counted.pop(trial, 0.0)
        self._count(rest if started else 0.0, rest)

    def drop(self, work: float) -> None:
        """So much of what was planned is not needed; below zero: more is."""
        self.left = max(0.0, self.left - work)

    def remaining(self) -> str:
        """Hours, minutes and seconds; a dash before anything is known."""
        ahead = sum(self.running.values())
        if self.done + ahead < 0.1:
            return "-"
        seconds = self.seconds + (time.monotonic() - self.began if self.running else 0.0)
        seconds = round(seconds / (self.done + ahead) * max(0.0, self.left - ahead))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _run(self, trial: str) -> None:
        if not self.running:
            self.began = time.monotonic()
        self.running.setdefault(trial, 0.0)

    def _count(self, done: float, planned: float) -> None:
        self.done += done
        self.drop(planned)
        if self.began and not self.running:
            self.seconds += time.monotonic() - self.began
            self.began = 0.0


class Display:
    """Shows a sweep. cells: how many are to be run. work: in whole trainings."""

    def __init__(self, cells: int, work: float, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.cells = cells
        self.numbers: dict[str, int] = {}  # of the cells that have begun
        self.clock = Clock(work)
        self.noted: set[str] = set()
        self.live = self.console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[facts]}"),
            console=self.console,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def say_once(self, text: str) -> None:
        """A line that stays, the first time."""
        if text not in self.noted:
            self.noted.add(text)
            self.say(text)

    def begin_cell(self, name: str, title: str, trials: int) -> "CellDisplay":
        """A line of its own for a cell of so many trials. name: tells cells apart."""
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        return CellDisplay(self, f"cell {number}/{self.cells} {title}", trials)


class CellDisplay:
    """Shows the events of one cell."""

    def __init__(self, display: Display, where: str, trials: int) -> None:
        self.display, self.where, self.trials = display, where, trials
        self.steps, self.ended = 1, 0
        self.running: set[str] = set()
        self.race: Race | None = None  # while it is held
        self.racing = 0.0  # work that is still planned for it
        self.since = time.monotonic()
        self.line = display.bar.add_task(where, total=1, facts="starting")

    def end(self) -> None:
        """The cell is over."""
        self.display.bar.remove_task(self.line)

    def tell(self, event: Event, name: str) -> None:
        """Show an event; `name` is the trial's."""
        match event:
            case Ready(device=device, data=data):
                rows = ", ".join(f"{part} {count:,}" for part, count in data.items() if count)
                threads = f"{device['threads']} thread{'' if device['threads'] == 1 else 's'}"
                self.display.say_once(f"data: {rows}; {device['device_name']}, {threads}, {device['dtype']}")
                for note in device.get("notes", ()):
                    self.display.say_once(f"note: {note}")
                self._show(0, "measuring the cost")
            case Probed():
                self._tell_cost(event)
            case Raced(race=race):
                self._tell_race(Race.read(race))
            case Started(trial=trial, steps=steps):
                self.steps = steps
                self.running.add(trial)
                self.display.clock.start(trial)
                self._show(0, "first steps")
            case Stepped(trial=trial, curve=curve, samples_per_second=speed):
                self.running.add(trial)
                share = curve["step"][-1] / self.steps
                self.display.clock.advance(trial, share)
                facts = f"step {curve['step'][-1]:.0f}/{self.steps} loss {curve['loss'][-1]:.3f} {speed:.0f} samples/s"
                self._show(share, f"{facts} left {self.display.clock.remaining()}")
            case Judged(trial=trial):
                self.running.discard(trial)
                self.racing -= self.display.clock.pause(trial)
            case Ended(trial=trial):
                self._tell_end(event, trial, name)
            case _:
                pass

    def _tell_cost(self, probed: Probed) -> None:
        cost = probed.cost
        speed = cost["samples_per_second"] or cost["eval_rows"] / cost["eval_seconds"]  # what is not trained
        counts = f"{cost['trainable_params']:,} of {cost['total_params']:,} parameters"
        self.say(f"{counts}, {speed:.0f} samples/s")
        if cost.get("contended"):
            self.say(f"{cost['contended']} meanwhile, so this cost is marked; the next run repeats it")
        self._say_all("", probed.error)

    def _tell_race(self, race: Race) -> None:
        """A stage of a race begins, or the race is over."""
        if self.race is None:
            self.racing = race.rule.trials
        self.race = race if race.stage is not None else None
        if race.stage is not None:
            return
        self.display.clock.drop(self.racing)  # what was planned for it and not needed
        tried = f"of {len(race.candidates)} tried"
        if race.lr is None:
            message = ((race.error or {}).get("message") or "").strip().partition("\n")[0]
            self.say(f"no learning rate {tried} came to the end: {race.outcome}: {message}")
            return
        (best,) = [one for one in race.candidates if one.lr == race.lr]
        self.say(f"learning rate {race.lr:g} {tried}, select loss {best.lowest:.3f}")

    def _tell_end(self, ended: Ended, trial: str, name: str) -> None:
        clock = self.display.clock
        self.running.discard(trial)
        if self.race is not None:
            self.racing -= clock.pause(trial)
            self.say(f"{name}, tuning: {_result(ended)}")
            return
        clock.finish(trial)
        self.ended += 1
        self.say(f"{name}: {_result(ended)}  left {clock.remaining()}", " ")
        self._say_all(f"{name}: ", ended.error if ended.outcome == "ok" else None)

    def say(self, text: str, between: str = ": ") -> None:
        self.display.say(f"{self.where}{between}{text}")

    def _say_all(self, name: str, error: dict[str, str] | None) -> None:
        """What failed beside a result, a line each."""
        for line in (error or {}).get("message", "").splitlines():
            self.say(f"{name}{line}", " " if name else ": ")

    def _trials(self) -> str:
        """What is running: trial 2/9, trials 1-9/9, tuning 7 rates."""
        if self.race is not None and (stage := self.race.stage):
            rates = len(stage.rates)
            return f"tuning, {rates} rate{'' if rates == 1 else 's'}"
        first, last = self.ended + 1, self.ended + len(self.running)
        return f"trial{'' if first == last else 's'} {first}{'' if first == last else f'-{last}'}/{self.trials}"

    def _show(self, share: float, facts: str) -> None:
        what = f"{self.where} {self._trials()}" if self.running else self.where
        if self.display.live:
            self.display.bar.update(self.line, description=what, completed=share, facts=facts)
        elif share and time.monotonic() - self.since > PLAIN_SECONDS:
            self.since = time.monotonic()
            self.display.say(f"{what} {facts}")


def _result(ended: Ended) -> str:
    if ended.scores is None or ended.cost is None:
        message = (ended.error or {}).get("message", "").strip()  # empty for a MemoryError
        return f"{ended.outcome}{': ' if message else ''}{message.partition(chr(10))[0]}"
    scores = f"select {ended.scores['select']:.3f} report {ended.scores['report']:.3f}"
    if not ended.cost["steps"]:
        return f"{scores} in {ended.cost['eval_seconds']:.0f} s, nothing trained"
    return f"{scores} in {ended.cost['train_seconds']:.0f} s, {ended.cost['samples_per_second']:.0f} samples/s"
