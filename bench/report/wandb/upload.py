"""The report in Weights & Biases, beside the runs: the cells as a table, and the rendered files as an artifact."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.record_frame import Study
from bench.runner.wandb_runs import INIT_SECONDS, LONGEST_TAG, begin, error_line, mode_of, settings, stop_service

# A question that a server leaves open would hold up the exit for as long as W&B asks it again.
BRIEF = {"x_graphql_timeout_seconds": INIT_SECONDS, "x_graphql_retry_max": 1}
FINISH_SECONDS = 30  # files take longer than a trial's numbers; waited for them, and once more for the run


def upload(
    study: Study, files: Sequence[Path], *, project: str, entity: str | None, say: Callable[[str], None]
) -> None:
    """Log a run of the type `report`: `study.cells` as the table `cells`, and the files as the artifact `report`.

    Online or offline as the trials' runs are. What W&B does not take is said in a line, and raises nothing.
    """
    mode = mode_of("auto")
    if mode == "off":
        say("W&B: WANDB_MODE says disabled, so nothing is uploaded")
        return
    try:
        mode, why = begin(mode, **BRIEF)
        if mode == "online":
            try:
                run = _open("online", project, entity, study)
            except Exception as error:  # noqa: BLE001 - down, refused or rejected: offline works all the same
                stop_service()
                mode, _ = begin("offline", **BRIEF)
                why = f"the server did not take the report ({error_line(error)}); "
        if mode == "offline":
            run = _open("offline", project, entity, study)
        artifact = _fill(run, study, [path for path in files if _is_there(path, say)])
        _close(run, artifact, why, say)
    except Exception as error:  # noqa: BLE001 - the report itself is written
        say(f"W&B: the report is not uploaded ({error_line(error)})")
        stop_service()


def _is_there(path: Path, say: Callable[[str], None]) -> bool:
    found = path.is_file()
    if not found:
        say(f"W&B: {path} is not there, and not uploaded")
    return found


def _open(mode: str, project: str, entity: str | None, study: Study) -> Any:
    import wandb

    folder = os.environ.get("WANDB_DIR", "outputs")
    Path(folder).mkdir(parents=True, exist_ok=True)  # W&B would take a temporary folder instead
    cells = study.cells
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        project=project,
        entity=entity,
        dir=folder,
        name=f"report of {len(cells)} cells",
        job_type="report",
        tags=[str(tag)[:LONGEST_TAG] for tag in (*cells["model"].unique(), *cells["task"].unique())],
        config={"cells": cells["cell"].tolist()},
        reinit="create_new",
        settings=settings(FINISH_SECONDS),
    )


def _fill(run: Any, study: Study, files: Sequence[Path]) -> Any:
    """Log the table and the files; gives their artifact, or None where there are none."""
    import wandb

    run.log({"cells": wandb.Table(columns=[*study.cells], data=plain_rows(study.cells))})
    if not files:
        return None
    artifact = wandb.Artifact("report", type="report", description="rendered tables and figures")
    root = Path(os.path.commonpath([path.resolve().parent for path in files]))
    for path in files:
        artifact.add_file(str(path), name=path.resolve().relative_to(root).as_posix())
    return run.log_artifact(artifact)


def plain_rows(cells: pd.DataFrame) -> list[list[Any]]:
    """Rows of plain values; what is unknown is None."""
    plain: list[list[Any]] = cells.astype(object).where(cells.notna(), None).to_numpy().tolist()
    return plain


def _close(run: Any, artifact: Any, why: str, say: Callable[[str], None]) -> None:
    """Wait for the files and the run, and say where they are."""
    url, folder = None if run.offline else run.url, shlex.quote(str(Path(run.dir).parent))
    if artifact is not None and url:
        try:
            artifact.wait(timeout=FINISH_SECONDS)  # what the server refuses is said here alone
        except Exception as error:  # noqa: BLE001 - refused, or too slow; the run stands all the same
            say(f"W&B: the files did not arrive ({error_line(error)})")
    try:
        run.finish()
    except TimeoutError:
        say(f"W&B: the server stopped answering, to upload the report: wandb sync --include-online {folder}")
        return
    say(f"W&B: {url}" if url else f"W&B: {why}the report is kept offline, to upload it: wandb sync {folder}")
