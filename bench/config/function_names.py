"""Names of our own functions that stay when a file moves: a cell is named by them and never by a module's path."""

from typing import Any

from bench.config.user_sources import TARGET

# A function that moves gets its new path here and keeps its name, and its old path goes to MOVED; a name is never given
# to another function. A test holds this to conf/.
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


# Where functions were before they moved, with their names: records, kept adapters and users' yaml files name them so.
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
    """A node of the configuration with the names of our functions in place of their paths, at any depth.

    The functions of libraries and users keep their paths, which hold a dot, as none of our names does. `_partial_` is
    how Hydra is told to call later, and no setting.
    """
    names = MOVED | {path: name for name, path in FUNCTIONS.items()}
    if isinstance(node, dict):
        told = {key: with_names(value) for key, value in node.items() if key not in {TARGET, "_partial_"}}
        return {"call": names.get(node[TARGET], node[TARGET]), **told} if TARGET in node else told
    return [with_names(value) for value in node] if isinstance(node, (list, tuple)) else node
