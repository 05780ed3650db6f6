"""Check from their headers that a model's weight files are all present and complete, without loading them."""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.models.source import Source

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # in the order in which transformers looks for them


def check_weights(source: Source) -> None:
    """Open every weight file of a model and read its header.

    For a model on the hub, only files that have been downloaded are opened.

    Args:
        source: The model. Nothing is checked if its weights are random.

    Raises:
        ValueError: A file is missing or incomplete.
    """
    if source.random:
        return
    for path in _files_in(Path(source.location)) if Path(source.location).is_dir() else _cached(source):
        try:
            with safe_open(path, framework="np") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model {source.label!r}: {path} is not a complete weight file ({error}); copy or download it again"
            ) from error


def _files_in(folder: Path) -> list[Path]:
    """Return the weight files of a folder written by save_pretrained."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))[:3])
        raise ValueError(
            f"model.name={folder}: neither {SINGLE} nor {INDEX} exists (weight files: {others or 'none'}); save the "
            "model again with save_pretrained"
        )
    names = _named_in(folder / INDEX)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"model.name={folder}: {missing[0]}, listed in {INDEX}, is missing (missing: {len(missing)} of "
            f"{len(names)} files); copy or download it again"
        )
    return [folder / name for name in names]


def _cached(source: Source) -> Iterator[Path]:
    """Yield the weight files of a model on the hub that are in the local cache. Others are not downloaded yet."""
    from huggingface_hub import try_to_load_from_cache

    def path_of(name: str) -> Path | None:
        path = try_to_load_from_cache(source.location, name, revision=source.revision)
        return Path(path) if isinstance(path, str) else None

    if single := path_of(SINGLE):
        yield single
    elif index := path_of(INDEX):
        yield from filter(None, map(path_of, _named_in(index)))


def _named_in(index: Path) -> list[str]:
    """Return the names of the files that an index lists, each once."""
    try:
        file_of_tensor: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted(set(file_of_tensor.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of weight files; copy or download it again") from error
