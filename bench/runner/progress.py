"""Show the progress of a sweep: a live line on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.cells.race import Race
from bench.cli import counted
from bench.events import Ended, Event, Judged, Probed, Raced, Ready, Started, Stepped
from bench.runner.clock import Clock

PLAIN_SECONDS = 20  # between two lines about a running trial if there is no terminal


class Display:
    """Shows a sweep.

    Args:
        cells: Number of cells to run.
        work: Planned work in full trainings.
        console: Where to print; standard output by default.

    Attributes:
        numbers: The number of each cell that has begun, by its name.
        noted: Lines of `say_once` that were already printed.
        live: Whether the console is a terminal.
    """

    def __init__(self, cells: int, work: float, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.cells = cells
        self.numbers: dict[str, int] = {}
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
        """Print a line above the live one."""
        self.console.print(text, markup=False)

    def say_once(self, text: str) -> None:
        """Print a line, unless it was printed before."""
        if text not in self.noted:
            self.noted.add(text)
            self.say(text)

    def begin_cell(self, name: str, title: str, trials: int) -> "CellDisplay":
        """Start the live line of a cell.

        Args:
            name: Identifies the cell.
            title: Title to show.
            trials: Number of trials.

        Returns:
            The display of the cell.
        """
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        return CellDisplay(self, f"cell {number}/{self.cells} {title}", trials)


class CellDisplay:
    """Shows the events of one cell.

    Args:
        display: The display of the sweep.
        where: Number and title of the cell, which start every line.
        trials: Number of trials.

    Attributes:
        steps: Number of updates of a trial.
        ended: Number of trials that have ended.
        running: Ids of the running trials.
        race: The race while it runs, else None.
        racing: Planned work of the race that is not done yet.
        since: When a plain line about a running trial was last printed.
        line: The cell's line of the progress bar.
    """

    def __init__(self, display: Display, where: str, trials: int) -> None:
        self.display, self.where, self.trials = display, where, trials
        self.steps, self.ended = 1, 0
        self.running: set[str] = set()
        self.race: Race | None = None
        self.racing = 0.0
        self.since = time.monotonic()
        self.line = display.bar.add_task(where, total=1, facts="starting")

    def end(self) -> None:
        """Remove the live line of the cell."""
        self.display.bar.remove_task(self.line)

    def tell(self, event: Event, name: str) -> None:
        """Show an event.

        Args:
            event: The event.
            name: Name of the event's trial; empty if the event is not about a trial.
        """
        match event:
            case Ready(device=device, data=data):
                rows = ", ".join(f"{part} {count:,}" for part, count in data.items() if count)
                threads = counted(device["threads"], "thread")
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
        """Print a measured cost."""
        cost = probed.cost
        speed = cost["samples_per_second"] or cost["eval_rows"] / cost["eval_seconds"]  # no training speed if untrained
        counts = f"{cost['trainable_params']:,} of {cost['total_params']:,} parameters"
        self.say(f"{counts}, {speed:.0f} samples/s")
        if cost.get("contended"):
            self.say(f"{cost['contended']} during the measurement, so this cost is marked; the next run repeats it")
        self._say_all("", probed.error)

    def _tell_race(self, race: Race) -> None:
        """Show the start of a stage or the result of the race."""
        if self.race is None:
            self.racing = race.rule.trials
        self.race = race if race.stage is not None else None
        if race.stage is not None:
            return
        self.display.clock.drop(self.racing)  # planned for the race but not needed
        tried = len(race.candidates)
        if race.lr is None:
            message = ((race.error or {}).get("message") or "").strip().partition("\n")[0]
            self.say(f"none of {tried} learning rates trained to the end: {race.outcome}: {message}")
            return
        (best,) = [candidate for candidate in race.candidates if candidate.lr == race.lr]
        self.say(f"learning rate {race.lr:g} of {tried} tried, select loss {best.lowest:.3f}")

    def _tell_end(self, ended: Ended, trial: str, name: str) -> None:
        """Print how a trial ended."""
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
        """Print a line about the cell. `between` separates its title from the text."""
        self.display.say(f"{self.where}{between}{text}")

    def _say_all(self, name: str, error: dict[str, str] | None) -> None:
        """Print each line of the error of a step that failed after the result, such as saving."""
        for line in (error or {}).get("message", "").splitlines():
            self.say(f"{name}{line}", " " if name else ": ")

    def _trials(self) -> str:
        """Name the running trials, such as `trial 2/9`, `trials 1-9/9` or `tuning, 7 rates`."""
        if self.race is not None and (stage := self.race.stage):
            return f"tuning, {counted(len(stage.rates), 'rate')}"
        first, last = self.ended + 1, self.ended + len(self.running)
        return f"trial{'' if first == last else 's'} {first}{'' if first == last else f'-{last}'}/{self.trials}"

    def _show(self, share: float, facts: str) -> None:
        """Update the live line, or print a plain line if there is no terminal and the last one is old enough."""
        description = f"{self.where} {self._trials()}" if self.running else self.where
        if self.display.live:
            self.display.bar.update(self.line, description=description, completed=share, facts=facts)
        elif share and time.monotonic() - self.since > PLAIN_SECONDS:
            self.since = time.monotonic()
            self.display.say(f"{description} {facts}")


def _result(ended: Ended) -> str:
    """Return a trial's scores and speed, or its outcome and the first line of its error."""
    if ended.scores is None or ended.cost is None:
        message = (ended.error or {}).get("message", "").strip()  # empty for a MemoryError
        return f"{ended.outcome}{': ' if message else ''}{message.partition(chr(10))[0]}"
    scores = f"select {ended.scores['select']:.3f} report {ended.scores['report']:.3f}"
    if not ended.cost["steps"]:
        return f"{scores} in {ended.cost['eval_seconds']:.0f} s, nothing trained"
    return f"{scores} in {ended.cost['train_seconds']:.0f} s, {ended.cost['samples_per_second']:.0f} samples/s"
