"""The W&B workspace: its panels show what the tracker logs, it is saved to a small server, and nothing fails."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from test_wandb_runs import KEY, clean
from wandb_server import Server, closed, serve, silence

from bench.records import record as records
from bench.report.wandb.workspace import COSTS, workspace

pytestmark = [
    pytest.mark.skipif(find_spec("wandb_workspaces") is None, reason="needs the extra `workspace`"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
DRIVER = "import sys\nfrom bench.report.wandb.workspace import save\nsave('grid', sys.argv[1] or None, print)"
Drive = Callable[..., tuple[str, float]]


@cache
def content() -> dict[str, Any]:
    dumped: dict[str, Any] = workspace("someone", "grid")._to_model().model_dump(by_alias=True, exclude_none=True)
    return dumped


def panels() -> list[dict[str, Any]]:
    sections = content()["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


@cache
def logged() -> tuple[set[str], set[str], dict[str, Any]]:
    """Return the names in a run's summary and history and its configuration, as the tracker makes them from records."""
    stored = list(records.read_all(REPOSITORY / "results" / "studies" / "methods-reviews", pytest.fail))
    trials = [record for record in stored if record.kind == "trial"]
    parts = [("score", record.scores) for record in trials] + [("trial", record.cost) for record in trials]
    parts += [("cost", record.cost) for record in stored if record.kind == "probe"]
    summary = {f"{part}/{key}" for part, values in parts for key in values or {}}
    curves = {f"train/{key}" for record in trials for key in record.curve or {}}
    return summary | {"outcome"}, curves, trials[0].config | {"lr": 0.1, "seed": 0, "cell": ""}


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Save in a separate process; return the printed line and the seconds of the whole process."""

    def call(entity: str = "", **env: str) -> tuple[str, float]:
        began = time.monotonic()
        command = [sys.executable, "-c", DRIVER, entity]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean(tmp_path, **env), capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()
        return line, time.monotonic() - began

    return call


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def test_every_panel_shows_what_the_tracker_logs() -> None:
    summary, curves, config = logged()
    named = re.findall(r"'(summary|config):([^']+)'", str(content()))
    assert {name for kind, name in named if kind == "summary"} <= summary
    for name in {name for kind, name in named if kind == "config"}:
        node: Any = config
        for key in name.replace(".value", "", 1).split("."):
            node = node[key]
    lines = {name for panel in panels() for name in panel["config"].get("metrics", [])}
    assert lines
    assert lines <= curves


def test_the_score_is_plotted_over_parameters_memory_and_speed() -> None:
    plots = {panel["config"]["xAxis"]: panel["config"] for panel in panels() if panel["viewType"] == "Scatter Plot"}
    assert {
        f"summary:cost/{name}" for name in ("trainable_params", "peak_allocated_bytes", "samples_per_second")
    } <= set(plots)
    assert {plot["yAxis"] for plot in plots.values()} == {"summary:score/report"}
    assert plots["summary:cost/trainable_params"]["xAxisLogScale"]


def test_parallel_coordinates_show_settings_costs_and_scores() -> None:
    (plot,) = [panel["config"] for panel in panels() if panel["viewType"] == "Parallel Coordinates Plot"]
    axes = [column["accessor"] for column in plot["columns"]]
    assert axes[:3] == ["config:method.value.name", "config:rank.value", "config:lr.value"]
    assert axes[-2:] == ["summary:score/select", "summary:score/report"]
    assert {f"summary:{metric}" for metric in COSTS.values()} <= set(axes)


def test_runs_are_the_trials_grouped_by_cell() -> None:
    (runs,) = content()["spec"]["section"]["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    (chosen,) = runs["filters"]["filters"]
    assert (chosen["key"], chosen["op"], chosen["value"]) == ({"section": "run", "name": "jobType"}, "=", "trial")


@pytest.mark.parametrize(("entity", "owner"), [("", "someone"), ("a-team", "a-team")])
def test_the_saved_view_equals_the_workspace(drive: Drive, server: Server, entity: str, owner: str) -> None:
    line, _ = drive(entity, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == (owner, "grid", "Methods compared")
    assert line.startswith(f"W&B: {server.url}/{owner}/grid?nw=")
    assert without_ids(view["spec"]) == without_ids(content()["spec"])


def without_ids(node: Any) -> Any:
    """Remove the ids of panels, which are random in each workspace."""
    if isinstance(node, dict):
        return {key: without_ids(value) for key, value in node.items() if key != "__id__"}
    return [without_ids(value) for value in node] if isinstance(node, list) else node


def test_a_refusing_server_is_reported(drive: Drive, server: Server) -> None:
    server.refused = {"UpsertView2"}
    line, _ = drive(WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert re.fullmatch(r"W&B: the workspace is not saved \(.*no UpsertView2 here\)", line)


@pytest.mark.parametrize(("env", "message"), [
    ({}, "no API key is configured ('wandb login' or WANDB_API_KEY); a workspace can only be saved online"),
    ({"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, "WANDB_MODE is not online; a workspace can only be saved online"),
    ({"WANDB_MODE": "disabled"}, "WANDB_MODE is not online; a workspace can only be saved online"),
])  # fmt: skip
def test_an_offline_workspace_is_not_saved_and_a_line_says_why(drive: Drive, env: dict[str, str], message: str) -> None:
    assert drive(WANDB_BASE_URL=closed(), **env)[0] == f"W&B: {message}"


def test_a_silent_server_costs_only_seconds(drive: Drive) -> None:
    with silence() as url:
        line, seconds = drive(WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    assert line.startswith("W&B: the workspace is not saved (")
    assert seconds < 30


def test_a_missing_extra_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.wandb.workspace.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs wandb-workspaces: pip install .* '.\[workspace\]'"):
        workspace("someone", "grid")
