"""Stable names of our own functions. Cells are identified by these names, so a function's file can move."""

from typing import Any

from bench.config.user_sources import TARGET

# A function that is not listed here goes by its own name. List it if that name is taken. When a listed function moves,
# update its path here, keep its name and add its old path to MOVED. Never reuse a name for another function. A test
# checks the names of all functions in conf/.
FUNCTIONS = {
    "adalora_schedule": "bench.methods.adalora.RankSchedule",
    "adapter": "bench.methods.adapter.attach",
    "bitfit": "bench.methods.selective.bitfit",
    "combined": "bench.methods.combined.attach",
    "diff_pruning": "bench.methods.diff_pruning.attach",
    "diff_pruning_schedule": "bench.methods.diff_pruning.PruningSchedule",
    "eva_start": "bench.methods.eva.FromActivations",
    "full": "bench.methods.selective.full",
    "glue": "bench.tasks.loaders.glue.load",
    "head": "bench.methods.selective.head",
    "medmcqa": "bench.tasks.loaders.medmcqa.load",
    "none": "bench.methods.selective.none",
    "parallel_adapter": "bench.methods.adapter.attach_parallel",
    "peft": "bench.methods.peft_library.attach",
    "prefix_from_text": "bench.methods.text_init.prefix",
    "prompt_from_text": "bench.methods.text_init.prompt",
    "reviews": "bench.tasks.loaders.reviews.load",
    "top_k": "bench.methods.selective.top_k",
    "user_questions": "bench.tasks.loaders.user_files.questions",
}


# Former paths of functions that have moved. Records, saved adapters and users' yaml files still contain them.
MOVED = {
    "bench.methods.adalora.Schedule": "adalora_schedule",
    "bench.methods.diff_pruning.Schedule": "diff_pruning_schedule",
    "bench.methods.from_text.prefix": "prefix_from_text",
    "bench.methods.from_text.prompt": "prompt_from_text",
    "bench.methods.hybrid.attach": "combined",
    "bench.methods.peft.attach": "peft",
    "bench.tasks.glue.load": "glue",
    "bench.tasks.medmcqa.load": "medmcqa",
    "bench.tasks.own.questions": "user_questions",
    "bench.tasks.reviews.load": "reviews",
}


def with_names(node: Any) -> Any:
    """Return a node of the configuration with our functions' names in place of their paths, at any depth.

    Functions of libraries and users keep their paths. A path contains a dot and our names do not, so the two cannot be
    confused. `_partial_` is dropped: it only makes Hydra defer the call and is not a setting.
    """
    names = MOVED | {path: name for name, path in FUNCTIONS.items()}
    if isinstance(node, dict):
        settings = {key: with_names(value) for key, value in node.items() if key not in {TARGET, "_partial_"}}
        return {"call": names.get(node[TARGET]) or _own_name(node[TARGET]), **settings} if TARGET in node else settings
    return [with_names(value) for value in node] if isinstance(node, (list, tuple)) else node


def _own_name(path: str) -> str:
    """Return the name of a function of ours that is not listed; any other path, or a name that is taken, as a path."""
    name = path.rpartition(".")[2]
    return name if path.startswith("bench.") and name not in FUNCTIONS else path
