"""Whether a model's weight files are all there and whole, seen from their headers: nothing is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.models.source import Source

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # in the order in which transformers looks


def check_weights(source: Source) -> None:
    """Open every weight file of a model. Of a model on the hub, those that have been downloaded.

    Raises:
        ValueError: A file is missing, or is not whole.
    """
    if source.random:
        return
    for path in _files_in(Path(source.location)) if Path(source.location).is_dir() else _cached(source):
        try:
            with safe_open(path, framework="np") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model {source.label!r}: {path} is not a whole file of weights ({error}); copy or download it again"
            ) from error


def _files_in(folder: Path) -> list[Path]:
    """The weight files of a folder that save_pretrained has written."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))[:3])
        raise ValueError(
            f"model.name={folder}: neither {SINGLE} nor {INDEX} is there, but {found or 'no weights'}; save the model "
            "again with save_pretrained"
        )
    names = _named_in(folder / INDEX)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"model.name={folder}: {missing[0]} is missing, which {INDEX} names ({len(missing)} of {len(names)} files "
            "are); copy or download it again"
        )
    return [folder / name for name in names]


def _cached(source: Source) -> Iterator[Path]:
    """The weight files of a model on the hub that lie in the local cache; the others are still to be downloaded."""
    from huggingface_hub import try_to_load_from_cache

    def path_of(name: str) -> Path | None:
        found = try_to_load_from_cache(source.location, name, revision=source.revision)
        return Path(found) if isinstance(found, str) else None

    if single := path_of(SINGLE):
        yield single
    elif index := path_of(INDEX):
        yield from filter(None, map(path_of, _named_in(index)))


def _named_in(index: Path) -> list[str]:
    """The files that an index names, each once."""
    try:
        named: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted(set(named.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of weight files; copy or download it again") from error
