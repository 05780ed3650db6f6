"""What a worker tells while it works. Everything is plain data: it crosses a pipe and goes into records as it is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ready:
    """Model and data are there. device: name, threads, arithmetic; data: rows per part."""

    device: dict[str, Any]
    data: dict[str, int]


@dataclass(frozen=True)
class Probed:
    """The cell's cost was measured. truth: the right answers to all parts but train, for paired tests.

    error: type, message and traceback where a part of the cost could not be measured.
    """

    cost: dict[str, Any]
    truth: dict[str, list[Any]] = field(default_factory=dict)
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class Started:
    """A trial begins; `steps` is how many it will take."""

    trial: str
    steps: int


@dataclass(frozen=True)
class Stepped:
    """Some steps were done. curve: equally long lists step, loss, lr, grad_norm, tokens_per_second (and penalty)."""

    trial: str
    curve: dict[str, list[float]]
    samples_per_second: float


@dataclass(frozen=True)
class Ended:
    """A trial is over. error: type, message and traceback where the outcome is not ok, or where something that was
    asked for beside the scores failed. saved: a folder, if any.
    """

    trial: str
    outcome: str
    scores: dict[str, Any] | None = None
    predictions: dict[str, list[Any]] | None = None
    cost: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    saved: str | None = None


@dataclass(frozen=True)
class Raced:
    """A race for the learning rate stands between two stages, or at its end. race: as `Race.told` gives it."""

    race: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A trial of a race has come to the end of a stage. select_losses: by number of updates."""

    trial: str
    select_losses: list[tuple[int, float | None]]


@dataclass(frozen=True)
class Broken:
    """Nothing of the cell could be run."""

    outcome: str
    error: dict[str, str] = field(default_factory=dict)


Event = Ready | Probed | Raced | Started | Stepped | Judged | Ended | Broken
