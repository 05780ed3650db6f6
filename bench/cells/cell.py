"""Cells and trials: what one entry of a table is, and the names that identify its records."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench.cells.arithmetic import precision_of
from bench.cells.compatibility import FULL, check_fit, effective_rank, longest
from bench.cells.identity import method_identity, protocol_identity, source_identity, task_identity
from bench.cells.race import Rule
from bench.config.enums import Form, Scale
from bench.config.resolved import plain_data
from bench.config.schema import Config, TaskConf
from bench.config.validate import ALL, TUNED, check_folder, check_keys, check_values
from bench.models.source import Source, find_model
from bench.models.targets import Target, name_of, resolve, spelled_out
from bench.tasks.loaders.locate import data_identity, pinned_revision


@dataclass(frozen=True)
class Trial:
    """One training of a cell.

    Attributes:
        cell_id: The id of the cell.
        lr: The learning rate, or None if nothing is trained.
        seed: The seed of the training.
    """

    cell_id: str
    lr: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of the trial within its cell, and the name of its file."""
        return f"seed{self.seed}" if self.lr is None else f"lr{self.lr!r}-seed{self.seed}"

    @property
    def id(self) -> str:
        """The name of the trial among the trials of all cells."""
        return f"{self.cell_id}-{self.name}"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        source: The model.
        data: What identifies the bytes of the task's data: a hash or a pinned revision.
        rank: The rank, or None if the method does not use one.
        parts: The adapted weight types, or None if the method does not use them.
        precision: The arithmetic of the forward pass, fp32 or bf16; `precision=auto` is resolved for this machine.
        conf: The resolved configuration.
    """

    source: Source
    data: str
    rank: int | None
    parts: tuple[str, ...] | None
    precision: str
    conf: Config

    @classmethod
    def of(cls, config: DictConfig) -> "Cell":
        """Read a cell from a composed configuration.

        Raises:
            Misfit: The combination is invalid.
            ValueError: A value is invalid, or an input is missing.
        """
        check_keys(OmegaConf.to_container(config, resolve=True, enum_to_str=True))  # type: ignore[arg-type]
        conf = _typed(config)
        # A branch can move, and every process must read the same data.
        conf.task.revision = pinned_revision(conf.task) or conf.task.revision
        conf.task.labels = _labels(conf.task)
        check_values(conf)
        source = find_model(conf.model)
        check_folder(source.label)
        parts = conf.method.target if conf.target.parts is None else conf.target.parts
        check_fit(conf, source, parts)
        rank = effective_rank(conf, source)
        if rank not in {None, conf.rank}:  # expressions in the yaml that use the rank must see the new one
            conf = replace(_typed(OmegaConf.merge(config, {"rank": rank})), task=conf.task)
        return cls(
            source=source,
            data=data_identity(conf.task),
            rank=rank,
            parts=spelled_out(parts, source.model_type) if "target" in conf.method.uses else None,
            precision=precision_of(conf),
            conf=conf,
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration as plain data. Records hold it, and the identity is built from it."""
        config: dict[str, Any] = plain_data(self.conf)
        return config

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that distinguishes this cell from other cells, and nothing else."""
        return {
            "model": self.source.identity,
            "task": task_identity(self.config, self.data),
            "method": method_identity(self.config, self.precision, self.scale),
            "rank": self.rank,
            "target": sorted(self.parts) if self.parts is not None else None,
            "protocol": protocol_identity(self.config["protocol"], self.form),
            "precision": self.precision,
            **source_identity(self.config),
        }

    @cached_property
    def id(self) -> str:
        """The first ten hexadecimal digits of the identity's SHA-256."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def method(self) -> str:
        return self.conf.method.name

    @property
    def task(self) -> str:
        return self.conf.task.name

    @property
    def form(self) -> Form:
        """How the task is presented to the model."""
        return self.conf.task.form

    @property
    def trains(self) -> bool:
        """Whether the method trains anything."""
        return self.conf.method.trains

    @property
    def shots(self) -> int:
        """Number of solved examples shown with each row: the method's, or else the task's."""
        return self.conf.method.shots or self.conf.task.shots

    @property
    def longest(self) -> int:
        """Maximum number of tokens in a row, including its solved examples."""
        return longest(self.conf.protocol.max_length, self.shots, self.source)

    @property
    def outputs(self) -> int:
        """Number of outputs of the head: one logit per label, or a single predicted number."""
        return 1 if self.form is Form.multiple_choice else len(self.conf.task.labels or []) or 1

    @property
    def target(self) -> str | None:
        """The adapted weights in the notation of the LoRA paper, or None if the method uses no target."""
        return name_of(self.parts, self.source.model_type) if self.parts is not None else None

    @property
    def modules(self) -> Target | None:
        """The adapted weights as module names, or None if the method uses no target."""
        return resolve(self.parts, self.source.model_type) if self.parts is not None else None

    @property
    def title(self) -> str:
        """The readable name: lora r=8 qv, lora r=8 qv scale=sqrt, qlora r=8 all nf4 paged_adamw_32bit."""
        rank = f"r={self.rank}" if self.rank is not None else ""
        scale = f"scale={self.scale}" if self.scale else ""
        checkpointed = "checkpointed" if self.checkpointing else None
        return " ".join(filter(None, [self.method, rank, self.target, scale, self.base, self.optim, checkpointed]))

    @property
    def scale(self) -> str | None:
        """The policy that scales the method's update. None if the method uses none, or if alpha = r."""
        scale = self.conf.scale.name
        return None if scale is Scale.rank or "scale" not in self.conf.method.uses else scale.name

    @property
    def base(self) -> str | None:
        """How the frozen base is stored (nf4, nf4+double, int8), or None if it is in full precision."""
        quant = self.conf.quant
        return None if quant.name == "none" else f"{quant.name}{'+double' if quant.double else ''}"

    @property
    def merges(self) -> bool:
        """Whether the method can be merged into the base in the form in which it is stored."""
        stored = self.conf.quant.name
        return (FULL if stored == "none" else stored) in self.conf.method.merges_into

    @property
    def optim(self) -> str | None:
        """The optimizer, or None if it is AdamW."""
        name = self.conf.optim.name
        return None if name == "adamw" else name

    @property
    def checkpointing(self) -> bool:
        """Whether the activations of the blocks are recomputed in the backward pass instead of stored."""
        return self.conf.checkpointing

    @property
    def folder(self) -> str:
        """The folder of its records, relative to the results: minilm/sst2/lora-r8-qv-0123456789."""
        name = self.title.replace(" ", "-").replace("=", "").replace("+double", "dq")
        return f"{self.source.label}/{self.task}/{name}-{self.id}"

    @property
    def rule(self) -> Rule | None:
        """The rule of the race for the cell's learning rate, or None if there is no race.

        A protocol without candidates does not tune. A randomly initialised model is not tuned either, because its
        scores are meaningless.
        """
        tunes = self.conf.lrs == TUNED and self.trains and not self.source.random
        return Rule.of(self.conf.protocol) if tunes else None

    @property
    def published(self) -> float:
        """The published learning rate of the method.

        Raises:
            ValueError: The method's yaml has none.
        """
        if self.conf.method.lr is None:
            raise ValueError(f"method {self.method!r} has no published learning rate: set method.lr")
        return self.conf.method.lr

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every learning rate with every seed, each pair once. Empty if a race finds the rate.

        If nothing is trained, a seed only draws the solved examples. Without examples, only the first seed is used.
        """
        return () if self.rule else self.trials_at(self._rates)

    def trials_at(self, rates: Sequence[float | None]) -> tuple[Trial, ...]:
        """Return these learning rates with every seed, each pair once."""
        seeds = self.conf.seeds if self.trains or self.shots else self.conf.seeds[:1]
        pairs = dict.fromkeys((lr, seed) for lr in rates for seed in seeds)
        return tuple(Trial(self.id, lr, seed) for lr, seed in pairs)

    @property
    def _rates(self) -> list[float | None]:
        """The learning rates that the configuration names."""
        lrs = self.conf.lrs
        if not self.trains:
            return [None]
        if lrs == ALL and (rule := Rule.of(self.conf.protocol)):
            return [*rule.rates(self.published)]
        return [self.published] if isinstance(lrs, str) else [*lrs]


def _labels(task: TaskConf) -> list[str]:
    """Return the task's labels, read from its data if the configuration does not list them."""
    if task.labels is not None:
        return task.labels
    from bench.tasks.loaders.glue import labels_of  # importing pandas is slow

    return labels_of(task, **task.load)


def _typed(config: Any) -> Config:
    conf: Any = OmegaConf.to_object(OmegaConf.merge(Config, config))
    return conf  # type: ignore[no-any-return]
