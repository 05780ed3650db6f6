"""Upload the report to Weights & Biases: the cells as a table, and the rendered files as an artifact."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.cli import counted
from bench.report.record_frame import Study
from bench.runner.wandb_session import INIT_SECONDS, LONGEST_TAG, begin, error_line, mode_of, settings, stop_service

# W&B would retry a request that the server does not answer, and hold up the exit meanwhile.
BRIEF = {"x_graphql_timeout_seconds": INIT_SECONDS, "x_graphql_retry_max": 1}
FINISH_SECONDS = 30  # wait this long for the files, and again for the run; files take longer than a trial's numbers


def upload(
    study: Study, files: Sequence[Path], *, project: str, entity: str | None, say: Callable[[str], None]
) -> None:
    """Log a W&B run of the type `report`.

    It holds `study.cells` as the table `cells`, and the files as the artifact `report`. The mode, online or offline, is
    chosen as for the runs of trials. A failure of W&B is reported in a line and raises nothing.

    Args:
        study: The cells.
        files: The rendered files. Missing ones are reported and skipped.
        project: Name of the W&B project.
        entity: User or team; None is the default of the API key.
        say: Shows a line to the user.
    """
    mode = mode_of("auto")
    if mode == "off":
        say("W&B: WANDB_MODE is disabled, so nothing is uploaded")
        return
    try:
        mode, why = begin(mode, **BRIEF)
        if mode == "online":
            try:
                run = _open("online", project, entity, study)
            except Exception as error:  # noqa: BLE001 - unreachable or rejected: offline still works
                stop_service()
                mode, _ = begin("offline", **BRIEF)
                why = f"the server did not take the report ({error_line(error)}); "
        if mode == "offline":
            run = _open("offline", project, entity, study)
        artifact = _fill(run, study, [path for path in files if _exists(path, say)])
        _close(run, artifact, why, say)
    except Exception as error:  # noqa: BLE001 - the report itself is already written
        say(f"W&B: the report is not uploaded ({error_line(error)})")
        stop_service()


def _exists(path: Path, say: Callable[[str], None]) -> bool:
    exists = path.is_file()
    if not exists:
        say(f"W&B: {path} does not exist and is not uploaded")
    return exists


def _open(mode: str, project: str, entity: str | None, study: Study) -> Any:
    import wandb

    folder = os.environ.get("WANDB_DIR", "outputs")
    Path(folder).mkdir(parents=True, exist_ok=True)  # otherwise W&B would use a temporary folder
    cells = study.cells
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        project=project,
        entity=entity,
        dir=folder,
        name=f"report of {counted(len(cells), 'cell')}",
        job_type="report",
        tags=[str(tag)[:LONGEST_TAG] for tag in (*cells["model"].unique(), *cells["task"].unique())],
        config={"cells": cells["cell"].tolist()},
        reinit="create_new",
        settings=settings(FINISH_SECONDS),
    )


def _fill(run: Any, study: Study, files: Sequence[Path]) -> Any:
    """Log the table and the files. Returns the artifact; None if there are no files."""
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
    """Return the rows of a frame as lists of Python values, with None for missing values."""
    rows: list[list[Any]] = cells.astype(object).where(cells.notna(), None).to_numpy().tolist()
    return rows


def _close(run: Any, artifact: Any, why: str, say: Callable[[str], None]) -> None:
    """Wait for the files and the run to be uploaded, and say where they are."""
    url, folder = None if run.offline else run.url, shlex.quote(str(Path(run.dir).parent))
    if artifact is not None and url:
        try:
            artifact.wait(timeout=FINISH_SECONDS)  # the only place where a refusal by the server shows
        except Exception as error:  # noqa: BLE001 - refused or too slow; the run itself is not affected
            say(f"W&B: the files did not arrive ({error_line(error)})")
    try:
        run.finish()
    except TimeoutError:
        say(f"W&B: the server stopped answering, to upload the report: wandb sync --include-online {folder}")
        return
    say(f"W&B: {url}" if url else f"W&B: {why}the report is kept offline; to upload it: wandb sync {folder}")
