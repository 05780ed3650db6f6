"""The events that a worker reports. They are plain data: they cross a pipe and go into records unchanged."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ready:
    """Model and data are loaded.

    Attributes:
        device: Name, threads and arithmetic of the device.
        data: Number of rows of each part.
    """

    device: dict[str, Any]
    data: dict[str, int]


@dataclass(frozen=True)
class Probed:
    """The cell's cost was measured.

    Attributes:
        cost: The measured costs.
        truth: The correct answers of every part except train, for paired tests.
        error: Type, message and traceback if a part of the cost could not be measured.
    """

    cost: dict[str, Any]
    truth: dict[str, list[Any]] = field(default_factory=dict)
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class Started:
    """A trial starts.

    Attributes:
        trial: The id of the trial.
        steps: The number of updates that it will take.
    """

    trial: str
    steps: int


@dataclass(frozen=True)
class Stepped:
    """Some steps of a trial are done.

    Attributes:
        trial: The id of the trial.
        curve: Lists of equal length: step, loss, lr, grad_norm, tokens_per_second and, for some methods, penalty.
        samples_per_second: Training speed, in rows per second.
    """

    trial: str
    curve: dict[str, list[float]]
    samples_per_second: float


@dataclass(frozen=True)
class Ended:
    """A trial is over.

    Attributes:
        trial: The id of the trial.
        outcome: "ok", or why it did not succeed.
        scores: The scores of the trial, if it has any.
        predictions: The predictions for each part, if there are any.
        cost: Costs of this trial.
        error: Type, message and traceback if the outcome is not ok, or if an extra such as saving failed.
        saved: The folder of the saved adapter or model.
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
    """A race for the learning rate is between two stages, or at its end.

    Attributes:
        race: The race, as `Race.as_dict` returns it.
    """

    race: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A trial of a race has reached the end of a stage.

    Attributes:
        trial: The id of the trial.
        select_losses: Pairs of number of updates and loss on select. The loss is None if it is not finite.
    """

    trial: str
    select_losses: list[tuple[int, float | None]]


@dataclass(frozen=True)
class Broken:
    """The cell could not be run at all.

    Attributes:
        outcome: Why.
        error: Type, message and traceback.
    """

    outcome: str
    error: dict[str, str] = field(default_factory=dict)


Event = Ready | Probed | Raced | Started | Stepped | Judged | Ended | Broken
