"""Load the saved model of a trial and answer requests with it."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bench.cells.cell import Cell
from bench.config.enums import Form
from bench.config.former_paths import with_current_paths
from bench.config.resolved import completed, typed
from bench.config.schema import Config, ModelConf
from bench.config.trusted import check_targets, known_targets
from bench.inference.requests import Answer, Request, Wants
from bench.methods.checkpoints import CONFIG, WEIGHTS, load_adapter
from bench.models.load import load_model
from bench.models.source import find_model
from bench.records.record import Record
from bench.runner.build import build, encoded, examples, load_backbone, load_task, placed
from bench.tasks.base import Split, Task
from bench.tasks.encoding.written import UNPARSED
from bench.train.device import Compute, exact_products, pick_device, pick_dtype
from bench.train.evaluate import weigh

LETTERS = "ABCDEF"
FEWEST = 2  # the smallest number of options of a question


def select_trial(records: Sequence[Record], name: str) -> Record:
    """Return the record of the trial to answer with.

    Args:
        records: All records.
        name: The id of a trial or of a cell. For a cell, the trial with the best score on select is chosen. If the cell
            raced its learning rates, only trials at the winning rate are considered.

    Raises:
        ValueError: No record has this name, or no matching trial was saved.
    """
    rates = {
        record.cell["id"]: record.race["lr"] for record in records if record.race and record.race["lr"] is not None
    }
    matching = [record for record in records if record.trial and _is_named(record, name, rates)]
    usable = [
        record
        for record in matching
        if record.scores and (record.saved or not record.config["method"].get("trains", True))
    ]
    if not usable and matching:
        raise ValueError(f"record={name}: its model was not saved; run it again with save=adapter")
    if not usable:
        saved = list(dict.fromkeys(str(record.trial["id"]) for record in records if record.trial and record.saved))
        hint = f"saved trials: {', '.join(saved[:5])}" if saved else "no trial was saved: run a cell with save=adapter"
        raise ValueError(f"record={name} is not among the {len(records)} records; {hint}")
    return max(usable, key=lambda record: (record.scores or {})["select"])


def _is_named(record: Record, name: str, rates: Mapping[str, float]) -> bool:
    """Whether a name is that of the trial, or of its cell. rates: winning learning rates of races, by cell."""
    trial, cell = record.trial or {}, record.cell["id"]
    return bool(name == trial["id"] or (name == cell and trial["lr"] == rates.get(cell, trial["lr"])))


class Answerer:
    """The saved model of a trial. It runs in the arithmetic in which it was trained."""

    def __init__(self, record: Record, own: Path | None = None) -> None:
        """Load the model of a record.

        Args:
            record: The record of a trial.
            own: The user's folder of yaml files, needed if the record names the user's own functions.

        Raises:
            ValueError: The base model or the saved weights do not match the record, or the record names a function
                that no configuration names.
        """
        built_in, known = known_targets(), known_targets(own)
        check_targets(record.config, known, f"record {(record.trial or {})['id']}")
        trusted = ("bench.methods.", *sorted(known - built_in))
        self.cell = _cell_of(record)
        exact_products()
        device = pick_device("auto")
        self.compute = Compute(device, pick_dtype(self.cell.precision, device))
        seed = int((record.trial or {})["seed"])
        self.model = _load(self.cell, record.saved, seed, self.compute, trusted).eval()
        train = load_task(self.cell).train if self.cell.shots else Split([], [])
        self.demonstrations = examples(self.cell, train, None if self.cell.trains else seed)

    @property
    def wants(self) -> Wants:
        """The kind of request that this model answers."""
        task = self.cell.conf.task
        if not self.cell.form.asks:
            return Wants(pairs=bool(task.load.get("second")))
        most = len(task.labels or []) if self.cell.form is Form.classify else len(LETTERS)
        return Wants(options=(FEWEST, most))

    def __call__(self, asked: Sequence[Request]) -> list[Answer]:
        """Answer all requests together.

        Args:
            asked: The requests.

        Returns:
            One answer per request, in the same order.
        """
        task, batch = self.cell.conf.task, self.cell.conf.protocol.eval_batch
        labels: Any = [0] * len(asked) if task.labels else [0.0] * len(asked)
        split = Split(
            [request.text for request in asked],
            labels,
            second=[request.second or "" for request in asked] if self.wants.pairs else None,
            options=[list(request.options or ()) for request in asked] if self.wants.options else None,
        )
        with tempfile.TemporaryDirectory() as cache:  # the tokens of requests are not kept
            rows = encoded(self.cell, Task(split, split, split), self.demonstrations, Path(cache)).report
        predictions, probabilities = weigh(self.model, rows, batch, self.compute)
        by_request = [None] * len(asked) if probabilities is None else list(probabilities)
        return [self._answer(*parts) for parts in zip(asked, predictions.tolist(), by_request, strict=True)]

    def _answer(self, request: Request, prediction: float, probabilities: Tensor | None) -> Answer:
        labels = self.cell.conf.task.labels or []
        if request.options is None and not labels:
            return Answer(prediction)
        names = labels if request.options is None else LETTERS[: len(request.options)]
        by_name = None if probabilities is None else dict(zip(names, probabilities.tolist(), strict=False))
        if prediction == UNPARSED or prediction >= len(names):
            return Answer(None)
        return Answer(names[int(prediction)], request.options[int(prediction)] if request.options else None, by_name)


def _cell_of(record: Record) -> Cell:
    """The cell of a record, as it was when it ran. Its data need not exist any more."""
    # Settings that were added since the record was written get the value that was in effect then.
    config = with_current_paths(completed(Config, record.config))
    config["fast"]["attention"] = record.config["fast"].get("attention", "own")
    conf = typed(Config, config)
    source = find_model(conf.model)
    if source.identity != record.identity["model"]:
        raise ValueError(
            f"model {conf.model.name!r} is not the one that was trained: {source.identity}, and the record says "
            f"{record.identity['model']}"
        )
    target = record.identity["target"]
    data, rank = record.identity["task"]["data"], record.cell["rank"]
    return Cell(source, data, rank, target and tuple(target), str(record.provenance.get("dtype", "fp32")), conf)


def _load(cell: Cell, saved: str | None, seed: int, compute: Compute, trusted: tuple[str, ...]) -> nn.Module:
    """The model with the saved weights of the trial. If nothing was trained, and so nothing saved, the model as it is.

    trusted: as for `load_adapter`.
    """
    if saved is None:
        return build(cell, seed=seed, compute=compute)
    folder = Path(saved)
    if not folder.is_dir():
        raise ValueError(f"{folder}, where the trial was saved, is gone; run it again with save={folder.name}")
    if folder.name == "merged":
        merged = find_model(ModelConf(label="merged", name=str(folder.resolve())))
        return load_model(merged, cell.outputs, seed=seed, speaks=cell.form.speaks, dropout=0.0).to(compute.device)
    base, own_format = load_backbone(cell, seed=seed, compute=compute), _has_own_format(folder)
    return placed(load_adapter(base, folder, trusted) if own_format else _from_peft(base, folder), cell, compute)


def _has_own_format(folder: Path) -> bool:
    """Whether an adapter was saved in the format of this package, and not in PEFT's."""
    try:
        return bool(json.loads((folder / CONFIG).read_text())["peft_type"] == "BENCH")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no adapter: {CONFIG} is missing or broken") from error


def _from_peft(model: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel

    if not (folder / WEIGHTS).is_file():  # otherwise PEFT would look for pickled weights
        raise ValueError(f"{folder} holds no adapter: {WEIGHTS} is missing")
    adapted: nn.Module = PeftModel.from_pretrained(model, str(folder), trust_remote_code=False)
    return adapted
