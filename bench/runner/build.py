"""From a cell to what is run: its data, its model with the method attached, how that is trained and kept."""

import gc
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
from bench.config.resolved import call
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
    """The task's parts as token ids.

    seed: of the solved examples that are shown; None: the protocol's. task: what `load_task` gave; None: it is read.
    """
    task = load_task(cell) if task is None else task
    beside = examples(cell, task.train, seed)
    if not cell.trains:
        task = replace(task, train=Split([], []))
    return encoded(cell, task, beside, Path(cell.conf.cache_dir).expanduser())


def load_retained(cell: Cell, compute: Compute) -> Retained | None:
    """The texts that the model should still predict after training, and how well it does before; None: none asked."""
    texts = retained_texts(cell)
    if texts is None:
        return None
    return texts.known(predict(load_backbone(cell, seed=0, compute=compute), texts.rows, AT_ONCE, compute))


def retained_texts(cell: Cell) -> Retained | None:
    """The texts that the model should still predict after training, as token ids; None: none asked."""
    conf = cell.conf
    if conf.retain is None or not cell.trains:
        return None
    path, cache = (Path(folder).expanduser() for folder in (conf.retain, conf.cache_dir))
    return retained(path, load_tokenizer(cell.source), conf.protocol.max_length, cache)


def examples(cell: Cell, train: Split, seed: int | None) -> Demonstrations:
    """The solved examples that are shown beside a row."""
    return Demonstrations(train, cell.shots, cell.conf.protocol.data_seed if seed is None else seed)


def encoded(cell: Cell, task: Task, beside: Demonstrations, cache: Path) -> Encoded:
    """A task as the cell puts it to the model."""
    method, conf, tokenizer = cell.conf.method, cell.conf.task, load_tokenizer(cell.source)
    if cell.form is Form.mask:
        return encode_cloze(task, conf, tokenizer, cell.longest, cache, beside)
    if cell.form.asks:
        writer = PromptEncoder(conf, cell.conf.prompt, tokenizer, cell.longest, cache, beside, reasons=method.reasons)
        return encode_questions(task, writer)
    if method.template is not None:
        task = worded(task, method.template, tokenizer, cell.longest)
    return encode(task, tokenizer, cell.longest, cache, [metric.value for metric in conf.metrics])


def load_task(cell: Cell) -> Task:
    """Read the data and cut the training part to the protocol's size."""
    conf, protocol = cell.conf.task, cell.conf.protocol
    task: Task = call({**conf.load, "_partial_": True})(conf, protocol.data_seed)
    if cell.form.asks is (task.train.options is None):
        has = "no options to choose from" if cell.form.asks else "questions with options"
        fits = "head or mask" if cell.form.asks else "letters, options, generate, classify or multiple_choice"
        raise ValueError(f"task.form={cell.form.value}: task {cell.task!r} has {has}; use task.form={fits}")
    return replace(task, train=subset(task.train, protocol.train_rows, protocol.data_seed))


def load_backbone(cell: Cell, *, seed: int, compute: Compute) -> nn.Module:
    """The backbone, with a fresh head where the task has one, on the device.

    A model that is no longer used is gone by then: it and its hooks refer to each other, and so it would stay in memory
    until Python's collector happens to run.
    """
    gc.collect()
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
    return model if quant else model.to(compute.device)  # a quantised base lies there already, and may not be moved


def build(cell: Cell, *, seed: int, compute: Compute) -> nn.Module:
    """A fresh model with the method attached; all that is drawn at random is drawn from the seed."""
    model = own_streams(method_of(cell)(load_backbone(cell, seed=seed, compute=compute)))
    if cell.checkpointing:
        plain: Any = plain_model(model)
        plain.activation_checkpointing_enable({"use_reentrant": False, "context_fn": replaying})
    return placed(model, cell, compute)


def placed(model: nn.Module, cell: Cell, compute: Compute) -> nn.Module:
    """The model on the device, where what a method has added may not be yet; 4 and 8 bits may not be moved."""
    return model if quant_of(cell.conf.quant, compute.dtype) else model.to(compute.device)


def compute_of(cell: Cell) -> Compute:
    """Where and how the cell is computed. ValueError: there is no such device, or it computes otherwise."""
    device = pick_device(cell.conf.device.value)
    return Compute(device, arithmetic(cell, device))


def arithmetic(cell: Cell, device: torch.device) -> torch.dtype:
    """Of the forward pass: the one that the cell is named by. ValueError: this device computes otherwise."""
    if cell.conf.precision is Precision.auto and cell.conf.quant.name != "bf16":
        check_rule(cell.precision, device)
    return pick_dtype(cell.precision, device)


def method_of(cell: Cell) -> Callable[[nn.Module], nn.Module]:
    """The cell's method, ready to be applied."""
    method: Callable[..., nn.Module] = call(cell.conf.method.attach)
    return method if cell.modules is None else partial(method, target=cell.modules)


def recipe_of(cell: Cell) -> Recipe:
    """How the cell's method is trained."""
    method = cell.conf.method
    hooks: Hooks = call(method.hooks) if method.hooks else Hooks()
    head_lr = None if method.head_at_lr else cell.conf.protocol.head_lr
    return Recipe(hooks, call(cell.conf.optim.build), method.lr_ratio, head_lr)


def keep(model: nn.Module, cell: Cell, trial: Trial) -> str | None:
    """Save what the configuration wants of a trained model; gives the folder, relative as it was asked for.

    It is written beside its place and moved there when it is whole, so that a run that fails leaves what an earlier one
    has saved.
    """
    what = cell.conf.save
    if what is Save.none:
        return None
    folder = Path(cell.conf.save_dir).expanduser() / cell.folder / trial.name / what.value
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{what.value}.") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
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
    """Size of the adapter on disk, found out by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder), cell.conf.method.attach)
        return adapter_bytes(Path(folder))
