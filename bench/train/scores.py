"""What a trial's predictions are worth: by every metric of the task, on every part, and on the groups of a part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bench.tasks.encoding.rows import Encoded
from bench.tasks.encoding.written import UNPARSED, Written
from bench.tasks.metrics import score

MEAN_OF = 2  # questions at least, for a standard error


def chosen_by(data: Encoded, predictions: Tensor) -> float:
    """The score on select that chooses learning rate and checkpoint. predictions: [questions]."""
    return score(data.metrics[0], predictions, data.select.truth)


def scores_of(
    data: Encoded, found: Mapping[str, Tensor], by_epoch: Sequence[float] = (), best_epoch: int = 0
) -> dict[str, Any]:
    """A trial's scores as its record tells them. found: what the checkpoint that was best predicts for every part.

    by_epoch: scores on select after each epoch or, under `eval_steps`, evaluation. best_epoch: which of them was best,
    from 1; 0 is the model before any.
    """
    every = {
        part: {name: score(name, predictions, data.parts[part].truth) for name in data.metrics}
        for part, predictions in found.items()
    }
    scores = {
        "metric": data.metrics[0],
        "select": every["select"][data.metrics[0]],
        "report": every["report"][data.metrics[0]],
        "select_by_epoch": list(by_epoch),
        "best_epoch": best_epoch,
    }
    if len(data.metrics) > 1 or data.further:
        scores["all"] = every
    if data.about:
        scores |= _of_groups(data, found["report"])
    return scores


def rise_of(late: Tensor, end: Tensor) -> dict[str, float] | None:
    """How far the loss on select fell over the last quarter of a training, by mean, and its paired standard error.

    late, end: the loss of each question after three quarters of the updates and after all, [questions]. None: it is not
    known of all of them, or there is one.
    """
    fell = late - end
    if len(fell) < MEAN_OF or not bool(fell.isfinite().all()):
        return None
    return {"mean": float(fell.mean()), "standard_error": float(fell.std() / len(fell) ** 0.5)}


def _of_groups(data: Encoded, predictions: Tensor) -> dict[str, Any]:
    """Accuracy on the groups of the report part, with their sizes; and what knowing nothing would score.

    chance: of guessing among each question's options. majority: of the report part's most frequent answer. unparsed:
    how many written answers named no option; they count as wrong.
    """
    right, truth = predictions == data.report.truth, data.report.truth.tolist()
    by = {
        name: {
            group: {"accuracy": float(right[[kind == group for kind in column]].double().mean()), "rows": count}
            for group, count in Counter(column).most_common()
        }
        for name, column in data.about.items()
    }
    unparsed = {"unparsed": int((predictions == UNPARSED).sum())} if isinstance(data.report.read, Written) else {}
    return unparsed | {"by": by, "chance": data.chance, "majority": Counter(truth).most_common(1)[0][1] / len(truth)}
