"""The tracker, against W&B's own reader, a small server, and servers that do not answer.

Most tests drive it in a process of its own, as a command does: W&B keeps state in the process, and its exit counts too.
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
from pathlib import Path
from typing import Any

import pytest
from wandb_server import Server, closed, serve, silence

from bench.track import FINISH_SECONDS, INIT_SECONDS

Bench = Callable[..., subprocess.CompletedProcess[str]]
KEY = "0123456789" * 4
MOST_SECONDS = 10  # that a server may cost a command
DRIVER = """
import json, os, signal, sys, time
from types import SimpleNamespace
import psutil
from bench import track
from bench.cell import Trial
from bench.records import Record

mode, *plan = sys.argv[1:]
config = {"lrs": [0.001], "method": {"name": "lora", "attach": {"_target_": "peft.LoraConfig"}}, "none": None}
cell = SimpleNamespace(
    id="0123456789", title="lora r=4 qv", method="lora", task="sst2", source=SimpleNamespace(label="m" * 70),
    config=config,
)
curve = {"step": [1, 2, 3], "loss": [0.9, 0.8, 0.1 + 0.2], "lr": [1e-3, 5e-4, 0.0], "grad_norm": [3.0, 2.0, 1.0],
         "tokens_per_second": [10.5, 11.5, 1e6]}
tracker = track.make_tracker({"mode": mode, "project": "grid", "entity": None}, print)
began = time.time()
for number, outcome in enumerate(plan):
    trial = Trial(cell.id, 0.001, 0 if outcome == "again" else number)
    if outcome != "unstarted":
        tracker.start(cell, trial)
        tracker.log({key: values[:2] for key, values in curve.items()})
    if outcome == "orphaned":
        [service.kill() for service in psutil.Process().children()]
    tracker.log({key: values[2:] for key, values in curve.items()})
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
print(json.dumps({"began": began, "ended": time.time(), "imported": "wandb" in sys.modules}), flush=True)
"""


@dataclass(frozen=True)
class Driven:
    """What a driven tracker said, and the seconds from its first trial to the end of its process."""

    lines: list[str]
    seconds: float
    imported: bool


Drive = Callable[..., Driven]


def clean(folder: Path, **env: str) -> dict[str, str]:
    """An environment without a trace of W&B, in a home of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC"))}
    return kept | {"HOME": str(folder)} | env


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Drive a tracker through trials that end as told: drive("online", "ok", "failed", WANDB_API_KEY=...)."""

    def call(mode: str, *plan: str, **env: str) -> Driven:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", DRIVER, mode, *plan],
            cwd=tmp_path, env=clean(tmp_path, **env), capture_output=True, text=True, timeout=60, check=False,
        )
        gone = time.time()
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        *lines, last = done.stdout.splitlines()
        facts = json.loads(last)
        return Driven(lines, gone - facts["began"], facts["imported"])

    return call


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as found:
        yield found


@dataclass(frozen=True)
class Run:
    """A run's folder as `wandb leet inspect` reads it. opened: the record that opened the run."""

    opened: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    config: dict[str, Any]
    exit_code: int

    @classmethod
    def read(cls, folder: Path) -> "Run":
        lines = [json.loads(line) for line in _inspect(folder, "--json").splitlines()]
        whole = json.loads(_inspect(folder, "--summary", "--json"))
        (opened,) = (line["run"] for line in lines if line["type"] == "run")
        history = [line["history"] for line in lines if line["type"] == "history"]
        rows = [{"step": row["step"]["num"], **own(row["item"])} for row in history]
        return cls(opened, rows, own(whole["summary"]), own(whole["config"]), whole["exit_code"])


def _inspect(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, str(folder)]
    env = clean(folder.parent)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout


def own(values: dict[str, Any]) -> dict[str, Any]:
    """Values that are not W&B's own."""
    return {key: value for key, value in values.items() if not key.startswith("_")}


def runs_in(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def records_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def prefixed(name: str, values: dict[str, Any] | None) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in (values or {}).items() if value is not None}


@pytest.mark.parametrize(("mode", "env"), [("off", {}), ("auto", {"WANDB_MODE": "disabled"})])
def test_off_does_not_even_import_wandb(drive: Drive, tmp_path: Path, mode: str, env: dict[str, str]) -> None:
    driven = drive(mode, "ok", WANDB_API_KEY=KEY, **env)
    assert not driven.imported
    assert driven.lines == []
    assert not (tmp_path / "outputs").exists()


def test_offline_runs_hold_what_the_records_hold(bench: Bench, tiny: list[str], tmp_path: Path) -> None:
    rates = ("lrs=[1e-3,1e38]", "seeds=[3]", "protocol.batch=4")
    done = bench("run", *tiny, "track=offline", *rates, env={"WANDB_DIR": "runs"})
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert len(re.findall("W&B", done.stdout)) == 1
    (probe,) = (record for record in records_in(tmp_path / "results") if record["kind"] == "probe")
    trials = {record["trial"]["id"]: record for record in records_in(tmp_path / "results") if record["kind"] == "trial"}
    assert sorted(record["outcome"] for record in trials.values()) == ["diverged", "ok"]
    runs = {run.opened["run_id"]: run for run in map(Run.read, runs_in(tmp_path / "runs"))}
    assert runs.keys() == trials.keys()
    for name, record in trials.items():
        run, cell, trial = runs[name], record["cell"], record["trial"]
        assert run.opened["run_group"] == cell["id"]
        assert sorted(run.opened["tags"]) == sorted((cell["method"], cell["task"], cell["model"]))
        assert run.opened["project"] == "peftgrid"
        assert run.config == record["config"] | {"lr": trial["lr"], "seed": trial["seed"], "cell": cell["id"]}
        curve = record["curve"] or {"step": []}
        assert run.history == [
            {key if key == "step" else f"train/{key}": curve[key][row] for key in curve}
            for row in range(len(curve["step"]))
        ]
        assert {key: value for key, value in run.summary.items() if not key.startswith("train/")} == {
            **prefixed("score", record["scores"]), **prefixed("trial", record["cost"]),
            **prefixed("cost", probe["cost"]),
            "outcome": record["outcome"], **({"error": record["error"]["message"]} if record["error"] else {}),
        }
        assert run.exit_code == (0 if record["outcome"] == "ok" else 1)
    (fine,) = (record for record in trials.values() if record["outcome"] == "ok")
    assert len(fine["curve"]["step"]) > 10, "the curve must come in several pieces"
    summary = runs[fine["trial"]["id"]].summary
    assert {"score/select", "score/report", "cost/trainable_params", "trial/train_seconds"} <= summary.keys()
    assert {"loss", "lr", "grad_norm", "tokens_per_second"} <= fine["curve"].keys()


def test_a_server_out_of_reach_fails_no_command(bench: Bench, tiny: list[str], tmp_path: Path) -> None:
    def command(name: str, url: str) -> tuple[subprocess.CompletedProcess[str], float]:
        env = {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": url, "WANDB_DIR": name}
        began = time.monotonic()
        done = bench("run", *tiny, "track=auto", "seeds=[0]", f"results_dir={tmp_path / name / 'results'}", env=env)
        return done, time.monotonic() - began

    with silence() as silent, ThreadPoolExecutor(2) as pool:
        ways = {"closed": closed(), "silent": silent}
        results = dict(zip(ways, pool.map(command, ways, ways.values()), strict=True))
    for name, (done, seconds) in results.items():
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        (line,) = (line for line in done.stdout.splitlines() if "W&B" in line)
        assert "the server did not take the run" in line
        assert f"runs are kept offline, to upload them: wandb sync {name}/wandb/offline-run-*" in line
        assert [record["outcome"] for record in records_in(tmp_path / name / "results")] == ["ok", "ok"]
        (run,) = map(Run.read, runs_in(tmp_path / name))
        assert run.exit_code == 0
        assert run.history
        assert seconds < 50 + MOST_SECONDS  # two commands at once on a slow machine; the next test counts sharply


def test_a_silent_server_costs_seconds_once_however_many_trials(drive: Drive, tmp_path: Path) -> None:
    with silence() as url:
        driven = drive("online", "ok", "ok", "failed", WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    assert INIT_SECONDS < driven.seconds < MOST_SECONDS
    assert len(driven.lines) == 1
    assert [Run.read(folder).exit_code for folder in runs_in(tmp_path / "outputs")] == [0, 0, 1]


@pytest.mark.parametrize("stalled", ["file_stream", "CreateRunFiles"])
def test_a_server_that_falls_silent_costs_seconds_once_and_loses_nothing(
    drive: Drive, server: Server, tmp_path: Path, stalled: str
) -> None:
    server.stalled = stalled
    driven = drive("online", "ok", "ok", "failed", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert FINISH_SECONDS < driven.seconds < MOST_SECONDS
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
            cwd=tmp_path, env=env, check=True, timeout=30, capture_output=True, stdin=subprocess.DEVNULL,
        )
    assert {name: (len(run["history"]), run["exit_code"]) for name, run in server.runs.items()} == {
        "0123456789-lr0.001-seed0": (3, 0), "0123456789-lr0.001-seed1": (3, 0), "0123456789-lr0.001-seed2": (3, 1),
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
    assert sorted(fine["tags"]) == ["lora", "m" * 64, "sst2"]
    assert {key: value["value"] for key, value in own(json.loads(fine["config"])).items()} == {
        "lrs": [0.001], "method": {"name": "lora", "attach": {"_target_": "peft.LoraConfig"}}, "none": None,
        "lr": 0.001, "seed": 0, "cell": "0123456789",
    }
    assert [(row["_step"], own(row)) for row in fine["history"]] == [
        (1, {"train/loss": 0.9, "train/lr": 1e-3, "train/grad_norm": 3.0, "train/tokens_per_second": 10.5}),
        (2, {"train/loss": 0.8, "train/lr": 5e-4, "train/grad_norm": 2.0, "train/tokens_per_second": 11.5}),
        (3, {"train/loss": 0.1 + 0.2, "train/lr": 0.0, "train/grad_norm": 1.0, "train/tokens_per_second": 1e6}),
    ]
    assert {key: value for key, value in own(fine["summary"]).items() if not key.startswith("train/")} == {
        "score/metric": "accuracy", "score/select": 0.75, "score/report": 0.5, "score/select_by_epoch": [0.5, 0.75],
        "trial/train_seconds": 1.25, "trial/steps": 3, "cost/trainable_params": 10, "outcome": "ok",
    }
    assert (fine["exit_code"], failed["exit_code"]) == (0, 1)
    assert failed["summary"]["error"] == "failed on purpose"
    assert "RunResumeStatus" not in server.asked, "a trial that is trained again must replace its run, not continue it"


@pytest.mark.parametrize(
    ("mode", "env", "line"),
    [
        ("auto", {}, "no API key is configured"),
        ("auto", {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, "W&B: runs are kept offline"),
        ("offline", {"WANDB_MODE": "online", "WANDB_API_KEY": KEY}, "W&B: runs are kept offline"),
        ("online", {"WANDB_API_KEY": "short"}, "WANDB_API_KEY invalid"),
    ],
)
def test_what_cannot_or_must_not_go_online_stays_offline_and_says_so_once(
    drive: Drive, tmp_path: Path, mode: str, env: dict[str, str], line: str
) -> None:
    driven = drive(mode, "failed", "interrupted", "unstarted", WANDB_BASE_URL=closed(), **env)
    (said,) = driven.lines
    assert line in said
    assert said.endswith("runs are kept offline, to upload them: wandb sync outputs/wandb/offline-run-*")
    assert driven.seconds < FINISH_SECONDS
    runs = [Run.read(folder) for folder in runs_in(tmp_path / "outputs")]
    assert [(run.exit_code, run.summary["error"]) for run in runs] == [
        (1, "failed on purpose"), (1, "interrupted on purpose"),
    ], "a trial that never started has no run"


def test_online_without_a_key_does_not_ask_for_one_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "online", "ok"],
        cwd=tmp_path, env=clean(tmp_path, WANDB_BASE_URL=closed()), stdin=theirs, stdout=theirs, stderr=theirs,
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


def test_a_run_that_was_never_closed_does_not_hold_up_the_exit(drive: Drive, server: Server) -> None:
    server.stalled = "file_stream"
    assert drive("online", "abandoned", WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url).seconds < MOST_SECONDS


def test_a_dead_service_or_a_folder_that_cannot_be_made_fails_nothing(drive: Drive, tmp_path: Path) -> None:
    first, second = drive("offline", "orphaned", "ok").lines
    assert second.startswith("W&B: not tracked from here on")
    (tmp_path / "file").touch()
    first, second = drive("offline", "ok", "ok", WANDB_DIR="file").lines
    assert "wandb sync file/wandb/" in first
    assert second.startswith("W&B: not tracked from here on")


def test_a_sweep_agents_own_run_id_does_not_keep_the_run_open(drive: Drive, tmp_path: Path) -> None:
    drive("offline", "failed", WANDB_SWEEP_ID="sweep", WANDB_RUN_ID="agents")
    (run,) = map(Run.read, runs_in(tmp_path / "outputs"))
    assert (run.opened["run_id"], run.exit_code) == ("agents", 1)
