"""What was kept of a trial, ready to answer."""

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
FEWEST = 2  # options of a question


def select_trial(records: Sequence[Record], name: str) -> Record:
    """The trial of that name; of a cell's, the one that is best on select. ValueError: none of them can answer.

    Of a cell that has held a race for its learning rate, the trials at the winner's rate can answer.
    """
    rates = {one.cell["id"]: one.race["lr"] for one in records if one.race and one.race["lr"] is not None}
    of_name = [one for one in records if one.trial and _is_named(one, name, rates)]
    able = [one for one in of_name if one.scores and (one.saved or not one.config["method"].get("trains", True))]
    if not able and of_name:
        raise ValueError(f"record={name}: nothing was kept of it; run it again with save=adapter")
    if not able:
        kept = list(dict.fromkeys(str(one.trial["id"]) for one in records if one.trial and one.saved))
        there = f"kept were {', '.join(kept[:5])}" if kept else "none was kept yet: run a cell with save=adapter"
        raise ValueError(f"record={name} is not among the {len(records)} records; {there}")
    return max(able, key=lambda one: (one.scores or {})["select"])


def _is_named(record: Record, name: str, rates: Mapping[str, float]) -> bool:
    """Whether a trial goes by its own name, or by its cell's. rates: of races, by cell."""
    trial, cell = record.trial or {}, record.cell["id"]
    return bool(name == trial["id"] or (name == cell and trial["lr"] == rates.get(cell, trial["lr"])))


class Answerer:
    """A trial's model, in the arithmetic in which it was trained."""

    def __init__(self, record: Record, own: Path | None = None) -> None:
        """Load what a record says was kept.

        Args:
            record: of a trial.
            own: the user's folder of yaml files, where the record names functions of theirs.

        Raises:
            ValueError: the base or what was kept is not what the record says, or it names a function that no
                configuration names.
        """
        ours, known = known_targets(), known_targets(own)
        check_targets(record.config, known, f"record {(record.trial or {})['id']}")
        trusted = ("bench.methods.", *sorted(known - ours))
        self.cell = _cell_of(record)
        exact_products()
        device = pick_device("auto")
        self.compute = Compute(device, pick_dtype(self.cell.precision, device))
        seed = int((record.trial or {})["seed"])
        self.model = _load(self.cell, record.saved, seed, self.compute, trusted).eval()
        train = load_task(self.cell).train if self.cell.shots else Split([], [])
        self.beside = examples(self.cell, train, None if self.cell.trains else seed)

    @property
    def wants(self) -> Wants:
        """What can be asked."""
        task = self.cell.conf.task
        if not self.cell.form.asks:
            return Wants(pairs=bool(task.load.get("second")))
        most = len(task.labels or []) if self.cell.form is Form.classify else len(LETTERS)
        return Wants(options=(FEWEST, most))

    def __call__(self, asked: Sequence[Request]) -> list[Answer]:
        """Answer everything at once, in its order."""
        task, batch = self.cell.conf.task, self.cell.conf.protocol.eval_batch
        labels: Any = [0] * len(asked) if task.labels else [0.0] * len(asked)
        split = Split(
            [one.text for one in asked],
            labels,
            second=[one.second or "" for one in asked] if self.wants.pairs else None,
            options=[list(one.options or ()) for one in asked] if self.wants.options else None,
        )
        with tempfile.TemporaryDirectory() as unused:
            rows = encoded(self.cell, Task(split, split, split), self.beside, Path(unused)).report
        found, weights = weigh(self.model, rows, batch, self.compute)
        every = [None] * len(asked) if weights is None else list(weights)
        return [self._answer(*one) for one in zip(asked, found.tolist(), every, strict=True)]

    def _answer(self, asked: Request, found: float, weights: Tensor | None) -> Answer:
        labels = self.cell.conf.task.labels or []
        if asked.options is None and not labels:
            return Answer(found)
        names = labels if asked.options is None else LETTERS[: len(asked.options)]
        likely = None if weights is None else dict(zip(names, weights.tolist(), strict=False))
        if found == UNPARSED or found >= len(names):
            return Answer(None)
        return Answer(names[int(found)], asked.options[int(found)] if asked.options else None, likely)


def _cell_of(record: Record) -> Cell:
    """The cell as it was; its data need not be there any more."""
    # What has become a setting since the record was written stands at what it was.
    config = with_current_paths(completed(Config, record.config))
    config["fast"] = {"attention": "own"} | record.config["fast"]
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
    """The model with what was kept of the trial; as it is where nothing was trained. trusted: as for `load_adapter`."""
    if saved is None:
        return build(cell, seed=seed, compute=compute)
    folder = Path(saved)
    if not folder.is_dir():
        raise ValueError(f"{folder} is gone, where the trial was kept; run it again with save={folder.name}")
    if folder.name == "merged":
        merged = find_model(ModelConf(label="merged", name=str(folder.resolve())))
        return load_model(merged, cell.outputs, seed=seed, speaks=cell.form.speaks, dropout=0.0).to(compute.device)
    base, ours = load_backbone(cell, seed=seed, compute=compute), _is_ours(folder)
    return placed(load_adapter(base, folder, trusted) if ours else _from_peft(base, folder), cell, compute)


def _is_ours(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / CONFIG).read_text())["peft_type"] == "BENCH")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no adapter: {CONFIG} must be there, and whole") from error


def _from_peft(model: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel

    if not (folder / WEIGHTS).is_file():  # PEFT would look for pickled ones
        raise ValueError(f"{folder} holds no adapter: {WEIGHTS} must be there")
    adapted: nn.Module = PeftModel.from_pretrained(model, str(folder), trust_remote_code=False)
    return adapted
