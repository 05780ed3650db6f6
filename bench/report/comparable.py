"""Split a study into parts whose cells may be compared."""

from bench.report.record_frame import Study


def comparable(study: Study) -> list[Study]:
    """Split a study into parts whose cells may share a table.

    Args:
        study: Cells of any models, tasks and protocols.

    Returns:
        Parts of one model each. A part has at most one protocol per task.
    """
    parts = []
    for _, cells_of_model in study.cells.groupby("model"):
        keys = {task: list(dict.fromkeys(group["table"])) for task, group in cells_of_model.groupby("task")}
        for number in range(max(map(len, keys.values()))):
            names = {task_keys[number] for task_keys in keys.values() if number < len(task_keys)}
            parts.append(study.only(lambda cells, names=names: cells["table"].isin(names)))  # type: ignore[misc]
    return parts


def with_key(study: Study, key: str) -> Study:
    """Return the part of a study with this table key: the cells of one model, task and protocol."""
    return study.only(lambda cells: cells["table"] == key)
