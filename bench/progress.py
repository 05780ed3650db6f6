"""What a person sees while a sweep runs: a live line on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.events import Ended, Event, Probed, Ready, Started, Stepped

PLAIN_SECONDS = 20  # between two lines about a running trial, without a terminal


class Clock:
    """Guesses the time that is left: the mean of the finished trials for each that is not.

    Trials that run together share the time that they take. A trial that never started, because its cell broke, counts
    as done and tells nothing of the others.
    """

    def __init__(self, trials: int) -> None:
        self.left = trials
        self.spent: list[float] = []
        self.together: set[str] = set()
        self.running: set[str] = set()
        self.began, self.share = 0.0, 0.0

    def start(self, trial: str) -> None:
        if not self.running:
            self.together, self.began, self.share = set(), time.monotonic(), 0.0
        self.together.add(trial)
        self.running.add(trial)

    def finish(self, trial: str) -> None:
        self.left = max(0, self.left - 1)
        self.running.discard(trial)
        if self.together and not self.running:
            each = (time.monotonic() - self.began) / len(self.together)
            self.spent += [each] * len(self.together)
            self.together, self.share = set(), 0.0

    def remaining(self) -> str:
        """Hours, minutes and seconds; a dash before anything is known."""
        known = list(self.spent)
        if self.running and self.share > 0.1:
            known += [(time.monotonic() - self.began) / self.share / len(self.together)] * len(self.together)
        if not known:
            return "-"
        seconds = round(sum(known) / len(known) * max(0, self.left - self.share * len(self.running)))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class Display:
    """Shows events of one sweep. cells, trials: how many are to be run."""

    def __init__(self, cells: int, trials: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.cells, self.cell, self.title = cells, 0, ""
        self.clock = Clock(trials)
        self.ended, self.trials = 0, 0
        self.steps, self.said = 0, 0.0
        self.noted: set[str] = set()
        self.live = self.console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[facts]}"),
            console=self.console,
            transient=True,
        )
        self.line = self.bar.add_task("", total=1, facts="")

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

    def begin_cell(self, title: str, trials: int) -> None:
        self.cell += 1
        self.title, self.ended, self.trials = title, 0, trials
        self._show(f"cell {self.cell}/{self.cells} {title}", 0, "starting")

    def tell(self, event: Event, name: str) -> None:
        """Show an event; `name` is the trial's."""
        where = f"cell {self.cell}/{self.cells} {self.title}"
        match event:
            case Ready(device=device, data=data):
                rows = ", ".join(f"{part} {count:,}" for part, count in data.items() if count)
                self._show(where, 0, "measuring the cost")
                if self.cell == 1:
                    self.say(f"data: {rows}; {device['device_name']}, {device['threads']} threads, {device['dtype']}")
                for note in device.get("notes", ()):
                    if note not in self.noted:
                        self.say(f"note: {note}")
                        self.noted.add(note)
            case Probed(cost=cost, error=error):
                speed = cost["samples_per_second"] or cost["eval_rows"] / cost["eval_seconds"]  # what is not trained
                counts = f"{cost['trainable_params']:,} of {cost['total_params']:,} parameters"
                self.say(f"{where}: {counts}, {speed:.0f} samples/s")
                if cost.get("contended"):
                    self.say(f"{where}: {cost['contended']} meanwhile, so this cost is marked; the next run repeats it")
                self._say_all(f"{where}: ", error)
            case Started(steps=steps):
                self.steps, self.said = steps, time.monotonic()
                self.clock.start(event.trial)
                self._show(f"{where} {self._trials()}", 0, "first steps")
            case Stepped(curve=curve, samples_per_second=speed):
                done = curve["step"][-1]
                self.clock.share = done / self.steps
                facts = (
                    f"step {done:.0f}/{self.steps} loss {curve['loss'][-1]:.3f} {speed:.0f} samples/s "
                    f"left {self.clock.remaining()}"
                )
                self._show(f"{where} {self._trials()}", self.clock.share, facts)
            case Ended():
                self.clock.finish(event.trial)
                self.ended += 1
                self.say(f"{where} {name}: {_result(event)}  left {self.clock.remaining()}")
                self._say_all(f"{where} {name}: ", event.error if event.outcome == "ok" else None)
            case _:
                pass

    def _say_all(self, where: str, error: dict[str, str] | None) -> None:
        """What failed beside a result, a line each."""
        for line in (error or {}).get("message", "").splitlines():
            self.say(f"{where}{line}")

    def _trials(self) -> str:
        """Which of the cell's trials are running: trial 2/9, trials 1-9/9."""
        first, last = self.ended + 1, self.ended + len(self.clock.running)
        return f"trial{'' if first == last else 's'} {first}{'' if first == last else f'-{last}'}/{self.trials}"

    def _show(self, what: str, share: float, facts: str) -> None:
        if self.live:
            self.bar.update(self.line, description=what, completed=share, facts=facts)
        elif share and time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.say(f"{what} {facts}")


def _result(ended: Ended) -> str:
    if ended.scores is None or ended.cost is None:
        message = (ended.error or {}).get("message", "").strip()  # empty for a MemoryError
        return f"{ended.outcome}{': ' if message else ''}{message.partition(chr(10))[0]}"
    scores = f"select {ended.scores['select']:.3f} report {ended.scores['report']:.3f}"
    if not ended.cost["steps"]:
        return f"{scores} in {ended.cost['eval_seconds']:.0f} s, nothing trained"
    return f"{scores} in {ended.cost['train_seconds']:.0f} s, {ended.cost['samples_per_second']:.0f} samples/s"
