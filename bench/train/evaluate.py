"""What a model says of a batch, and of a part of the data in its own order."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.encode import Rows
from bench.tasks.reading import Reasoned, Written
from bench.train.batches import Batch, collate, for_evaluation
from bench.train.precision import autocast
from bench.train.writing import concluded, written


def arguments(batch: Batch) -> dict[str, Any]:
    """What a model is called with."""
    given: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.types is not None:
        given["token_type_ids"] = batch.types
    if batch.keep is not None:
        given["logits_to_keep"] = batch.keep
    if batch.from_end is not None:
        given["from_end"] = batch.from_end
    return given


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Logits in fp32, as the batch's reading wants them."""
    logits: Tensor = model(**arguments(batch)).logits
    return logits.float()


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """The loss of a batch; of a part of one, what it adds to the whole's."""
    loss = batch.read.loss(logits, batch)
    return loss if batch.share is None else loss * batch.share


@torch.inference_mode()
def predict(model: nn.Module, rows: Rows, batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The answer to every question: [questions], on the CPU, in the data's order."""
    model.eval()
    order = for_evaluation(rows, batch, device)
    with autocast(device, dtype):
        batches = (collate(rows, numbers).to(device) for numbers in order)
        found = torch.cat([_answers(model, batch).cpu() for batch in batches])
    return rows.answers(found[torch.cat(order).argsort()])


def _answers(model: nn.Module, batch: Batch) -> Tensor:
    match batch.read:
        case Written() as read:
            said = written(model, batch, read)
        case Reasoned() as read:
            said = concluded(model, batch, read)
        case _:
            said = forward(model, batch)
    return batch.read.answers(said, batch)
