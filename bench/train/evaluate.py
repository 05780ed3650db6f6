"""Predictions for a part of the data, in its own order."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.encode import Rows
from bench.train.batches import Batch, collate, for_evaluation
from bench.train.precision import autocast


def arguments(batch: Batch) -> dict[str, Any]:
    """What a model is called with."""
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [rows, labels] in fp32."""
    logits: Tensor = model(**arguments(batch)).logits
    return logits.float()


@torch.inference_mode()
def predict(model: nn.Module, rows: Rows, batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The likeliest label of every row: [rows], on the CPU, in the rows' order."""
    model.eval()
    order = for_evaluation(rows, batch, device)
    with autocast(device, dtype):
        found = [forward(model, collate(rows, numbers).to(device)).argmax(-1) for numbers in order]
    predictions = torch.empty(len(rows), dtype=torch.long)
    predictions[torch.cat(order)] = torch.cat(found).cpu()
    return predictions


def accuracy(predictions: Tensor, rows: Rows) -> float:
    """Share of rows predicted right."""
    return float((predictions == rows.labels).double().mean())
