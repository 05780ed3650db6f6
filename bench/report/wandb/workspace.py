"""The W&B workspace as code: score against cost, all settings at once, and training curves, with runs grouped by cell.

It shows the metrics that bench/runner/wandb_runs.py logs. It needs the extra `workspace`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench.report.wandb.upload import BRIEF
from bench.runner.wandb_session import INIT_SECONDS, begin, error_line, mode_of

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

SCORE = "score/report"
COSTS = {  # which memory is known depends on the device: allocated bytes on an accelerator, resident bytes on a CPU
    "trained parameters": "cost/trainable_params",
    "peak memory allocated, bytes": "cost/peak_allocated_bytes",
    "peak memory reserved, bytes": "cost/peak_reserved_bytes",
    "peak memory of the process, bytes": "cost/peak_resident_bytes",
    "samples per second": "cost/samples_per_second",
    "seconds of training": "trial/train_seconds",
}
SETTINGS = {
    "method": "method.name",
    "rank as configured": "rank",
    "learning rate": "lr",
}  # from the run's configuration
LOGARITHMIC = {"cost/trainable_params", "lr"}
CURVES = ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second")


def workspace(entity: str, project: str) -> "Workspace":
    """Build the workspace, without contacting a server.

    Args:
        entity: User or team.
        project: Name of the project whose trials are shown.

    Returns:
        The workspace, not yet saved.

    Raises:
        ValueError: The extra `workspace` is not installed.
    """
    if find_spec("wandb_workspaces") is None:
        raise ValueError("the W&B workspace needs wandb-workspaces: pip install -c constraints.txt -e '.[workspace]'")
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    return ws.Workspace(
        entity=entity,
        project=project,
        name="Methods compared",
        sections=[_against_cost(), _at_once(), _curves()],
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("JobType") == "trial"),  # leaves out the report's own run
            groupby=[expr.Metric("Group")],  # wandb_runs.py sets it to the cell's id
            pinned_columns=[f"summary:{SCORE}", "summary:outcome", "summary:cost/trainable_params"],
        ),
    )


def save(project: str, entity: str | None, say: Callable[[str], None]) -> None:
    """Save the workspace in a project as a new view, and say where it is.

    A failure of W&B is reported in a line and raises nothing.

    Args:
        project: Name of the project.
        entity: User or team; None is the default of the API key.
        say: Shows a line to the user.

    Raises:
        ValueError: The extra `workspace` is not installed.
    """
    view = workspace(entity or "", project)
    mode, why = mode_of("auto"), "WANDB_MODE is not online; "
    try:
        if mode == "auto":
            mode, why = begin(mode, **BRIEF)
        if mode != "online":
            say(f"W&B: {why}a workspace can only be saved online")
            return
        import wandb

        api = wandb.Api(timeout=INIT_SECONDS)  # the default client waits longer for a silent server
        view.entity = entity or api.default_entity
        say(f"W&B: {view.save().url}")
    except Exception as error:  # noqa: BLE001 - as with the runs, a failure of W&B must not end the command
        say(f"W&B: the workspace is not saved ({error_line(error)})")


def _against_cost() -> "Section":
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels = [
        wr.ScatterPlot(
            title=f"score against {title}",
            x=wr.SummaryMetric(metric),
            y=wr.SummaryMetric(SCORE),
            log_x=metric in LOGARITHMIC,
        )
        for title, metric in COSTS.items()
    ]
    return ws.Section(name="Score against cost", panels=panels, is_open=True)


def _at_once() -> "Section":
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    axes = {title: wr.Config(name) for title, name in SETTINGS.items()}
    axes |= {title: wr.SummaryMetric(metric) for title, metric in COSTS.items()}
    axes |= {"score on select": wr.SummaryMetric("score/select"), "score on report": wr.SummaryMetric(SCORE)}
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=axis, display_name=title, log=axis.name in LOGARITHMIC)
        for title, axis in axes.items()
    ]
    plot = wr.ParallelCoordinatesPlot(title="settings, cost and score", columns=columns)
    return ws.Section(
        name="Everything at once",
        panels=[plot],
        is_open=True,
        layout_settings=ws.SectionLayoutSettings(columns=1, rows=1),
    )


def _curves() -> "Section":
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels = [wr.LinePlot(title=name, x="Step", y=[name], groupby=wr.Metric("Group")) for name in CURVES]
    return ws.Section(name="Training", panels=panels)
