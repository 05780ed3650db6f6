"""Score a trial's predictions: by every metric of the task, on every part, and on groups of the report part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bench.tasks.encoding.rows import Encoded
from bench.tasks.encoding.written import UNPARSED, Written
from bench.tasks.metrics import score

MEAN_OF = 2  # the smallest number of questions that has a standard error


def chosen_by(data: Encoded, predictions: Tensor) -> float:
    """Return the score on select by which the learning rate and the checkpoint are chosen.

    Args:
        data: The task.
        predictions: The answers to select, [questions].
    """
    return score(data.metrics[0], predictions, data.select.truth)


def scores_of(
    data: Encoded, predictions: Mapping[str, Tensor], by_epoch: Sequence[float] = (), best_epoch: int = 0
) -> dict[str, Any]:
    """Return a trial's scores as its record stores them.

    Args:
        data: The task.
        predictions: The predictions of the best checkpoint, by part, each [questions].
        by_epoch: The scores on select after each epoch, or after each evaluation under `eval_steps`.
        best_epoch: The number of the best one of them, from 1. 0 is the model before training.

    Returns:
        The scores. Key `all` is there if the task has several metrics or further parts. Keys `by`, `chance` and
        `majority` are there if the report part has groups.
    """
    by_part = {
        part: {name: score(name, answers, data.parts[part].truth) for name in data.metrics}
        for part, answers in predictions.items()
    }
    scores = {
        "metric": data.metrics[0],
        "select": by_part["select"][data.metrics[0]],
        "report": by_part["report"][data.metrics[0]],
        "select_by_epoch": list(by_epoch),
        "best_epoch": best_epoch,
    }
    if len(data.metrics) > 1 or data.further:
        scores["all"] = by_part
    if data.about:
        scores |= _of_groups(data, predictions["report"])
    return scores


def rise_of(late: Tensor, end: Tensor) -> dict[str, float] | None:
    """Return how far the loss on select fell over the last quarter of a training.

    Args:
        late: The loss of each question after three quarters of the updates, [questions].
        end: The loss of each question after all updates, [questions].

    Returns:
        The mean decrease and its paired standard error. None if a loss is not finite, or if there are fewer than two
        questions.
    """
    fell = late - end
    if len(fell) < MEAN_OF or not bool(fell.isfinite().all()):
        return None
    return {"mean": float(fell.mean()), "standard_error": float(fell.std() / len(fell) ** 0.5)}


def _of_groups(data: Encoded, predictions: Tensor) -> dict[str, Any]:
    """Accuracy on the groups of the report part, with their sizes, and baseline accuracies.

    Key `chance` is the accuracy of guessing among each question's options. Key `majority` is that of the report part's
    most frequent answer. Key `unparsed` counts generated answers that name no option; they are scored as wrong.
    """
    right, truth = predictions == data.report.truth, data.report.truth.tolist()
    by = {
        name: {
            group: {"accuracy": float(right[[value == group for value in column]].double().mean()), "rows": count}
            for group, count in Counter(column).most_common()
        }
        for name, column in data.about.items()
    }
    unparsed = {"unparsed": int((predictions == UNPARSED).sum())} if isinstance(data.report.read, Written) else {}
    return unparsed | {"by": by, "chance": data.chance, "majority": Counter(truth).most_common(1)[0][1] / len(truth)}
