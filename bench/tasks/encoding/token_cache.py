"""Arrays of tokens, cached on disk by everything that decides them: each text is tokenised once for all cells.

Any number of processes and machines may share the folder.
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

FORMAT = 2  # of the entries: raise it when the arrays that are made of the same content change
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash everything of a tokenizer that decides what it gives, and which release of the libraries it runs in.

    The backend's rules do not tell which arrays are asked for, on which side a text is cut, or which entries are the
    special ones. The truncation and padding that the latest call left in the backend are left out.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    beside = {
        "class": type(tokenizer).__name__,
        "inputs": list(tokenizer.model_input_names),
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL},
        "releases": [version("tokenizers"), version("transformers")],
    }
    return hashlib.sha256(json.dumps([rules, beside], sort_keys=True).encode()).hexdigest()


def cached(
    kind: str, content: Sequence[Any], cache: Path, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays that were made of the same content before, or make and keep them.

    Args:
        kind: Which encoder asks; two of them never share an entry.
        content: Everything that decides the arrays, as plain data.
        cache: The folder of all entries.
        make: Makes the arrays, of whole numbers.

    Raises:
        ValueError: The folder cannot be written to.
    """
    key = json.dumps([FORMAT, kind, *content])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    arrays = _kept(path)
    if arrays is None:
        arrays = {name: array.astype(np.int32) for name, array in make().items()}
        _keep(arrays, path)
    return arrays


def _kept(path: Path) -> dict[str, np.ndarray] | None:
    """What an entry holds; None where there is none, or one that is torn or not ours to read."""
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
    except (OSError, SafetensorError):
        return None
    return arrays


def _keep(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save(arrays))
    except OSError as error:
        raise ValueError(
            f"cache_dir={path.parent} cannot be written to ({error.strerror}); choose a folder that can be"
        ) from error
