"""How many trials fit into memory together, by what one of them takes."""

import sys

import psutil
import torch
from torch import nn

from bench.train.batches import Batch
from bench.train.device import Compute
from bench.train.evaluate import forward

CACHED_TOKENS = 1536  # MiniLM at batch 32: 3 trials at once run at 1.0 to 1.1 of the speed of one, 9 at 0.6 to 0.8
MARGIN = 0.7  # share of the memory that a pack may fill: what backpropagation keeps is not all that it touches
OF_MACHINE = 0.5  # share of a machine's memory that counts as free, so that no other process decides a pack's size
COPIES = 6  # of the trained numbers: weights, gradients twice while they are made, the optimizer's two, the best so far


def room_for(model: nn.Module, largest: Batch, numbers: int, compute: Compute) -> int:
    """Trials that memory holds beside the model, at least 1. numbers: what a trial trains, all in fp32.

    Measured on a forward pass over the largest batch: the bytes that one trial keeps for its backward pass.
    """
    each = kept_bytes(model, largest, compute) + 4 * COPIES * numbers
    return max(1, int(MARGIN * usable_bytes(compute.device) / each))


def trials_in_cache(tokens: float, device: torch.device) -> int:
    """Trials at once whose activations a CPU's caches still hold: more at once are slower. Elsewhere any number.

    tokens: of one trial that go through the blocks it trains.
    """
    return max(1, int(CACHED_TOKENS / max(1, tokens))) if device.type == "cpu" else sys.maxsize


def kept_bytes(model: nn.Module, batch: Batch, compute: Compute) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the model's own tensors; each storage once."""
    own = {address for tensor in [*model.parameters(), *model.buffers()] for address in storages(tensor)}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        seen.update({address: size for address, size in storages(tensor).items() if address not in own})
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), compute.autocast():
        forward(model, batch)
    return sum(seen.values())


def storages(tensor: torch.Tensor) -> dict[int, int]:
    """The bytes of memory behind a tensor, by address. A sparse tensor has none itself: its indices and values do."""
    match tensor.layout:
        case torch.sparse_coo:
            parts = [tensor._indices(), tensor._values()]  # noqa: SLF001 - also of one that is not coalesced
        case torch.sparse_csr | torch.sparse_bsr:
            parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        case torch.sparse_csc | torch.sparse_bsc:
            parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        case torch.strided:
            storage = tensor.untyped_storage()
            return {storage.data_ptr(): storage.nbytes()}
        case _:  # oneDNN's own layout does not tell its address
            return {id(tensor): tensor.numel() * tensor.element_size()}
    return {address: size for part in parts for address, size in storages(part).items()}


def usable_bytes(device: torch.device) -> int:
    """Memory that can be had: what is free on an accelerator, or a fixed share of a machine's, free or not."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(OF_MACHINE * psutil.virtual_memory().total)
