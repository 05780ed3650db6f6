"""The same cell trained by other tools: transformers' Trainer, a loop like method_comparison's, TRL's SFTTrainer.

Models and adapters are those of transformers and PEFT, unchanged; rows, batch, arithmetic and optimizer are the same.
"""

import contextlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from setting import LEARNING_RATE, Setting
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from bench.measure.memory import peak_bytes, reset_peak
from bench.models.load import load_tokenizer

BUCKET = 20  # batches that method_comparison sorts by length together


def model_of(setting: Setting) -> nn.Module:
    """Return a model with PEFT's LoRA r=8 on q, v, without dropout, with transformers' own attention."""
    source, llama = setting.cell.source, setting.model.startswith("llama")
    config = AutoConfig.for_model(**source.architecture | {"num_labels": 2, "pad_token_id": 0})
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        setattr(config, name, 0.0)
    torch.manual_seed(0)
    if source.random:
        model = AutoModelForSequenceClassification.from_config(config)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(source.location, config=config)
    targets = ["q_proj", "v_proj"] if llama else ["query", "value"]
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=8, target_modules=targets)
    adapted: nn.Module = get_peft_model(model, lora)
    return adapted


def items_of(setting: Setting, padded: int | None) -> list[dict[str, Any]]:
    tokenizer, train = load_tokenizer(setting.cell.source), setting.task().train
    how = {"padding": "max_length"} if padded else {}
    encoded = tokenizer(train.texts, truncation=True, max_length=padded or setting.tokens, **how)
    names = ("input_ids", "attention_mask")
    columns = zip(*(encoded[name] for name in names), train.labels, strict=True)
    return [dict(zip((*names, "labels"), row, strict=True)) for row in columns]


def measured(setting: Setting, items: list[dict[str, Any]], train: Callable[[list[dict[str, Any]]], float]) -> Any:
    """Train on the first rows to warm up, then measure on the rest. train: returns its seconds."""
    train(items[: setting.warm])
    reset_peak(setting.torch_device)
    rest = items[setting.warm :]
    seconds, tokens = train(rest), sum(sum(item["attention_mask"]) for item in rest)
    speeds = {"samples_per_second": len(rest) / seconds, "tokens_per_second": tokens / seconds}
    return speeds | peak_bytes(setting.torch_device)


def trainer(setting: Setting, *, padded: int | None = None, **settings: Any) -> dict[str, Any]:
    """Train by transformers' Trainer. Its default collator pads each batch to its longest row."""
    model = model_of(setting)

    def train(items: list[dict[str, Any]]) -> float:
        arguments = TrainingArguments(
            output_dir=str(setting.folder / "trainer"),
            num_train_epochs=1,
            per_device_train_batch_size=setting.batch,
            learning_rate=LEARNING_RATE,
            weight_decay=0.01,
            warmup_steps=1,
            use_cpu=setting.device == "cpu",
            bf16=setting.precision == "bf16",
            logging_steps=10,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
            **settings,
        )
        collator = DataCollatorWithPadding(load_tokenizer(setting.cell.source))
        peer = Trainer(model=model, args=arguments, train_dataset=items, data_collator=collator)
        began = time.perf_counter()
        peer.train()
        return time.perf_counter() - began

    return measured(setting, items_of(setting, padded), train)


def default_collator(setting: Setting) -> dict[str, Any]:
    return trainer(setting)


def grouped_by_length(setting: Setting) -> dict[str, Any]:
    return trainer(setting, train_sampling_strategy="group_by_length")


def padded_to_128(setting: Setting) -> dict[str, Any]:
    return trainer(setting, padded=128)


def method_comparison_like(setting: Setting) -> dict[str, Any]:
    """Train by a plain loop like huggingface/peft's method_comparison.

    Rows are sorted by length within buckets of 20 batches and padded by the tokenizer step by step. The optimizer is
    AdamW with clipping over all parameters, and the loss is read at every step.
    """
    model, device = model_of(setting).to(setting.torch_device), setting.torch_device
    tokenizer = load_tokenizer(setting.cell.source)
    autocast = torch.autocast(device.type, torch.bfloat16) if setting.precision == "bf16" else contextlib.nullcontext()

    def train(items: list[dict[str, Any]]) -> float:
        began = time.perf_counter()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
        steps = -(-len(items) // setting.batch)
        schedule = get_linear_schedule_with_warmup(optimizer, 1, steps)
        model.train()
        losses = []
        for first in range(0, len(items), BUCKET * setting.batch):
            bucket = sorted(items[first : first + BUCKET * setting.batch], key=lambda item: len(item["input_ids"]))
            for start in range(0, len(bucket), setting.batch):
                batch = tokenizer.pad(bucket[start : start + setting.batch], return_tensors="pt").to(device)
                optimizer.zero_grad()
                with autocast:
                    loss = model(**batch).loss
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
        return time.perf_counter() - began

    return measured(setting, items_of(setting, None), train)


def sft_trainer(setting: Setting) -> dict[str, Any] | None:
    """Train by TRL's SFTTrainer on the same Llama and texts; None without TRL. Its loss covers every token."""
    if importlib.util.find_spec("trl") is None:
        return None
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    config = AutoConfig.for_model(**setting.cell.source.config | {"pad_token_id": 0})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    lora = LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(model, lora)
    tokenizer = load_tokenizer(setting.cell.source)

    def train(items: list[dict[str, Any]]) -> float:
        rows = Dataset.from_list([{"input_ids": item["input_ids"]} for item in items])
        arguments = SFTConfig(
            output_dir=str(setting.folder / "sft"),
            num_train_epochs=1,
            per_device_train_batch_size=setting.batch,
            learning_rate=LEARNING_RATE,
            use_cpu=setting.device == "cpu",
            bf16=setting.precision == "bf16",
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        peer = SFTTrainer(model=adapted, args=arguments, train_dataset=rows, processing_class=tokenizer)
        began = time.perf_counter()
        peer.train()
        return time.perf_counter() - began

    return measured(setting, items_of(setting, None), train)
