"""Estimate how long a sweep still takes."""

import time


class Clock:
    """Estimates the remaining time from the work done and the time during which any trial was running.

    Work is measured in full trainings. A trial that never started because its cell broke counts as done, but its speed
    does not enter the estimate.

    Args:
        work: Planned work.

    Attributes:
        left: Planned work that is not counted yet.
        done: Work that was trained and counted.
        seconds: Time during which any trial was running, up to the last moment when none was.
        began: Start of the current running period on the monotonic clock; 0 if no trial is running.
        running: Share of each running trial that was trained since it was last counted.
        counted: Share of each trial that is counted as done.
    """

    def __init__(self, work: float) -> None:
        self.left = work
        self.done, self.seconds, self.began = 0.0, 0.0, 0.0
        self.running: dict[str, float] = {}
        self.counted: dict[str, float] = {}

    def start(self, trial: str) -> None:
        """Note that a trial begins, or begins again."""
        self._run(trial)
        self.counted[trial] = self.running[trial] = 0.0

    def advance(self, trial: str, share: float) -> None:
        """Note how much of a trial is trained.

        Args:
            trial: Id of the trial.
            share: Trained share of the whole trial, from 0 to 1.
        """
        self._run(trial)
        self.running[trial] = share - self.counted.get(trial, 0.0)

    def pause(self, trial: str) -> float:
        """Note that a trial pauses, and count what was trained of it.

        Args:
            trial: Id of the trial.

        Returns:
            The share trained since it was last counted.
        """
        share = self.running.pop(trial, 0.0)
        self.counted[trial] = self.counted.get(trial, 0.0) + share
        self._count(share, share)
        return share

    def finish(self, trial: str) -> None:
        """Note the end of a trial that was planned as a full training."""
        started = trial in self.counted
        self.running.pop(trial, None)
        rest = 1 - self.counted.pop(trial, 0.0)
        self._count(rest if started else 0.0, rest)

    def drop(self, work: float) -> None:
        """Remove planned work that is not needed. A negative value adds work."""
        self.left = max(0.0, self.left - work)

    def remaining(self) -> str:
        """Return the remaining time as hours:minutes:seconds, or a dash if too little is done to tell."""
        ahead = sum(self.running.values())
        if self.done + ahead < 0.1:
            return "-"
        seconds = self.seconds + (time.monotonic() - self.began if self.running else 0.0)
        seconds = round(seconds / (self.done + ahead) * max(0.0, self.left - ahead))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _run(self, trial: str) -> None:
        """Mark a trial as running, and start the clock if no other is."""
        if not self.running:
            self.began = time.monotonic()
        self.running.setdefault(trial, 0.0)

    def _count(self, done: float, planned: float) -> None:
        """Count trained work and remove planned work. Stop the clock if nothing is running."""
        self.done += done
        self.drop(planned)
        if self.began and not self.running:
            self.seconds += time.monotonic() - self.began
            self.began = 0.0
