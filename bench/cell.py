"""Cells and trials: what one entry of a table is, and the names by which its records are found again."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench.check import check_fit, check_keys, check_values
from bench.models.source import Source, find
from bench.models.targets import Target, name_of, resolve
from bench.schema import Config
from bench.tasks.files import data_identity


@dataclass(frozen=True)
class Trial:
    """One training of a cell."""

    cell_id: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        """The name of the trial within its cell, and of its file."""
        return f"lr{self.lr!r}-seed{self.seed}"

    @property
    def id(self) -> str:
        """The name of the trial among all."""
        return f"{self.cell_id}-{self.name}"


@dataclass(frozen=True)
class Cell:
    """One entry of a table. `rank` and `parts` (the adapted weight types) are None where the method does not use them.

    data: the bytes of the task's data, as a hash or a pinned revision.
    config: the resolved configuration as plain data, as it goes into the records.
    """

    source: Source
    data: str
    rank: int | None
    parts: tuple[str, ...] | None
    config: dict[str, Any]

    @classmethod
    def of(cls, config: DictConfig) -> "Cell":
        """Read a cell from a composed configuration. ValueError: it makes no sense, or its inputs are not there."""
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[assignment]
        check_keys(plain)
        conf: Config = OmegaConf.to_object(OmegaConf.merge(Config, config))  # type: ignore[assignment]
        check_values(conf)
        source = find(conf.model)
        parts = conf.method.target if conf.target.parts is None else conf.target.parts
        check_fit(conf, source, parts)
        return cls(
            source=source,
            data=data_identity(conf.task),
            rank=conf.rank if "rank" in conf.method.uses else None,
            parts=tuple(dict.fromkeys(parts)) if "target" in conf.method.uses else None,
            config=plain,
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that makes this cell differ from another, and nothing else.

        Where results go, how they are shown and on what device they are measured does not change what a cell is.
        """
        task, method, protocol = (self.config[node] for node in ("task", "method", "protocol"))
        return {
            "model": self.source.identity,
            "task": {
                "name": task["name"],
                "data": self.data,
                "files": task["files"],
                "load": task["load"],
                "labels": task["labels"],
                "select": task["select_rows"],
            },
            "method": {"name": method["name"], "attach": method["attach"]},
            "rank": self.rank,
            "target": sorted(self.parts) if self.parts is not None else None,
            "protocol": {key: value for key, value in protocol.items() if key not in {"name", "probe_steps"}},
            "precision": self.config["precision"],
        }

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits of the identity's hash."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def method(self) -> str:
        return str(self.config["method"]["name"])

    @property
    def task(self) -> str:
        return str(self.config["task"]["name"])

    @property
    def target(self) -> str | None:
        """The adapted weights in the LoRA paper's words."""
        return name_of(self.parts, self.source.model_type) if self.parts is not None else None

    @property
    def modules(self) -> Target | None:
        """The adapted weights as module names."""
        return resolve(self.parts, self.source.model_type) if self.parts is not None else None

    @property
    def title(self) -> str:
        """What a person calls the cell: lora r=8 qv."""
        rank = f" r={self.rank}" if self.rank is not None else ""
        return f"{self.method}{rank}{f' {self.target}' if self.target else ''}"

    @property
    def folder(self) -> str:
        """Where its records lie within the results: minilm/sst2/lora-r8-qv-0123456789."""
        name = self.title.replace(" ", "-").replace("=", "")
        return f"{self.source.label}/{self.task}/{name}-{self.id}"

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All learning rates with all seeds, each once."""
        pairs = dict.fromkeys((lr, seed) for lr in self.config["lrs"] for seed in self.config["seeds"])
        return tuple(Trial(self.id, lr, seed) for lr, seed in pairs)
