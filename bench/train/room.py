"""How many trials fit into memory together, by what one of them takes."""

import psutil
import torch
from torch import nn

from bench.train.batches import Batch
from bench.train.evaluate import forward
from bench.train.precision import autocast

MARGIN = 0.7  # share of the free memory that a pack may fill: what backpropagation keeps is not all that it touches
COPIES = 6  # of the trained numbers: weights, gradients twice while they are made, the optimizer's two, the best so far


def room_for(model: nn.Module, longest: Batch, numbers: int, dtype: torch.dtype) -> int:
    """Trials that memory holds beside the model, at least 1. numbers: what a trial trains, all in fp32.

    Measured on a forward pass over the longest batch: the bytes that one trial keeps for its backward pass.
    """
    device = longest.labels.device
    each = kept_bytes(model, longest, dtype) + 4 * COPIES * numbers
    return max(1, int(MARGIN * free_bytes(device) / each))


def kept_bytes(model: nn.Module, batch: Batch, dtype: torch.dtype) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the model's own tensors; each storage once."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(batch.labels.device, dtype):
        forward(model, batch)
    return sum(seen.values())


def free_bytes(device: torch.device) -> int:
    """Memory that can be had: on the accelerator, or of the machine. Not read on a GPU yet."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)
