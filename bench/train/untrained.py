"""A model as it is: scored, and nothing trained."""

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
    """Answer all parts but train. trial: its name in events.

    Unsound: a part of the model is drawn at random, or a weight is not finite.
    """
    check_finite(model)
    if new := head_names(model):
        raise Unsound(
            f"the checkpoint lacks the model's {new[0]}, which is drawn at random: train it, with lora or full"
        )
    emit(Started(trial, 0))
    data, began = training.data, time.perf_counter()
    shown = {name: rows for name, rows in data.parts.items() if name != "train"}
    batch, compute = training.plan.eval_batch, training.compute
    found = {name: predict(model, rows, batch, compute) for name, rows in shown.items()}
    cost = {"train_seconds": 0.0, "eval_seconds": time.perf_counter() - began, "steps": 0, "samples": 0, "tokens": 0}
    predictions = {name: part.tolist() for name, part in found.items()}
    return Ended(trial, "ok", scores_of(data, found), predictions, cost)
