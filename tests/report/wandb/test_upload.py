"""The report in W&B, against a small server: uploads equal the records and the files, and no failure ends the report.

Uploads run in a separate process, as under a command: W&B keeps state in the process, and its exit is tested too.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REPOSITORY
from sample_records import probe_of, record_of, store
from test_wandb_runs import KEY, clean, driven
from wandb_server import Server, closed, serve

from bench.records import record as records
from bench.report.__main__ import cli
from bench.report.record_frame import Study
from bench.report.wandb import upload, workspace
from bench.report.wandb.upload import plain_rows

FILES = {"lora/table.md": b"# a table\n", "lora/table.csv": b"a,b\n1,2\n", "ia3/table.md": b"# another\n"}
DRIVER = """
import sys
from pathlib import Path
from bench.records import record as records
from bench.report.wandb import upload
from bench.report.record_frame import Study

upload.FINISH_SECONDS = int(sys.argv[1])
study = Study.of(records.read_all(Path("results"), print))
upload.upload(study, [Path(name) for name in sys.argv[2:]], project="grid", entity=None, say=print)
"""
AND_WORKSPACE = (
    f"{DRIVER}\nfrom bench.report.wandb.workspace import save\nsave('grid', None, print)"  # as `bench.report wandb`
)
Drive = Callable[..., tuple[list[str], float]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Store cells with and without a score and the files rendered from them; return their study."""
    stored = [probe_of(), *(record_of(seed=seed, report=0.7 + seed / 10) for seed in range(3))]
    stored += [
        probe_of(method="ia3", rank=None, target="kv+down", resident=0),
        record_of(method="ia3", rank=None, outcome="oom"),
    ]
    store(tmp_path / "results", *stored)
    for name, content in FILES.items():
        path = tmp_path / "rendered" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Study.of(records.read_all(tmp_path / "results", pytest.fail))


@pytest.fixture
def drive(tmp_path: Path, study: Study) -> Drive:
    """Upload the study with its files; return the printed lines and the seconds of the whole process."""

    def call(*more: str, patience: int = 30, driver: str = DRIVER, **env: str) -> tuple[list[str], float]:
        began = time.monotonic()
        lines = driven(driver, tmp_path, str(patience), *(f"rendered/{name}" for name in FILES), *more, **env)
        return lines, time.monotonic() - began

    return call


def digest_of(files: dict[str, bytes]) -> str:
    """Return an artifact's digest as W&B defines it, from the names and digests of its files."""
    lines = [f"{name}:{base64.b64encode(hashlib.md5(files[name]).digest()).decode()}\n" for name in sorted(files)]  # noqa: S324
    return hashlib.md5(("wandb-artifact-manifest-v1\n" + "".join(lines)).encode()).hexdigest()  # noqa: S324


def table_in(server: Server, run: dict[str, Any]) -> dict[str, Any]:
    """Return the table that the summary of a run names."""
    content: dict[str, Any] = json.loads(server.uploaded[run["summary"]["cells"]["path"]])
    return content


def assert_arrived(server: Server, study: Study) -> None:
    """Assert that a single run of the right kind arrived, with every cell and value and the exact files."""
    (run,) = server.runs.values()
    assert (run["project"], run["jobType"], run["exit_code"]) == ("grid", "report", 0)
    assert sorted(run["tags"]) == ["minilm", "sst2"]
    assert json.loads(run["config"])["cells"]["value"] == study.cells["cell"].tolist()
    table = table_in(server, run)
    assert table["columns"] == list(study.cells)
    assert table["data"] == json.loads(json.dumps(plain_rows(study.cells)))
    artifact = server.artifacts["report"]
    assert (artifact["type"], artifact["committed"], artifact["run"]) == ("report", True, run["name"])
    assert artifact["files"] == FILES
    assert artifact["digest"] == digest_of(FILES)


def test_an_upload_equals_the_records_and_the_files(drive: Drive, server: Server, study: Study) -> None:
    lines, _ = drive(WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    (run,) = server.runs
    assert lines == [f"W&B: {server.url}/someone/grid/runs/{run}"]
    assert_arrived(server, study)
    table = table_in(server, server.runs[run])
    rows = [dict(zip(table["columns"], values, strict=True)) for values in table["data"]]
    (row,) = (row for row in rows if row["method"] == "lora")
    assert (row["rank"], row["trainable_params"], row["peak_allocated_bytes"]) == (8, 1_234_567, None)
    assert row["report_score"] == pytest.approx(0.8)


def test_the_printed_command_uploads_an_offline_report(
    drive: Drive, server: Server, study: Study, tmp_path: Path
) -> None:
    (line,), _ = drive(WANDB_MODE="offline", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert line.startswith("W&B: the report is kept offline; to upload it: wandb sync outputs/wandb/offline-run-")
    assert not server.asked
    command = [sys.executable, "-m", *line.partition("upload it: ")[2].split()]
    env = clean(tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url, WANDB_ERROR_REPORTING="false")
    subprocess.run(
        command, cwd=tmp_path, env=env, check=True, timeout=60, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert_arrived(server, study)


def test_disabled_mode_uploads_nothing_and_does_not_import_wandb(tmp_path: Path, study: Study) -> None:
    check = f"{DRIVER}\nassert 'wandb' not in sys.modules"
    env = clean(tmp_path, WANDB_MODE="disabled")
    command = [sys.executable, "-c", check, "1"]
    done = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "W&B: WANDB_MODE is disabled, so nothing is uploaded\n"
    assert not (tmp_path / "outputs").exists()


def test_a_missing_file_is_reported_and_the_others_arrive(drive: Drive, server: Server, study: Study) -> None:
    lines, _ = drive("rendered/gone.svg", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert lines[0] == "W&B: rendered/gone.svg does not exist and is not uploaded"
    assert_arrived(server, study)


@pytest.mark.parametrize("refused", ["CreateArtifact", "CommitArtifact", "CreateArtifactFiles"])
def test_refused_files_are_reported_in_a_line(drive: Drive, server: Server, refused: str) -> None:
    server.refused = {refused}
    lines, _ = drive(WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    message, address = lines
    assert re.fullmatch(rf"W&B: the files did not arrive \(.*no {refused} here\)", message)
    assert address.startswith(f"W&B: {server.url}/")


def test_a_refused_run_is_kept_offline(drive: Drive, server: Server) -> None:
    server.refused = {"UpsertBucket"}
    (line,), _ = drive(WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert line.startswith("W&B: the server did not take the report (Error initializing run:")
    assert "kept offline; to upload it: wandb sync outputs/wandb/offline-run-" in line


@pytest.mark.parametrize(("env", "why"), [
    ({"WANDB_API_KEY": KEY}, "the server did not take the report"),
    ({}, "no API key is configured"),
    ({"WANDB_API_KEY": "short"}, "WANDB_API_KEY invalid"),
])  # fmt: skip
def test_without_a_server_or_a_key_the_report_is_kept_offline(drive: Drive, env: dict[str, str], why: str) -> None:
    (line,), seconds = drive(WANDB_BASE_URL=closed(), **env)
    assert line.startswith(f"W&B: {why}")
    assert "the report is kept offline; to upload it: wandb sync outputs/wandb/offline-run-" in line
    assert seconds < 30


@pytest.mark.parametrize("stalled", ["file_stream", "mutation CommitArtifact"])
def test_a_server_that_stops_answering_costs_only_seconds_and_a_line(
    drive: Drive, server: Server, stalled: str
) -> None:
    server.stalled = stalled
    lines, seconds = drive(patience=2, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert lines[-1].startswith("W&B: the server stopped answering, to upload the report: wandb sync --include-online ")
    assert seconds < 20


@pytest.mark.skipif(find_spec("wandb_workspaces") is None, reason="needs the extra `workspace`")
def test_the_workspace_can_be_saved_in_the_same_process(drive: Drive, server: Server, study: Study) -> None:
    lines, _ = drive(driver=AND_WORKSPACE, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert [line.partition("grid")[2][:6] for line in lines] == ["/runs/", "?nw=" + server.views[0]["name"][3:5]]
    assert_arrived(server, study)
    report, workspace = drive(driver=AND_WORKSPACE, WANDB_API_KEY=KEY, WANDB_BASE_URL=closed())[0]
    assert "kept offline" in report
    assert "the workspace is not saved" in workspace


def test_rows_hold_plain_values() -> None:
    frame = pd.DataFrame(
        {"a": pd.array([1, None], dtype="Int64"), "b": [0.1 + 0.2, None], "c": ["x", None], "d": [True, False]}
    )
    assert plain_rows(frame) == [[1, 0.1 + 0.2, "x", True], [None, None, None, False]]
    assert [type(value) for value in plain_rows(frame)[0]] == [int, float, str, bool]


def test_every_committed_record_can_be_a_row() -> None:
    whole = Study.of(records.read_all(REPOSITORY / "results" / "studies" / "methods-reviews", pytest.fail))
    assert len(json.dumps(plain_rows(whole.cells), allow_nan=False)) > 1000


@pytest.mark.parametrize(("given", "uploaded"), [
    ([], {"minilm/sst2/table.md", "minilm/sst2/figures/a.svg", "dashboard.html"}),
    (["method=lora"], {"minilm/sst2/figures/method=lora/a.svg"}),
])  # fmt: skip
def test_only_files_of_the_reported_cells_are_uploaded(
    given: list[str], uploaded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, record_of())
    own = ("minilm/sst2/table.md", "minilm/sst2/figures/a.svg", "minilm/sst2/figures/method=lora/a.svg")
    for name in ("dashboard.html", *own, "studies/one/minilm/sst2/table.md", "studies/one/dashboard.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    taken: list[Path] = []
    monkeypatch.setattr(upload, "upload", lambda _, files, **__: taken.extend(files))
    monkeypatch.setattr(workspace, "save", lambda *_: None)
    assert cli(["wandb", f"results_dir={tmp_path}", *given]) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in taken} == uploaded
