"""The tracker, checked by W&B's own reader, a small server, and servers that do not answer.

Most tests drive it in a separate process, as a command does: W&B keeps state in the process, and its exit counts too.
"""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from wandb_server import Server, closed, serve, silence

from bench.config.compose import cells
from bench.records.record import files_below
from bench.runner import wandb_runs as track
from bench.runner.preflight import check_ready
from bench.runner.wandb_runs import FINISH_SECONDS
from bench.runner.wandb_session import INIT_SECONDS

Bench = Callable[..., subprocess.CompletedProcess[str]]
KEY = "0123456789" * 4
MOST_SECONDS = 10  # the most that a server may delay a command
DRIVER = """
import json, os, signal, sys, time
from types import SimpleNamespace
import psutil
from bench.runner import wandb_runs as track, wandb_session as session
from bench.cells.cell import Trial
from bench.config.enums import TrackMode
from bench.config.schema import TrackConf
from bench.records.record import Record

mode, patience, *plan = sys.argv[1:]
[setattr(module, name, value) for name, value in json.loads(patience).items()
 for module in (track, session) if hasattr(module, name)]
config = {"lrs": [0.001], "method": {"name": "lora", "attach": {"_target_": "peft.LoraConfig"}}, "none": None}
cell = SimpleNamespace(
    id="0123456789", title="lora r=4 qv", method="lora", task="sst2", source=SimpleNamespace(label="m" * 70),
    config=config, precision="fp32",
)
curve = {"step": [1, 2, 3], "loss": [0.9, 0.8, 0.1 + 0.2], "lr": [1e-3, 5e-4, 0.0], "grad_norm": [3.0, 2.0, 1.0],
         "tokens_per_second": [10.5, 11.5, 1e6]}
tracker = track.make_tracker(TrackConf(TrackMode(mode), "grid", None), print)
began = time.time()
for number, outcome in enumerate(plan):
    trial = Trial(cell.id, 0.001, 0 if outcome == "again" else number)
    if outcome != "unstarted":
        tracker.start(cell, trial, "report")
        tracker.log(trial.id, {key: values[:2] for key, values in curve.items()})
    if outcome == "orphaned":
        [service.kill() for service in psutil.Process().children()]
    tracker.log(trial.id, {key: values[2:] for key, values in curve.items()})
    if outcome == "abandoned":
        break
    ok = outcome in ("ok", "again")
    tracker.finish(Record(
        kind="trial", cell={"id": cell.id}, trial={"id": trial.id, "lr": trial.lr, "seed": trial.seed},
        outcome="ok" if ok else "failed", error=None if ok else {"type": "E", "message": outcome + " on purpose"},
        scores={"metric": "accuracy", "select": 0.75, "report": 0.5, "select_by_epoch": [0.5, 0.75]} if ok else None,
        predictions=None, curve=None, cost={"train_seconds": 1.25, "steps": 3} if ok else None,
        identity={}, config=config, provenance={},
    ), {"trainable_params": 10, "peak_bytes": None})
tracker.close()
print(json.dumps({"began": began, "ended": time.time(), "imported": "wandb" in sys.modules}), flush=True)
"""


@dataclass(frozen=True)
class Driven:
    """What a driven tracker printed, and the seconds from its first trial to the end of its process."""

    lines: list[str]
    seconds: float
    imported: bool


Drive = Callable[..., Driven]


def clean(folder: Path, **env: str) -> dict[str, str]:
    """Return an environment without any setting of W&B, and with the folder as its home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC"))}
    return kept | {"HOME": str(folder)} | env


def driven(driver: str, folder: Path, *arguments: str, **env: str) -> list[str]:
    """Run a script in a separate process and return its lines. It must succeed and print nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", driver, *arguments],
        cwd=folder,
        env=clean(folder, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Drive a tracker through trials with given outcomes: drive("online", "ok", "failed", WANDB_API_KEY=...).

    patience: replaces the seconds that wandb_runs and wandb_session wait.
    """

    def call(mode: str, *plan: str, patience: dict[str, int] | None = None, **env: str) -> Driven:
        *lines, last = driven(DRIVER, tmp_path, mode, json.dumps(patience or {}), *plan, **env)
        gone = time.time()
        facts = json.loads(last)
        return Driven(lines, gone - facts["began"], facts["imported"])

    return call


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


class Run:
    """A run's folder as `wandb leet inspect` reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def whole(self) -> dict[str, Any]:
        """Return the state, the configuration and the last values."""
        summary: dict[str, Any] = json.loads(self._inspect("--summary"))
        return summary

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._inspect().splitlines()]

    def _inspect(self, *options: str) -> str:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(self.folder)]
        env = clean(self.folder.parent)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]


def own(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not W&B's own."""
    return {key: value for key, value in values.items() if not key.startswith("_")}


def full(value: Any) -> Any:
    """Return a value without empty mappings, which W&B does not keep in a configuration."""
    if not isinstance(value, dict):
        return value
    return {key: full(item) for key, item in value.items() if item != {}}


def runs_in(folder: Path) -> list[Run]:
    """Return the offline runs in the order of their start."""
    return [Run(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]


def records_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in files_below(folder, "*.json")]


def prefixed(name: str, values: dict[str, Any] | None) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in (values or {}).items() if value is not None}


@pytest.mark.parametrize(("mode", "env"), [("off", {}), ("auto", {"WANDB_MODE": "disabled"})])
def test_off_does_not_even_import_wandb(drive: Drive, tmp_path: Path, mode: str, env: dict[str, str]) -> None:
    driven = drive(mode, "ok", WANDB_API_KEY=KEY, **env)
    assert not driven.imported
    assert driven.lines == []
    assert not (tmp_path / "outputs").exists()


def assert_alike(run: Run, trial: dict[str, Any], cost: dict[str, Any]) -> None:
    """Assert that a run holds exactly the values of its trial's record and the cell's cost, apart from W&B's own."""
    (opened,), cell = run.of_type("run"), trial["cell"]
    assert opened["run_id"] == run.whole["run_id"] == trial["trial"]["id"]
    assert opened["run_group"] == cell["id"]
    assert sorted(run.whole["tags"]) == sorted((cell["method"], cell["task"], cell["model"], "report"))
    ours = {"lr": trial["trial"]["lr"], "seed": trial["trial"]["seed"], "cell": cell["id"]}
    assert full(own(run.whole["config"])) == full(trial["config"]) | ours
    curve = trial["curve"]
    assert {"loss", "lr", "grad_norm", "tokens_per_second"} <= curve.keys()
    assert [{"step": row["step"]["num"], **own(row["item"])} for row in run.of_type("history")] == [
        {key if key == "step" else f"train/{key}": curve[key][row] for key in curve}
        for row in range(len(curve["step"]))
    ]
    last = {f"train/{key}": values[-1] for key, values in curve.items() if key != "step"}
    scores, spent = prefixed("score", trial["scores"]), prefixed("trial", trial["cost"])
    assert {"score/select", "score/report"} <= scores.keys()
    assert own(run.whole["summary"]) == last | scores | spent | prefixed("cost", cost) | {"outcome": trial["outcome"]}
    assert run.whole["exit_code"] == 0


def test_an_unreachable_server_fails_no_command_and_offline_runs_equal_the_records(
    bench: Bench, tiny: list[str], tmp_path: Path
) -> None:
    def command(name: str, url: str) -> tuple[subprocess.CompletedProcess[str], float]:
        env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url, "WANDB_MODE": "online", "WANDB_DIR": name}
        env["OMP_NUM_THREADS"] = "1"  # because two commands run at once
        own_results = f"results_dir={tmp_path / name / 'results'}"
        began = time.monotonic()
        done = bench("run", *tiny, "track=auto", "seeds=[0,3]", "protocol.batch=4", own_results, env=env)
        return done, time.monotonic() - began

    with silence() as silent, ThreadPoolExecutor(2) as pool:
        ways = {"closed": closed(), "silent": silent}
        results = dict(zip(ways, pool.map(command, ways, ways.values()), strict=True))
    for name, (done, seconds) in results.items():
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        (line,) = (line for line in done.stdout.splitlines() if "W&B" in line)
        assert "the server did not take the run" in line
        assert line.endswith(f"runs are kept offline; to upload them: wandb sync {name}/wandb/offline-run-*")
        assert seconds < 90  # what W&B alone would wait; the limit of the next test is strict
        records = records_in(tmp_path / name / "results")
        (probe,) = (record for record in records if record["kind"] == "probe")
        trials = [record for record in records if record["kind"] == "trial"]
        assert [record["outcome"] for record in trials] == ["ok", "ok"]
        assert len(trials[0]["curve"]["step"]) > 10, "the curve must come in several pieces"
        runs = runs_in(tmp_path / name)
        assert len(runs) == 2
        if name == "closed":
            for run, trial in zip(runs, trials, strict=True):
                assert_alike(run, trial, probe["cost"])


def test_a_silent_server_delays_a_command_only_once_for_all_trials(drive: Drive, tmp_path: Path) -> None:
    with silence() as url:
        driven = drive("online", *["ok"] * 5, patience={"INIT_SECONDS": 1}, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    assert 1 < driven.seconds < MOST_SECONDS - (INIT_SECONDS - 1)
    assert len(driven.lines) == 1
    assert len(runs_in(tmp_path / "outputs")) == 5


def test_a_server_that_falls_silent_delays_a_command_only_once_and_loses_nothing(
    drive: Drive, server: Server, tmp_path: Path
) -> None:
    server.stalled = "file_stream"
    patience = {"FINISH_SECONDS": 1}
    driven = drive("online", "ok", "ok", "failed", patience=patience, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert 1 < driven.seconds < MOST_SECONDS - (FINISH_SECONDS - 1)
    (line,) = driven.lines
    assert "stopped answering" in line
    assert len(runs_in(tmp_path / "outputs")) == 2
    assert set(server.runs) == {"0123456789-lr0.001-seed0"}
    server.stalled = ""
    server.closing.set()
    commands = re.findall(r"wandb sync [^;]+", line)
    assert len(commands) == 2
    env = clean(tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url, WANDB_ERROR_REPORTING="false")
    for command in commands:
        subprocess.run(
            ["sh", "-c", f"{sys.executable} -m {command}"],
            cwd=tmp_path,
            env=env,
            check=True,
            timeout=30,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
    assert {name: (len(run["history"]), run["exit_code"]) for name, run in server.runs.items()} == {
        "0123456789-lr0.001-seed0": (3, 0),
        "0123456789-lr0.001-seed1": (3, 0),
        "0123456789-lr0.001-seed2": (3, 1),
    }


def test_an_online_run_arrives_as_a_trial_of_its_cell(drive: Drive, server: Server, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1:{server.server_port}\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)
    driven = drive("online", "ok", "failed", "again", WANDB_MODE="offline", WANDB_BASE_URL=server.url)
    assert driven.lines == []
    assert runs_in(tmp_path / "outputs") == []
    assert driven.seconds < MOST_SECONDS
    fine, failed = (server.runs[f"0123456789-lr0.001-seed{seed}"] for seed in (0, 1))
    assert len(server.runs) == 2
    assert (fine["project"], fine["groupName"], fine["jobType"]) == ("grid", "0123456789", "trial")
    assert fine["displayName"] == "lora r=4 qv lr0.001-seed0"
    assert sorted(fine["tags"]) == ["lora", "m" * 64, "report", "sst2"]
    assert {key: value["value"] for key, value in own(json.loads(fine["config"])).items()} == {
        "lrs": [0.001],
        "method": {"name": "lora", "attach": {"_target_": "peft.LoraConfig"}},
        "none": None,
        "lr": 0.001,
        "seed": 0,
        "cell": "0123456789",
        "precision": "fp32",
    }
    assert [(row["_step"], own(row)) for row in fine["history"]] == [
        (1, {"train/loss": 0.9, "train/lr": 1e-3, "train/grad_norm": 3.0, "train/tokens_per_second": 10.5}),
        (2, {"train/loss": 0.8, "train/lr": 5e-4, "train/grad_norm": 2.0, "train/tokens_per_second": 11.5}),
        (3, {"train/loss": 0.1 + 0.2, "train/lr": 0.0, "train/grad_norm": 1.0, "train/tokens_per_second": 1e6}),
    ]
    assert {key: value for key, value in own(fine["summary"]).items() if not key.startswith("train/")} == {
        "score/metric": "accuracy",
        "score/select": 0.75,
        "score/report": 0.5,
        "score/select_by_epoch": [0.5, 0.75],
        "trial/train_seconds": 1.25,
        "trial/steps": 3,
        "cost/trainable_params": 10,
        "outcome": "ok",
    }
    assert (fine["exit_code"], failed["exit_code"]) == (0, 1)
    assert failed["summary"]["error"] == "failed on purpose"
    assert "RunResumeStatus" not in server.asked, "a trial that is trained again must replace its run, not continue it"


def test_under_an_agent_its_run_reports_the_mean_of_the_trials_to_the_sweep(
    drive: Drive, server: Server, tmp_path: Path
) -> None:
    """Under an agent W&B accepts no other run name. The trials have separate runs."""
    (tmp_path / "job.yaml").write_text("wandb_version: 1\nrank: {value: 4}\n")
    agents = {"WANDB_SWEEP_ID": "asweep", "WANDB_RUN_ID": "ajob", "WANDB_SWEEP_PARAM_PATH": "job.yaml"}
    driven = drive("online", "ok", "ok", "failed", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url, **agents)
    assert driven.lines == []
    *trials, run = server.runs.values()
    assert (run["name"], run["sweep"], run["groupName"]) == ("ajob", "asweep", "0123456789")
    assert (run["summary"]["score/select"], run["summary"]["score/report"], run["exit_code"]) == (0.75, 0.5, 0)
    assert len(trials) == 3
    assert not [trial for trial in trials if trial.get("sweep")]
    assert {trial["name"][:10] for trial in trials} == {"0123456789"}


@pytest.mark.parametrize(
    ("mode", "env", "line"),
    [
        ("auto", {}, "W&B: no API key is configured"),
        ("auto", {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, "W&B: runs are kept offline"),
        ("offline", {"WANDB_MODE": "online", "WANDB_API_KEY": KEY}, "W&B: runs are kept offline"),
        ("online", {"WANDB_API_KEY": "short"}, "W&B: WANDB_API_KEY invalid"),
    ],
)
def test_runs_that_cannot_or_must_not_go_online_stay_offline_with_one_message(
    drive: Drive, tmp_path: Path, mode: str, env: dict[str, str], line: str
) -> None:
    driven = drive(mode, "ok", "ok", WANDB_BASE_URL=closed(), **env)
    (message,) = driven.lines
    assert message.startswith(line)
    assert message.endswith("runs are kept offline; to upload them: wandb sync outputs/wandb/offline-run-*")
    assert driven.seconds < INIT_SECONDS
    assert len(runs_in(tmp_path / "outputs")) == 2


def test_failed_trials_close_their_runs_as_failed_and_trials_that_never_started_have_none(
    drive: Drive, tmp_path: Path
) -> None:
    driven = drive("offline", "failed", "interrupted", "unstarted")
    assert driven.seconds < INIT_SECONDS
    assert len(driven.lines) == 1
    assert [(run.whole["exit_code"], run.whole["summary"]["error"]) for run in runs_in(tmp_path / "outputs")] == [
        (1, "failed on purpose"),
        (1, "interrupted on purpose"),
    ]


def test_online_without_a_key_does_not_prompt_for_a_key_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "online", "{}", "ok"],
        cwd=tmp_path,
        env=clean(tmp_path, WANDB_BASE_URL=closed()),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        code = process.wait(timeout=30)
    finally:
        process.kill()
        text = os.read(ours, 65536).decode()
        os.close(ours)
    assert code == 0
    line, _ = text.splitlines()
    assert line.startswith("W&B: no API key is configured ('wandb login' or WANDB_API_KEY); runs are kept offline")


def test_a_run_that_was_never_closed_does_not_delay_the_exit(drive: Drive, server: Server) -> None:
    server.stalled = "file_stream"
    driven = drive("online", "abandoned", patience={"FINISH_SECONDS": 1}, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert driven.seconds < MOST_SECONDS - (FINISH_SECONDS - 1)


def test_a_dead_service_or_a_folder_that_cannot_be_made_fails_no_command(drive: Drive, tmp_path: Path) -> None:
    first, second = drive("offline", "orphaned", "ok").lines
    assert second.startswith("W&B: not tracked from now on")
    (tmp_path / "file").touch()
    first, second = drive("offline", "ok", "ok", WANDB_DIR="file").lines
    assert "wandb sync file/wandb/" in first
    assert second.startswith("W&B: not tracked from now on")


def test_runs_continue_offline_when_online_tracking_breaks(drive: Drive, server: Server, tmp_path: Path) -> None:
    """The service dies during the first trial: the rest of the trial, and what was sent before, is kept offline."""
    driven = drive("online", "orphaned", "ok", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    (line,) = driven.lines
    assert line.startswith("W&B: the server did not take the run (")
    assert line.endswith("runs are kept offline; to upload them: wandb sync outputs/wandb/offline-run-*")
    first, second = runs_in(tmp_path / "outputs")
    for run, outcome, seed in ((first, "failed", 0), (second, "ok", 1)):
        assert run.whole["run_id"] == f"0123456789-lr0.001-seed{seed}"
        assert run.whole["summary"]["outcome"] == outcome
        assert [row["step"]["num"] for row in run.of_type("history")] == [1, 2, 3]


def test_a_service_that_does_not_start_online_starts_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, messages = [], []

    def begin(mode: str) -> tuple[str, str]:
        begun.append(mode)
        if mode == "online":
            raise OSError("no service")
        return "offline", ""

    monkeypatch.setattr(track, "begin", begin)
    monkeypatch.setattr(track, "stop_service", lambda: None)
    assert track.WandbTracker("online", "grid", None, messages.append).mode == "offline"
    assert begun == ["online", "offline"]
    (line,) = messages
    assert "no service" in line
    assert "runs are kept offline" in line


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("track.project='team/grid'", "track.project=team/grid contains '/'"),
        ("track.project='what?'", "track.project=what? contains '?'"),
        ("track.entity='a:b'", "track.entity=a:b contains ':'"),
        (f"track.project={'x' * 129}", "has 129 characters"),
    ],
)
def test_a_name_that_the_server_would_refuse_is_wrong_input(
    setting: str, message: str, inline: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    done = inline(*tiny, "track=offline", setting)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_without_tracking_no_name_is_refused(tiny: list[str], tmp_path: Path) -> None:
    (cell,) = cells([*tiny, "track=off", "track.project='team/grid'"], multirun=False)
    check_ready([cell])
