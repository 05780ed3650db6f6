"""What makes one cell differ from another: everything that changes a result, and nothing else.

Where results go, how they are shown and on what device they are measured does not change what a cell is, nor does the
order in which a sum is taken: machines differ in it, and so in the last digits of a loss. The arithmetic, fp32 or bf16,
is part of it. Our functions go by names that stay when a file moves. What is left at its neutral value, or is not used,
is left out, so that a new setting renames no cell without it.
"""

from typing import Any

from bench.config.enums import Form
from bench.config.function_names import with_names
from bench.config.user_sources import own_sources

# The version of what we compute. It is raised by hand whenever the same configuration gives other numbers than before,
# so that records of both never count as one cell. Version 1 was not recorded. It merged labels that count from 1, mixed
# up the tokens of models with and without token types, and split rare labels and numbers unevenly. Version 2 took the
# first of equal checkpoints.
NUMERICS = 3
# conf/config.yaml's choice, down to conf/quant/none.yaml and conf/optim/adamw.yaml; a test holds the two together.
NEUTRAL: dict[str, Any] = {
    "quant": {"name": "none", "double": False, "compute": None},
    "optim": {"name": "adamw", "build": {"_target_": "torch.optim.AdamW", "_partial_": True, "fused": True}},
    "checkpointing": False,
}
INSTEAD = {"steps": "epochs", "tokens": "batch", "warmup_steps": "warmup"}  # of the protocol: what goes before what
REASONING = ("reason", "reason_tokens", "conclude")  # of a prompt, where the model thinks before it answers
RACE = ("tune_seed", "candidates", "finalists")  # of the protocol: how a rate is found changes no trial at that rate
BESIDE = ("apart", *REASONING)  # of a prompt, what not every cell uses


def task_identity(config: dict[str, Any], data: str) -> dict[str, Any]:
    """Of the task, and of how it is put to the model where it is not to a head.

    data: its bytes, as a hash that names each part's files, or a revision of a repository, of which `files` says what
    is read.
    """
    task, form = config["task"], Form(config["task"]["form"])
    found = {
        "name": task["name"],
        "data": data,
        **({"files": task["files"]} if task["path"] is None else {}),
        "load": with_names(task["load"]),
        "labels": task["labels"],
        "select": task["select_rows"],
    }
    if task["metrics"] != ["accuracy"]:
        found["metrics"] = task["metrics"]
    if form is not Form.head:
        found["form"] = task["form"]
    if form is Form.mask:
        found |= {key: task[key] for key in ("cloze", "words")}
    if form.asks:
        unused = BESIDE if not task["shots"] else REASONING
        words = {key: value for key, value in config["prompt"].items() if key not in unused}
        found |= {"loss_on": task["loss_on"], "prompt": words}
    return found | ({"shots": task["shots"]} if task["shots"] else {})


def method_identity(config: dict[str, Any], precision: str, scale: str | None) -> dict[str, Any]:
    """Of the method, its base and its optimizer. precision: the cell's, in which a base computes by itself.

    scale: the name of the cell's policy. Two policies may give one alpha at one rank, and stay two cells.
    """
    method, prompt = config["method"], config["prompt"]
    config = config | {"quant": config["quant"] | {"compute": _other(config["quant"]["compute"], precision)}}
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


def _other(compute: str | None, precision: str) -> str | None:
    """The arithmetic on a quantised base, where it is not the cell's own."""
    return None if compute == precision else compute


def source_identity(config: dict[str, Any]) -> dict[str, Any]:
    """Of the code: the version of ours, and the source of the user's own functions."""
    method = config["method"]
    own = own_sources(config["task"]["load"], method["attach"], method["hooks"], config["optim"]["build"])
    return {"numerics": NUMERICS} | ({"sources": own} if own else {})


def protocol_identity(protocol: dict[str, Any], form: Form) -> dict[str, Any]:
    """Without its name, how it is measured, how a batch is divided, how the learning rate is chosen, and, of two
    settings for one thing, the one that is not used.

    The rate of a head that every method trains at its own is kept: cells of one table share it.
    """
    unused = {"name", "probe_steps", "micro", *RACE}
    unused |= {old if protocol[new] is not None else new for new, old in INSTEAD.items()}
    unused |= {"eval_steps"} if protocol["eval_steps"] is None else set()
    unused |= {"head_lr"} if form.speaks else set()
    return {key: value for key, value in protocol.items() if key not in unused}
