"""What distinguishes one cell from another: everything that changes a result, and nothing else.

A cell's identity does not depend on where results go, how they are shown or on which device they are measured. Machines
sum in different orders, which changes the last digits of a loss; this is not part of the identity either. The
arithmetic (fp32 or bf16) is. Our own functions are identified by names that stay the same when a file moves.
Settings that are unused or at their neutral value are left out, so that a new setting does not rename the cells that do
not use it.
"""

from typing import Any

from bench.config.enums import Form
from bench.config.function_names import with_names
from bench.config.user_sources import own_sources

# The version of our numerics. Raise it by hand whenever the same configuration produces different numbers than before,
# so that old and new records never count as one cell. Version 1 was not recorded. It merged labels that count from 1,
# mixed up the tokens of models with and without token types, and split rare labels and numbers unevenly. Version 2 took
# the first of equal checkpoints.
NUMERICS = 3
# The defaults of conf/config.yaml, including conf/quant/none.yaml and conf/optim/adamw.yaml. A test keeps them in sync.
NEUTRAL: dict[str, Any] = {
    "quant": {"name": "none", "double": False, "compute": None},
    "optim": {"name": "adamw", "build": {"_target_": "torch.optim.AdamW", "_partial_": True, "fused": True}},
    "checkpointing": False,
}
# Settings of the protocol that replace another one where they are set.
INSTEAD = {"steps": "epochs", "tokens": "batch", "warmup_steps": "warmup"}
REASONING = ("reason", "reason_tokens", "conclude")  # of the prompt: used if the model reasons before it answers
RACE = ("tune_seed", "candidates", "finalists")  # of the protocol: how a rate is found changes no trial at that rate
WITH_EXAMPLES = ("apart", *REASONING)  # of the prompt: parts that only some cells use


def task_identity(config: dict[str, Any], data: str) -> dict[str, Any]:
    """Return the identity of the task, including its prompt unless a head classifies the text.

    Args:
        config: The cell's configuration as plain data.
        data: What identifies the bytes of the data. For local files, a hash that names the files of each part. For a
            repository, its revision; `files` then says which of its files are read.
    """
    task, form = config["task"], Form(config["task"]["form"])
    identity = {
        "name": task["name"],
        "data": data,
        **({"files": task["files"]} if task["path"] is None else {}),
        "load": with_names(task["load"]),
        "labels": task["labels"],
        "select": task["select_rows"],
    }
    if task["metrics"] != ["accuracy"]:
        identity["metrics"] = task["metrics"]
    if form is not Form.head:
        identity["form"] = task["form"]
    if form is Form.mask:
        identity |= {key: task[key] for key in ("cloze", "words")}
    if form.asks:
        unused = WITH_EXAMPLES if not task["shots"] else REASONING
        prompt = {key: value for key, value in config["prompt"].items() if key not in unused}
        identity |= {"loss_on": task["loss_on"], "prompt": prompt}
    return identity | ({"shots": task["shots"]} if task["shots"] else {})


def method_identity(config: dict[str, Any], precision: str, scale: str | None) -> dict[str, Any]:
    """Return the identity of the method, its base and its optimizer.

    Args:
        config: The cell's configuration as plain data.
        precision: The cell's arithmetic, which is also the default arithmetic on a quantised base.
        scale: The name of the cell's scaling policy. Two policies can result in the same alpha at one rank, and are
            still two cells.
    """
    method, prompt = config["method"], config["prompt"]
    config = config | {"quant": config["quant"] | {"compute": _unless_default(config["quant"]["compute"], precision)}}
    used = [*(["apart"] if method["shots"] else []), *(REASONING if method["reasons"] else [])]
    return {
        "name": method["name"],
        "attach": with_names(method["attach"]),
        **({"hooks": with_names(method["hooks"])} if method["hooks"] else {}),
        **({"scale": scale} if scale else {}),
        **{key: method[key] for key in ("lr_ratio", "head_at_lr", "template", "shots", "reasons") if method[key]},
        **({"prompt": {key: prompt[key] for key in used}} if used else {}),
        **{key: with_names(config[key]) for key in NEUTRAL if config[key] != NEUTRAL[key]},
    }


def _unless_default(compute: str | None, precision: str) -> str | None:
    """Return the arithmetic on a quantised base, or None if it is the cell's own."""
    return None if compute == precision else compute


def source_identity(config: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of the code: the version of our numerics, and hashes of the user's own functions."""
    method = config["method"]
    own = own_sources(config["task"]["load"], method["attach"], method["hooks"], config["optim"]["build"])
    return {"numerics": NUMERICS} | ({"sources": own} if own else {})


def protocol_identity(protocol: dict[str, Any], form: Form) -> dict[str, Any]:
    """Return the settings of the protocol that can change a result.

    Left out are its name, how costs are measured, how a batch is divided, how the learning rate is chosen and, of two
    settings for one thing, the unused one. The learning rate of the head stays in, because all cells of one table share
    it.
    """
    unused = {"name", "probe_steps", "micro", *RACE}
    unused |= {replaced if protocol[key] is not None else key for key, replaced in INSTEAD.items()}
    unused |= {"eval_steps"} if protocol["eval_steps"] is None else set()
    unused |= {"head_lr"} if form.speaks else set()
    return {key: value for key, value in protocol.items() if key not in unused}
