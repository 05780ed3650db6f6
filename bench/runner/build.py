"""Build what a cell runs: its data, its model with the method attached, its training recipe and its saved results."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.cells.cell import Cell, Trial
from bench.config.enums import Attention, Form, Precision, Save
from bench.config.resolved import call, call_later
from bench.hooks import Hooks
from bench.methods.checkpoints import adapter_bytes, save_adapter, save_merged
from bench.models.load import load_model, load_tokenizer
from bench.models.quant import halve, quant_of
from bench.models.structure import plain_model
from bench.models.vmap.attention import NAME as OWN
from bench.models.vmap.dropout import own_streams, replaying
from bench.tasks.base import Split, Task, subset
from bench.tasks.encoding.cloze import encode_cloze
from bench.tasks.encoding.few_shot import Demonstrations
from bench.tasks.encoding.forgetting import AT_ONCE, Retained, retained
from bench.tasks.encoding.multiple_choice import PromptEncoder, encode_questions
from bench.tasks.encoding.rows import Encoded, encode
from bench.tasks.encoding.template import worded
from bench.train.device import Compute, check_rule, pick_device, pick_dtype
from bench.train.evaluate import predict
from bench.train.settings import Recipe


def load_data(cell: Cell, seed: int | None = None, task: Task | None = None) -> Encoded:
    """Load the parts of a cell's task as token ids.

    Args:
        cell: The cell.
        seed: Seed that draws the solved examples of the prompt; None for the protocol's data seed.
        task: The task as `load_task` returns it; None to read it here.

    Returns:
        The encoded parts. The train part is empty if the cell trains nothing.

    Raises:
        ValueError: A file is missing or broken, or a text cannot be encoded.
    """
    task = load_task(cell) if task is None else task
    demonstrations = examples(cell, task.train, seed)
    if not cell.trains:
        task = replace(task, train=Split([], []))
    return encoded(cell, task, demonstrations, Path(cell.conf.cache_dir).expanduser())


def load_retained(cell: Cell, compute: Compute) -> Retained | None:
    """Load the texts that the model should still predict after training, with its loss on them before training.

    Args:
        cell: The cell.
        compute: Device and arithmetic.

    Returns:
        The texts, or None if the cell measures no retention.
    """
    texts = retained_texts(cell)
    if texts is None:
        return None
    return texts.known(predict(load_backbone(cell, seed=0, compute=compute), texts.rows, AT_ONCE, compute))


def retained_texts(cell: Cell) -> Retained | None:
    """Encode the texts that the model should still predict after training.

    Args:
        cell: The cell.

    Returns:
        The texts as token ids, or None if the cell measures no retention.
    """
    conf = cell.conf
    if conf.retain is None or not cell.trains:
        return None
    path, cache = (Path(folder).expanduser() for folder in (conf.retain, conf.cache_dir))
    return retained(path, load_tokenizer(cell.source), conf.protocol.max_length, cache)


def examples(cell: Cell, train: Split, seed: int | None) -> Demonstrations:
    """Return the solved examples that are shown in the prompt of a row.

    Args:
        cell: The cell.
        train: The rows to draw from.
        seed: Seed of the draw; None for the protocol's data seed.
    """
    return Demonstrations(train, cell.shots, cell.conf.protocol.data_seed if seed is None else seed)


def encoded(cell: Cell, task: Task, demonstrations: Demonstrations, cache: Path) -> Encoded:
    """Encode a task in the way in which the cell presents it to the model.

    Args:
        cell: The cell.
        task: The task's texts and labels.
        demonstrations: Solved examples for the prompt.
        cache: Folder of the token cache.

    Returns:
        The parts as token ids.
    """
    method, conf, tokenizer = cell.conf.method, cell.conf.task, load_tokenizer(cell.source)
    if cell.form is Form.mask:
        return encode_cloze(task, conf, tokenizer, cell.longest, cache, demonstrations)
    if cell.form.asks:
        writer = PromptEncoder(
            conf, cell.conf.prompt, tokenizer, cell.longest, cache, demonstrations, reasons=method.reasons
        )
        return encode_questions(task, writer)
    if method.template is not None:
        task = worded(task, method.template, tokenizer, cell.longest)
    return encode(task, tokenizer, cell.longest, cache, [metric.value for metric in conf.metrics])


def load_task(cell: Cell) -> Task:
    """Read a cell's task and cut its training part to the protocol's size.

    Raises:
        ValueError: A file is missing or broken, or the task does not fit `task.form`.
    """
    conf, protocol = cell.conf.task, cell.conf.protocol
    task: Task = call_later(conf.load, "task.load", ("task", "data_seed"))(conf, protocol.data_seed)
    if cell.form.asks is (task.train.options is None):
        has = "no options to choose from" if cell.form.asks else "questions with options"
        fits = "head or mask" if cell.form.asks else "letters, options, generate, classify or multiple_choice"
        raise ValueError(f"task.form={cell.form.value}: task {cell.task!r} has {has}; use task.form={fits}")
    return replace(task, train=subset(task.train, protocol.train_rows, protocol.data_seed))


def load_backbone(cell: Cell, *, seed: int, compute: Compute) -> nn.Module:
    """Load the backbone onto the device, with a fresh head if the task has one.

    Args:
        cell: The cell.
        seed: Seed of the head's weights.
        compute: Device and arithmetic.

    Returns:
        The model, quantised as the configuration says.
    """
    conf = cell.conf
    quant, attention = quant_of(conf.quant, compute.dtype), conf.fast.attention
    model = load_model(
        cell.source,
        cell.outputs,
        seed=seed,
        speaks=cell.form.speaks,
        attention=OWN if attention is Attention.own else attention.value,
        dropout=conf.protocol.dropout,
        quant=quant,
        device=compute.device,
    )
    if conf.quant.name == "bf16":
        halve(model)
    return model if quant else model.to(compute.device)  # a quantised base is already on the device and cannot be moved


def build(cell: Cell, *, seed: int, compute: Compute) -> nn.Module:
    """Build a fresh model with the method attached, on the device.

    Args:
        cell: The cell.
        seed: Seed of everything that is drawn at random.
        compute: Device and arithmetic.
    """
    model = own_streams(method_of(cell)(load_backbone(cell, seed=seed, compute=compute)))
    if cell.checkpointing:
        unwrapped: Any = plain_model(model)
        unwrapped.activation_checkpointing_enable({"use_reentrant": False, "context_fn": replaying})
    return placed(model, cell, compute)


def placed(model: nn.Module, cell: Cell, compute: Compute) -> nn.Module:
    """Move what the method added to the device. Models in 4 and 8 bits cannot be moved and are returned as they are."""
    return model if quant_of(cell.conf.quant, compute.dtype) else model.to(compute.device)


def compute_of(cell: Cell) -> Compute:
    """Return the device and arithmetic of a cell.

    Raises:
        ValueError: The device does not exist, or it cannot compute in the cell's precision.
    """
    device = pick_device(cell.conf.device.value)
    return Compute(device, arithmetic(cell, device))


def arithmetic(cell: Cell, device: torch.device) -> torch.dtype:
    """Return the data type of the forward pass, which is part of the cell's identity.

    Raises:
        ValueError: The device does not compute in the cell's precision.
    """
    if cell.conf.precision is Precision.auto and cell.conf.quant.name != "bf16":
        check_rule(cell.precision, device)
    return pick_dtype(cell.precision, device)


def method_of(cell: Cell) -> Callable[[nn.Module], nn.Module]:
    """Return the cell's method as a function that attaches it to a model."""
    method: Callable[..., nn.Module] = call_later(cell.conf.method.attach, "method.attach", ("model", "target"))
    return method if cell.modules is None else partial(method, target=cell.modules)


def recipe_of(cell: Cell) -> Recipe:
    """Return how the cell's method is trained: hooks, optimizer and learning rate ratios."""
    method = cell.conf.method
    hooks: Hooks = call(method.hooks) if method.hooks else Hooks()
    head_lr = None if method.head_at_lr else cell.conf.protocol.head_lr
    return Recipe(hooks, call(cell.conf.optim.build), method.lr_ratio, head_lr)


def keep(model: nn.Module, cell: Cell, trial: Trial) -> str | None:
    """Save a trained model as `save` in the configuration says.

    The files are written to a temporary folder next to the final one and moved once complete. A run that fails
    therefore leaves what an earlier run saved.

    Args:
        model: The trained model.
        cell: The cell.
        trial: The trial that trained the model.

    Returns:
        The folder, relative if `save_dir` is relative; None if nothing is saved.

    Raises:
        OSError: The folder cannot be written.
    """
    form = cell.conf.save
    if form is Save.none:
        return None
    folder = Path(cell.conf.save_dir).expanduser() / cell.folder / trial.name / form.value
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{form.value}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        _save(model, cell, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return str(folder)


def _save(model: nn.Module, cell: Cell, folder: Path) -> None:
    attach_node = cell.conf.method.attach
    if cell.conf.save is Save.adapter:
        save_adapter(model, folder, attach_node)
        return
    labels = cell.conf.task.labels or []
    named = not cell.form.speaks and cell.outputs == len(labels)
    save_merged(model, folder, attach_node, labels if named else [])
    load_tokenizer(cell.source).save_pretrained(folder)


def saved_bytes(model: nn.Module, cell: Cell) -> int:
    """Return the size of the adapter on disk in bytes, measured by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder), cell.conf.method.attach)
        return adapter_bytes(Path(folder))
