"""Where a model comes from and which bytes it is, found out without loading it (and without torch).

Three kinds of names: `package:IMPORT_NAME/FOLDER`, an existing local folder, a repository on the hub.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.content import package_folder, sha256, sha256_of
from bench.hub import fetch
from bench.models.targets import roles_of
from bench.schema import ModelConf, Weights

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
WEIGHTS_ON_HUB = ("model.safetensors", "model.safetensors.index.json")  # pickled weights are not read
OTHER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class Source:
    """A model that was found: `location` is a folder or a hub repository, `identity` names its bytes for good."""

    label: str
    location: str
    revision: str | None
    identity: str
    random: bool
    architecture: dict[str, Any] = field(hash=False)
    tokenizer: str = ""

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers: bert, roberta ..."""
        return str(self.architecture["model_type"])

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream, and so the largest rank an adapted matrix can have."""
        return int(self.architecture["hidden_size"])

    @property
    def positions(self) -> int:
        """Longest input in tokens; RoBERTa's numbering spends two of its positions."""
        reserved = 0 if self.model_type == "bert" else 2
        return int(self.architecture["max_position_embeddings"]) - reserved


def find(model: ModelConf) -> Source:
    """Locate a model and read its architecture. ValueError: it cannot be had, with what to do."""
    random = model.weights is Weights.random
    if random and model.architecture and model.name in model.pins:
        location = _tokenizer_location(model.tokenizer)
        architecture, revision, identity = dict(model.architecture), None, f"random:{json.dumps([model.architecture, model.tokenizer])}"
    elif model.name.startswith("package:"):
        location, revision = str(package_folder(model.name)), None
        architecture, identity = _read_folder(Path(location), model)
    elif _looks_local(model.name):
        location, revision = str(Path(model.name).expanduser()), None
        architecture, identity = _read_folder(Path(location), model)
    else:
        location = model.name
        architecture, revision = _read_hub(
            model.name, model.revision or model.pins.get(model.name) or "main", () if random else WEIGHTS_ON_HUB
        )
        identity = f"{model.name}@{revision}"
    if not roles_of(str(architecture.get("model_type"))):
        raise ValueError(
            f"model {model.name!r} is a {architecture.get('model_type')!r}; choose a BERT or a RoBERTa "
            "(bert, roberta, xlm-roberta, camembert)"
        )
    if random and not identity.startswith("random:"):
        identity = f"random:{identity}"
    return Source(_label(model, random=random), location, revision, identity, random, architecture, location)


def _label(model: ModelConf, *, random: bool) -> str:
    name = model.label if model.name in model.pins else Path(model.name).expanduser().resolve().name
    return f"{name}-random" if random else name


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).is_dir() or name.count("/") > 1


def _tokenizer_location(name: str | None) -> str:
    if name is None:
        raise ValueError("model.architecture needs model.tokenizer beside it: a package:, a folder or a hub name")
    return str(package_folder(name)) if name.startswith("package:") else name


def _read_folder(folder: Path, model: ModelConf) -> tuple[dict[str, Any], str]:
    folder = folder.expanduser()
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
    rest = [folder / name for name in OTHER_FILES if (folder / name).is_file()]
    return _read_config(folder / "config.json"), f"sha256:{sha256_of(weights + rest)}"


def _verify(model: ModelConf, weights: list[Path]) -> None:
    pin = model.pins.get(model.name, "")
    if not pin.startswith("sha256:") or model.weights is Weights.random:
        return
    for path in weights:
        if (found := sha256(path)) != pin.removeprefix("sha256:"):
            raise ValueError(
                f"model {model.name!r}: {path.name} has sha256 {found}, but {pin.removeprefix('sha256:')} is pinned; "
                "the weights are not the published ones: install the package again"
            )


@lru_cache(maxsize=64)
def _read_hub(repo: str, revision: str, needs: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Fetch (or find in the local cache) a repository's config.json; gives it with the commit it belongs to."""
    from huggingface_hub import hf_hub_download

    download = partial(hf_hub_download, repo, "config.json", revision=revision)
    remedy = "set model.name= to a local folder, or use model=minilm"
    path = fetch(download, repo, revision, needs=needs, remedy=remedy)
    # The cache keeps each commit in a folder of its own: snapshots/<commit>/config.json.
    return _read_config(path), path.parent.name


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a whole JSON file ({error}); fetch it again, or set model.name= anew") from error
    if not isinstance(found, dict) or "model_type" not in found:
        raise ValueError(f"{path}: names no model_type; set model.name= to a folder saved by save_pretrained")
    return found
