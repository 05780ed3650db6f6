"""Estimate how many trials fit into memory together, from the memory that one of them needs."""

import sys

import psutil
import torch
from torch import nn

from bench.train.batches import Batch
from bench.train.device import Compute
from bench.train.evaluate import forward

# Tokens per forward pass whose activations fit a CPU's caches. With MiniLM at batch 32, 3 trials together run at 1.0 to
# 1.1 of the speed of one, and 9 trials at 0.6 to 0.8.
CACHED_TOKENS = 1536
MARGIN = 0.7  # share of the memory that a pack may fill, because backpropagation also needs temporary memory
OF_MACHINE = 0.5  # share of a machine's memory that counts as free, so that other processes do not affect a pack's size
COPIES = 6  # of the trained numbers: weights, gradients (twice while computed), two optimizer states, best weights


def room_for(model: nn.Module, largest: Batch, numbers: int, compute: Compute) -> int:
    """Return how many trials fit into memory next to the model, at least 1.

    The bytes that one trial keeps for its backward pass are measured on a forward pass over the largest batch.

    Args:
        model: The model.
        largest: The largest batch of the training.
        numbers: How many numbers a trial trains, all in fp32.
        compute: The device and the arithmetic.
    """
    bytes_per_trial = kept_bytes(model, largest, compute) + 4 * COPIES * numbers
    return max(1, int(MARGIN * usable_bytes(compute.device) / bytes_per_trial))


def trials_in_cache(tokens: float, device: torch.device) -> int:
    """Return how many trials can share a forward pass before their activations exceed a CPU's caches.

    More trials at once would be slower. On other devices the number is unlimited.

    Args:
        tokens: Tokens of one trial that go through the blocks it trains.
        device: The device.
    """
    return max(1, int(CACHED_TOKENS / max(1, tokens))) if device.type == "cpu" else sys.maxsize


def kept_bytes(model: nn.Module, batch: Batch, compute: Compute) -> int:
    """Return the bytes that a forward pass keeps for the backward pass.

    Each storage is counted once. The model's own tensors are not counted.

    Args:
        model: The model. It is switched to training mode.
        batch: The batch of the forward pass.
        compute: The device and the arithmetic.
    """
    own = {address for tensor in [*model.parameters(), *model.buffers()] for address in storages(tensor)}
    seen: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        seen.update({address: size for address, size in storages(tensor).items() if address not in own})
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor), compute.autocast():
        forward(model, batch)
    return sum(seen.values())


def storages(tensor: torch.Tensor) -> dict[int, int]:
    """Return the bytes of memory behind a tensor, by address.

    A sparse tensor has no memory of its own; that of its indices and values is returned.
    """
    match tensor.layout:
        case torch.sparse_coo:
            parts = [tensor._indices(), tensor._values()]  # noqa: SLF001 - works without coalescing, too
        case torch.sparse_csr | torch.sparse_bsr:
            parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        case torch.sparse_csc | torch.sparse_bsc:
            parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        case torch.strided:
            storage = tensor.untyped_storage()
            return {storage.data_ptr(): storage.nbytes()}
        case _:  # a tensor in oneDNN's own layout has no address to read
            return {id(tensor): tensor.numel() * tensor.element_size()}
    return {address: size for part in parts for address, size in storages(part).items()}


def usable_bytes(device: torch.device) -> int:
    """Return the memory that can be used, in bytes.

    On CUDA this is the free memory. On a CPU it is a fixed share of the machine's total memory, whether free or not.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(OF_MACHINE * psutil.virtual_memory().total)
