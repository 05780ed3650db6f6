"""Score a model without training it."""

import time
from collections.abc import Callable

from torch import nn

from bench.events import Ended, Event, Started
from bench.models.structure import head_names
from bench.train.evaluate import predict
from bench.train.guard import check_finite
from bench.train.outcome import Unsound
from bench.train.scores import scores_of
from bench.train.settings import Training


def score_untrained(model: nn.Module, trial: str, training: Training, emit: Callable[[Event], None]) -> Ended:
    """Answer all parts except train, and score the answers.

    Args:
        model: The model.
        trial: The name of the trial in events.
        training: The settings of the cell.
        emit: Receives the events of the trial.

    Raises:
        Unsound: A module of the model is randomly initialised, or a weight is not finite.
    """
    check_finite(model)
    if new_modules := head_names(model):
        raise Unsound(
            f"the checkpoint lacks the model's {new_modules[0]}, which is randomly initialised: train it, with lora or "
            "full"
        )
    emit(Started(trial, 0))
    data, began = training.data, time.perf_counter()
    scored_parts = {name: rows for name, rows in data.parts.items() if name != "train"}
    batch, compute = training.plan.eval_batch, training.compute
    predictions = {name: predict(model, rows, batch, compute) for name, rows in scored_parts.items()}
    cost = {"train_seconds": 0.0, "eval_seconds": time.perf_counter() - began, "steps": 0, "samples": 0, "tokens": 0}
    listed = {name: by_row.tolist() for name, by_row in predictions.items()}
    return Ended(trial, "ok", scores_of(data, predictions), listed, cost)
