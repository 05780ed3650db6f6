"""Run a model on a batch, or on a whole part of the data."""

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
    """Return the keyword arguments with which a model is called on a batch."""
    keywords: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.types is not None:
        keywords["token_type_ids"] = batch.types
    if batch.keep is not None:
        keywords["logits_to_keep"] = batch.keep
    if batch.from_end is not None:
        keywords["from_end"] = batch.from_end
    return keywords


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of a batch in fp32. Their shape is the one that `batch.read` documents."""
    logits: Tensor = model(**arguments(batch)).logits
    return logits.float()


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Return the loss of a batch. For a part of a batch, return its contribution to the loss of the whole batch."""
    loss = batch.read.loss(logits, batch)
    return loss if batch.share is None else loss * batch.share


def predict(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> Tensor:
    """Return the answer to every question.

    Args:
        model: The model.
        rows: The rows to answer.
        batch: The maximum number of rows per forward pass. It is halved when memory runs out.
        compute: The device and the arithmetic.

    Returns:
        Answers in the order of the data, [questions], on the CPU.
    """
    return rows.answers(_read_all(model, rows, batch, compute, rows.read.answers))


def judge(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> tuple[Tensor, Tensor]:
    """Return the answer to every question and its loss.

    Args:
        model: The model.
        rows: The rows to answer.
        batch: The maximum number of rows per forward pass. It is halved when memory runs out.
        compute: The device and the arithmetic.

    Returns:
        Answers and losses in the order of the data, both [questions], on the CPU.
    """
    return rows.judged(_read_all(model, rows, batch, compute, rows.read.judge))


def weigh(model: nn.Module, rows: Rows, batch: int, compute: Compute) -> tuple[Tensor, Tensor | None]:
    """Return the answer to every question and the probabilities of its labels or options.

    Args:
        model: The model.
        rows: The rows to answer.
        batch: The maximum number of rows per forward pass. It is halved when memory runs out.
        compute: The device and the arithmetic.

    Returns:
        Answers, [questions], and probabilities that sum to 1, [questions, options]. If options are compared by their
        likelihood per token, those likelihoods are normalised to sum to 1. The probabilities are None if answers are
        generated, or are numbers.
    """
    read = rows.read
    if isinstance(read, Written) or rows.labels.is_floating_point():
        return predict(model, rows, batch, compute), None
    if isinstance(read, Choosing):
        scores = _read_all(model, rows, batch, compute, read.scores)
    else:
        scores = rows.by_question(_read_all(model, rows, batch, compute, read.answers))
    return scores.argmax(-1), scores.softmax(-1)


@torch.inference_mode()
def _read_all(
    model: nn.Module,
    rows: Rows,
    batch: int,
    compute: Compute,
    read: Callable[[Tensor, Batch], Tensor],
) -> Tensor:
    """Apply `read` to the output for every row. The result is on the CPU, in the order of the data."""
    model.eval()
    order = for_evaluation(rows, batch, compute.device)
    with compute.autocast():
        outputs = torch.cat(
            [part for numbers in order for part in _read_rows(model, rows, numbers, compute.device, read)]
        )
    return outputs[torch.cat(order).argsort()]


def _read_rows(
    model: nn.Module, rows: Rows, numbers: Tensor, device: torch.device, read: Callable[[Tensor, Batch], Tensor]
) -> list[Tensor]:
    """Apply `read` to the output for the rows with these numbers. When memory runs out, do each half separately."""
    try:
        return [_read_batch(model, collate(rows, numbers).to(device), read)]
    except Exception as error:
        if len(numbers) == 1 or not is_oom(error):
            raise
        release(error)
    halves = torch.split(numbers, -(-len(numbers) // 2))
    return [part for half in halves for part in _read_rows(model, rows, half, device, read)]


def _read_batch(model: nn.Module, batch: Batch, read: Callable[[Tensor, Batch], Tensor]) -> Tensor:
    return read(_output(model, batch), batch).cpu()


def _output(model: nn.Module, batch: Batch) -> Tensor:
    """Generated tokens if answers are written out, otherwise logits."""
    match batch.read:
        case Written() as read:
            return written(model, batch, read)
        case Reasoned() as read:
            return concluded(model, batch, read)
        case _:
            return forward(model, batch)
