"""Parts of a study whose cells may be compared."""

from bench.report.record_frame import Study


def comparable(study: Study) -> list[Study]:
    """Parts whose cells may stand in one table: of each model, and of each task one protocol."""
    parts = []
    for _, of_model in study.cells.groupby("model"):
        keys = {task: list(dict.fromkeys(group["table"])) for task, group in of_model.groupby("task")}
        for number in range(max(map(len, keys.values()))):
            names = {one[number] for one in keys.values() if number < len(one)}
            parts.append(study.only(lambda cells, names=names: cells["table"].isin(names)))  # type: ignore[misc]
    return parts


def with_key(study: Study, key: str) -> Study:
    """The cells of one model, task and protocol."""
    return study.only(lambda cells: cells["table"] == key)
