"""What a model says of a batch, and of a part of the data in its own order."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.encoding.rows import Rows
from bench.tasks.encoding.written import Written
from bench.tasks.outputs import Choosing, Reasoned
from bench.train.batches import Batch, collate, for_evaluation
from bench.train.device import Compute
from bench.train.generate import concluded, written
from bench.train.outcome import is_oom, release


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


def predict(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> Tensor:
    """The answer to every question: [questions], on the CPU, in the data's order."""
    return rows.answers(_over(model, rows, batch, compute, rows.read.answers))


def judge(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> tuple[Tensor, Tensor]:
    """The answer to every question and its loss: both [questions], on the CPU, in the data's order."""
    return rows.judged(_over(model, rows, batch, compute, rows.read.judge))


def weigh(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> tuple[Tensor, Tensor | None]:
    """The answers, and how likely each label or option is: [questions, options], adding up to 1.

    Of options that are compared by their likelihood by token, what adds up to 1 is just that. None: the answers are
    written out, or are numbers.
    """
    read = rows.read
    if isinstance(read, Written) or rows.labels.is_floating_point():
        return predict(model, rows, batch, compute), None
    if isinstance(read, Choosing):
        scores = _over(model, rows, batch, compute, read.scores)
    else:
        scores = rows.beside(_over(model, rows, batch, compute, read.answers))
    return scores.argmax(-1), scores.softmax(-1)


@torch.inference_mode()
def _over(
    model: nn.Module,
    rows: Rows,
    batch: int,
    compute: Compute,
    read: Callable[[Tensor, Batch], Tensor],
) -> Tensor:
    """What is read of every row, on the CPU, in the data's order. batch: rows at once, as far as memory holds them."""
    model.eval()
    order = for_evaluation(rows, batch, compute.device)
    with compute.autocast():
        found = torch.cat([part for numbers in order for part in _within(model, rows, numbers, compute.device, read)])
    return found[torch.cat(order).argsort()]


def _within(
    model: nn.Module, rows: Rows, numbers: Tensor, device: torch.device, read: Callable[[Tensor, Batch], Tensor]
) -> list[Tensor]:
    """What is read of some rows; where memory runs out, of one half after the other."""
    try:
        return [_read(model, collate(rows, numbers).to(device), read)]
    except Exception as error:
        if len(numbers) == 1 or not is_oom(error):
            raise
        release(error)
    halves = torch.split(numbers, -(-len(numbers) // 2))
    return [part for half in halves for part in _within(model, rows, half, device, read)]


def _read(model: nn.Module, batch: Batch, read: Callable[[Tensor, Batch], Tensor]) -> Tensor:
    return read(_said(model, batch), batch).cpu()


def _said(model: nn.Module, batch: Batch) -> Tensor:
    match batch.read:
        case Written() as read:
            return written(model, batch, read)
        case Reasoned() as read:
            return concluded(model, batch, read)
        case _:
            return forward(model, batch)
