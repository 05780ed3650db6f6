"""Checks that need only the configuration. They run before any file or model is looked for."""

import math
from dataclasses import fields, is_dataclass
from string import Formatter
from typing import Any

from bench.config.enums import Form, Metric
from bench.config.schema import Config, TaskConf
from bench.records.record import RESERVED, is_file_name

AXES = ("rank", "target", "scale")
TUNED, ALL, PUBLISHED = "tuned", "all", "published"  # values of `lrs` other than a list
FEWEST = 3  # minimum number of candidates of a race


def check_keys(config: dict[str, Any]) -> None:
    """Refuse unknown keys, because Hydra lets `+key=value` add any key.

    Raises:
        ValueError: A key is unknown. The message lists the valid ones.
    """
    nodes: dict[str, tuple[Any, dict[str, Any]]] = {"": (Config, config)}
    nodes |= {f"{node.name}.": (node.type, config[node.name]) for node in fields(Config) if is_dataclass(node.type)}
    for prefix, (node_type, values) in nodes.items():
        allowed = [field.name for field in fields(node_type)]
        if unknown := [key for key in values if key not in allowed]:
            raise ValueError(f"unknown setting '{prefix}{unknown[0]}'; valid settings there: {', '.join(allowed)}")


def check_values(conf: Config) -> None:
    """Refuse invalid values.

    Raises:
        ValueError: A value is invalid. The message names it, says what is allowed and what to do.
    """
    _check_names(conf)
    _check_numbers(conf)
    _check_trials(conf)
    _check_rates(conf)
    _check_race(conf)
    _check_task(conf)
    _check_prompt(conf)
    _check_method(conf)


def _check_names(conf: Config) -> None:
    """Refuse names that cannot be folders of the results."""
    names = {"model.label": conf.model.label, "task.name": conf.task.name, "method.name": conf.method.name}
    for key, name in names.items():
        if not is_file_name(name):
            raise ValueError(f"{key}={name!r} becomes a folder's name, so it may not hold / or \\ or :, or be empty")


def check_folder(label: str) -> None:
    """Refuse a model whose folder in the results is reserved for other files.

    Raises:
        ValueError: The label is reserved. The message says what to do.
    """
    if label in RESERVED:
        raise ValueError(
            f"a model called {label!r} cannot have results: results/{label} holds other files; rename the folder of "
            "the model, or set another model.label"
        )


def _check_numbers(conf: Config) -> None:
    protocol = conf.protocol
    names = ("steps", "epochs", "batch", "tokens", "micro", "eval_steps", "eval_batch", "max_length", "probe_steps")
    protocol_counts = {f"protocol.{name}": getattr(protocol, name) for name in (*names, "train_rows")}
    cell_counts = {
        "rank": conf.rank,
        "match_params": conf.match_params,
        "scale.alpha": conf.scale.alpha,
        "task.select_rows": conf.task.select_rows,
    }
    for name, value in {**cell_counts, **protocol_counts}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if protocol.tokens is not None and protocol.tokens < protocol.max_length:
        raise ValueError(
            f"protocol.tokens={protocol.tokens} does not hold one row of protocol.max_length={protocol.max_length}; "
            f"choose at least {protocol.max_length}, or a smaller max_length"
        )
    for name, number in (("weight_decay", protocol.weight_decay), ("warmup_steps", protocol.warmup_steps)):
        if number is not None and number < 0:
            raise ValueError(f"protocol.{name}={number} must be at least 0")
    if not (protocol.head_lr > 0 and math.isfinite(protocol.head_lr)):
        raise ValueError(f"protocol.head_lr={protocol.head_lr} must be above 0 and finite, such as 1e-3")
    if not protocol.clip > 0:
        raise ValueError(f"protocol.clip={protocol.clip} must be above 0; the standard is 1.0")
    for name, share in (("warmup", protocol.warmup), ("dropout", protocol.dropout)):
        if share is not None and not 0 <= share < 1:
            raise ValueError(f"protocol.{name}={share} must be at least 0 and below 1")


def _check_trials(conf: Config) -> None:
    if not conf.seeds:
        raise ValueError("seeds is empty; give at least one, such as seeds=[0,1,2]")
    if conf.pack != "auto" and not (isinstance(conf.pack, int) and conf.pack >= 1):
        raise ValueError(f"pack={conf.pack} must be auto or a whole number: the most trials that train together")
    if conf.workers != "auto" and not (isinstance(conf.workers, int) and conf.workers >= 1):
        raise ValueError(f"workers={conf.workers} must be auto or a whole number: how many cells train at once")
    if min(conf.seeds) < 0:
        raise ValueError(f"seeds={conf.seeds}: a seed must be at least 0")


def _check_rates(conf: Config) -> None:
    """Check `lrs`."""
    lrs, words = conf.lrs, f"{TUNED}, {ALL}, {PUBLISHED}"
    if isinstance(lrs, str) or not hasattr(lrs, "__iter__"):
        if lrs not in {TUNED, ALL, PUBLISHED}:
            raise ValueError(f"lrs={lrs} must be {words}, or a list such as lrs=[5e-4]")
        return
    if not len(lrs):
        raise ValueError(f"lrs is empty; give at least one learning rate, such as lrs=[5e-4], or one of {words}")
    for lr in lrs if conf.method.trains else ():
        if isinstance(lr, bool) or not (isinstance(lr, (int, float)) and lr > 0 and math.isfinite(lr)):
            raise ValueError(f"lrs={[*lrs]}: a learning rate must be above 0 and finite, such as lrs=[5e-4]")


def _check_race(conf: Config) -> None:
    """Check the race that finds a learning rate."""
    protocol = conf.protocol
    if protocol.tune_seed < 0:
        raise ValueError(f"protocol.tune_seed={protocol.tune_seed} must be at least 0")
    if protocol.candidates is None:
        return
    if protocol.candidates < FEWEST:
        raise ValueError(
            f"protocol.candidates={protocol.candidates} must be at least {FEWEST}, or null to disable tuning; fewer "
            "candidates cannot show on which side a better rate lies"
        )
    if not 1 <= protocol.finalists <= protocol.candidates:
        raise ValueError(
            f"protocol.finalists={protocol.finalists} must be at least 1 and at most protocol.candidates="
            f"{protocol.candidates}"
        )
    if conf.lrs == TUNED and conf.method.trains and protocol.tune_seed in conf.seeds:
        raise ValueError(
            f"protocol.tune_seed={protocol.tune_seed} is one of seeds={[*conf.seeds]}: the race for a rate needs a "
            "seed that the report does not use; choose another"
        )


def _check_task(conf: Config) -> None:
    task = conf.task
    _check_labels(task)
    _check_metrics(task)
    if task.shots < 0:
        raise ValueError(f"task.shots={task.shots} must be at least 0")
    if task.form is Form.head and task.shots:
        raise ValueError("task.shots: a head takes no solved examples; use task.shots=0, or another task.form")
    if task.form is Form.mask:
        _check_cloze(task)


def _check_labels(task: TaskConf) -> None:
    labels = task.labels or []
    if len(labels) == 1:
        raise ValueError(
            f"task.labels=[{labels[0]}] is only one label; give two or more, or none if the task predicts a number"
        )
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"task.labels=[{', '.join(labels)}] has {repeated[0]!r} twice; give each label once")


def _check_metrics(task: TaskConf) -> None:
    count = len(task.labels or [])
    suitable = [metric for metric in Metric if metric.of_numbers is not bool(count)]
    if count > 2:
        suitable.remove(Metric.f1)
    allowed = ", ".join(metric.value for metric in suitable)
    if wrong := [metric for metric in task.metrics if metric not in suitable]:
        kind = f"has {count} labels" if count else "predicts a number (it has no labels)"
        why = " (it is for two labels)" if wrong[0] is Metric.f1 and count else ""
        raise ValueError(
            f"task.metrics: task {task.name!r} {kind}, so {wrong[0].value!r}{why} does not fit; choose from {allowed}"
        )
    if not task.metrics:
        raise ValueError(f"task.metrics is empty; choose from {allowed}")


def _check_cloze(task: TaskConf) -> None:
    labels = task.labels or []
    if not labels or len(set(task.words)) != len(labels):
        raise ValueError(
            f"task.form=mask needs one word per label, all different; task {task.name!r} has task.words="
            f"[{', '.join(task.words)}] for {', '.join(labels) or 'a number'}"
        )
    _check_placeholders("task.cloze", task.cloze or "", {"text", "mask"}, {"second"})


def _check_prompt(conf: Config) -> None:
    """Check that every part of the prompt has the placeholders that it needs, and no others."""
    if not conf.task.form.asks:
        return
    needed = {
        "text": {"question", "options"},
        "unseen": {"question"},
        "option": {"letter", "option"},
        "letters": {"letter"},
        "unseen_answer": {"option"},
        "written": {"letter"},
    }
    for name, placeholders in needed.items():
        optional = {"option"} if name == "written" else set()
        _check_placeholders(f"prompt.{name}", getattr(conf.prompt, name), placeholders, optional)
    if conf.prompt.reason_tokens < 1:
        raise ValueError(f"prompt.reason_tokens={conf.prompt.reason_tokens} must be at least 1")


def _check_placeholders(name: str, template: str, required: set[str], optional: set[str]) -> None:
    """Refuse a template that lacks a required placeholder, has an unknown one or is not a format string."""
    try:
        used = {placeholder for _, placeholder, _, _ in Formatter().parse(template) if placeholder is not None}
        if used <= required | optional:
            template.format(**dict.fromkeys(used, ""))  # also checks what follows a colon or a !
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{name}={template!r}: {error}; write {{{{ for a brace of the text") from error
    if not required <= used <= required | optional:
        wrong = sorted(required - used) or sorted(used - required - optional)
        problem = "lacks the placeholder" if required - used else "has the unknown placeholder"
        needs = ", ".join(f"{{{placeholder}}}" for placeholder in sorted(required))
        raise ValueError(f"{name}={template!r} {problem} {{{wrong[0]}}}; it needs {needs}")


def _check_method(conf: Config) -> None:
    if unknown := [axis for axis in conf.method.uses if axis not in AXES]:
        raise ValueError(f"method.uses: {unknown[0]!r} is not an axis; choose from {', '.join(AXES)}")
    if "target" in conf.method.uses and not conf.method.target:
        raise ValueError(f"method {conf.method.name!r} uses target but has no published one: add target: [q, v]")
    if conf.method.trains and conf.method.lr is None:
        raise ValueError(f"method {conf.method.name!r} has no published learning rate: set method.lr, such as 1e-3")
    if "head" in conf.method.lr_ratio:
        raise ValueError("method.lr_ratio: 'head' has its own rate in every method; set protocol.head_lr")
    if conf.method.template is not None:
        _check_placeholders("method.template", conf.method.template, {"text"}, set())
    calls = {"method.attach": conf.method.attach, "task.load": conf.task.load, "optim.build": conf.optim.build}
    if conf.method.hooks is not None:
        calls["method.hooks"] = conf.method.hooks
    for node, call in calls.items():
        if "_target_" not in (call or {}):
            raise ValueError(f"{node} has no function: add _target_: your.module.function")
