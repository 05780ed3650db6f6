"""Cache token arrays on disk, keyed by everything that determines them.

Each text is tokenised once for all cells. Any number of processes and machines may share the folder.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from transformers import PreTrainedTokenizerBase

from bench.files.atomic import replace_file

FORMAT = 2  # version of the entries: raise it when the same content results in different arrays
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash everything that determines a tokenizer's output, including the releases of its libraries.

    The rules of the backend do not include the names of the returned arrays, the truncation side or the special tokens,
    so these are added. The truncation and padding settings that the last call left in the backend are ignored.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    settings = {
        "class": type(tokenizer).__name__,
        "inputs": list(tokenizer.model_input_names),
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL},
        "releases": [version("tokenizers"), version("transformers")],
    }
    return hashlib.sha256(json.dumps([rules, settings], sort_keys=True).encode()).hexdigest()


def cached(
    kind: str, content: Sequence[Any], cache: Path, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the cached arrays for this content. If there are none, make and store them.

    Args:
        kind: name of the encoder. Two encoders never share an entry.
        content: everything that determines the arrays, as plain data.
        cache: folder of all entries.
        make: makes the arrays, which must hold integers.

    Returns:
        The arrays by name, all int32.

    Raises:
        ValueError: the folder cannot be written to.
    """
    key = json.dumps([FORMAT, kind, *content])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    arrays = _load(path)
    if arrays is None:
        arrays = {name: array.astype(np.int32) for name, array in make().items()}
        _save(arrays, path)
    return arrays


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of an entry; None if it does not exist, is damaged or cannot be read."""
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
    except (OSError, SafetensorError):
        return None
    return arrays


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save(arrays))
    except OSError as error:
        raise ValueError(
            f"cache_dir={path.parent} cannot be written to ({error.strerror}); choose a writable folder"
        ) from error
