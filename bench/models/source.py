"""Find out where a model comes from and which bytes it consists of, without loading it and without torch.

A model's name is `package:IMPORT_NAME/FOLDER`, an existing local folder, or a repository on the hub.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.config.enums import Weights
from bench.config.schema import ModelConf
from bench.files.hashing import package_folder, sha256, sha256_of
from bench.files.hub import fetch
from bench.models.architectures import Architecture, architecture_of

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
WEIGHTS_ON_HUB = ("model.safetensors", "model.safetensors.index.json")  # pickled weights are not read
OTHER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class Source:
    """A model that was located.

    Attributes:
        label: The short name that tables and file paths use.
        location: The folder or hub repository of the tokenizer and, unless the weights are random, of the weights.
        revision: The commit on the hub. None for a local model.
        identity: Identifies the exact bytes of the model.
        random: Whether the weights are random.
        config: The content of config.json.
    """

    label: str
    location: str
    revision: str | None
    identity: str
    random: bool
    config: dict[str, Any] = field(hash=False)

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers, such as bert or roberta."""
        return str(self.config["model_type"])

    @property
    def architecture(self) -> Architecture:
        """The description of how models of this type are built."""
        return architecture_of(self.model_type)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream, which is the largest rank that an adapted matrix can have."""
        return self._size(self.architecture.width)

    @property
    def num_layers(self) -> int:
        """Number of transformer blocks."""
        return self._size(self.architecture.layers)

    @property
    def parameters(self) -> int:
        """Approximate number of parameters, computed from the configuration alone."""
        inner = int(self.config.get(self.architecture.inner, 4 * self.hidden_size))
        blocks = self.num_layers * self.hidden_size * (4 * self.hidden_size + 3 * inner)
        return blocks + int(self.config.get("vocab_size", 0)) * self.hidden_size

    @property
    def is_decoder(self) -> bool:
        """Whether a token attends only to earlier tokens, so that the last one represents the text."""
        return self.architecture.decoder

    @property
    def positions(self) -> int:
        """Maximum length of an input, in tokens."""
        return self._size(self.architecture.positions) - self.architecture.reserved_positions

    def _size(self, key: str) -> int:
        if key not in self.config:
            raise ValueError(
                f"model {self.label!r}: its configuration has no {key!r}, which bench/models/architectures.py names "
                f"for type {self.model_type!r}; give that entry the right key, or write it into config.json"
            )
        return int(self.config[key])


def find_model(model: ModelConf) -> Source:
    """Locate a model and read its configuration.

    Args:
        model: The `model` node of a configuration.

    Raises:
        ValueError: The model cannot be found, is not complete, is not the pinned one, or has an unknown architecture.
            The message says what to do.
    """
    if model.weights is Weights.random and model.architecture and model.name in model.pins:
        source = _from_yaml(model)
    elif model.name.startswith("package:"):
        source = _in_folder(model, package_folder(model.name))
    elif _looks_local(model.name):
        source = _in_folder(model, Path(model.name).expanduser())
    else:
        source = _on_hub(model)
    try:
        architecture_of(source.model_type)
    except ValueError as error:
        raise ValueError(f"model {model.name!r}: {error}") from error
    return source


def _make_source(
    model: ModelConf, location: str, revision: str | None, identity: str, config: dict[str, Any]
) -> Source:
    random = model.weights is Weights.random
    name = model.label if model.name in model.pins else Path(model.name).expanduser().resolve().name
    return Source(
        label=f"{name}-random" if random else name,
        location=location,
        revision=revision,
        identity=f"random:{identity}" if random else identity,
        random=random,
        config=config,
    )


def _from_yaml(model: ModelConf) -> Source:
    """Return a model with random weights whose architecture is given in the yaml. It needs only a tokenizer."""
    if model.tokenizer is None:
        raise ValueError("model.architecture needs model.tokenizer too: a package: name, a local folder or a hub name")
    package = model.tokenizer.startswith("package:")
    location = str(package_folder(model.tokenizer)) if package else model.tokenizer
    return _make_source(
        model, location, None, json.dumps([model.architecture, model.tokenizer]), dict(model.architecture)
    )


def _in_folder(model: ModelConf, folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"model {model.name!r}: no config.json in that folder; set model.name= to a folder saved by "
            "save_pretrained or to a hub name such as google-bert/bert-base-uncased"
        )
    weights = [path for pattern in WEIGHT_FILES for path in folder.glob(pattern)]
    if not weights and model.weights is Weights.pretrained:
        raise ValueError(
            f"model {model.name!r}: no *.safetensors in that folder (pickled weights are not read); "
            "save it again with save_pretrained, or use model.weights=random"
        )
    _verify(model, weights)
    others = [folder / name for name in OTHER_FILES if (folder / name).is_file()]
    identity = f"sha256:{sha256_of(weights + others)}"
    return _make_source(model, str(folder), None, identity, _read_config(folder / "config.json"))


def _on_hub(model: ModelConf) -> Source:
    needed = () if model.weights is Weights.random else WEIGHTS_ON_HUB
    wanted = model.revision or model.pins.get(model.name) or "main"
    config, revision = _read_hub(model.name, wanted, needed, model.open_copy)
    return _make_source(model, model.name, revision, f"{model.name}@{revision}", config)


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).is_dir() or name.count("/") > 1


def _verify(model: ModelConf, weights: list[Path]) -> None:
    pin = model.pins.get(model.name, "")
    if not pin.startswith("sha256:") or model.weights is Weights.random:
        return
    for path in weights:
        if (digest := sha256(path)) != pin.removeprefix("sha256:"):
            raise ValueError(
                f"model {model.name!r}: {path.name} has sha256 {digest}, but {pin.removeprefix('sha256:')} is pinned; "
                "these are not the published weights: install the package again"
            )


@lru_cache(maxsize=64)
def _read_hub(repo: str, revision: str, needs: tuple[str, ...], open_copy: str | None) -> tuple[dict[str, Any], str]:
    """Fetch a repository's config.json, or find it in the local cache. Return it with the commit that it belongs to."""
    from huggingface_hub import hf_hub_download

    download = partial(hf_hub_download, repo, "config.json", revision=revision)
    remedy = "set model.name= to a local folder, or use model=minilm"
    if open_copy and open_copy != repo:
        remedy = f"use the open copy model.name={open_copy}, or {remedy}"
    path = fetch(download, repo, revision, needs=needs, remedy=remedy)
    # The cache has one folder per commit: snapshots/<commit>/config.json.
    return _read_config(path), path.parent.name


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: not a complete JSON file ({error}); download it again, or set another model.name="
        ) from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ValueError(f"{path}: has no model_type; set model.name= to a folder saved by save_pretrained")
    return config
