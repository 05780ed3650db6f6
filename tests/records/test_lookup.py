"""A command finds the results that are already recorded, keeps them, and reports what it kept."""

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_mcq_run import SMALL

from bench.cells.cell import Cell, Trial
from bench.config.compose import cells
from bench.events import Ended, Event, Probed, Ready, Started, Stepped
from bench.records import record as records
from bench.records.record import Record
from bench.runner import launch, sweep
from bench.runner.job import Job
from bench.runner.progress import Display
from bench.runner.sweep import Sweep

COST = {"trainable_params": 1, "total_params": 10, "samples_per_second": 1.0, "eval_seconds": 1.0, "eval_rows": 1}
SPENT = {"steps": 1, "train_seconds": 1.0, "eval_seconds": 1.0, "samples_per_second": 1.0}
DEVICE = {"device_name": "a CPU", "threads": 1, "dtype": "fp32"}
Script = Callable[[Trial], Ended]


def scored(trial: Trial, *, report: float = 0.5, saved: Path | None = None, **scores: Any) -> Ended:
    all_scores = {"metric": "accuracy", "select": 0.5, "report": report, **scores}
    predictions = {"select": [0], "report": [int(report * 8)]}
    return Ended(trial.id, "ok", all_scores, predictions, SPENT, saved=None if saved is None else str(saved))


def ended(outcome: str) -> Script:
    return lambda trial: Ended(trial.id, outcome, error={"type": "E", "message": f"{outcome} on purpose"})


class Command:
    """A command whose worker follows a script: command(script, "method=lora", ...)."""

    def __init__(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.words, self.monkeypatch = words, monkeypatch
        self.probed = Probed(COST)
        self.tracked: list[tuple[str, str]] = []  # the tracker's calls and their trials
        self.lines: list[str] = []

    def __call__(self, script: Script, *words: str) -> bool:
        """Run the command. Return True if its summary reports no failure."""

        def run(jobs: Iterator[Job | None], at_once: int) -> Iterator[tuple[Job, Event | None]]:
            assert at_once == 1
            for job in filter(None, jobs):
                yield from ((job, event) for event in events(job))
                yield job, None

        def events(job: Job) -> Iterator[Event]:
            yield Ready(DEVICE, {"train": 1})
            if job.probe:
                yield self.probed
            for trial in job.trials:
                yield Started(trial.id, 1)
                yield Stepped(trial.id, {"step": [1], "loss": [1.0]}, 1.0)
                yield script(trial)

        stream = io.StringIO()
        self.monkeypatch.setattr(launch, "run_jobs", run)
        self.monkeypatch.setattr(sweep, "make_tracker", lambda *_: self)
        self.tracked.clear()
        display = Display(1, 1, Console(file=stream, soft_wrap=True, width=500))
        jobs = cells([*self.words, *words], multirun=False)
        command = Sweep(jobs, display)
        command.announce()
        try:
            command.run()
            return command.summary()
        finally:
            self.lines = stream.getvalue().splitlines()

    def start(self, cell: Cell, trial: Trial, part: str) -> None:
        assert part == "report"
        self.tracked.append(("start", trial.id))

    def log(self, trial: str, curve: dict[str, list[float]]) -> None:
        self.tracked.append(("log", trial))

    def finish(self, record: Record, cost: dict[str, Any] | None) -> None:
        self.tracked.append((record.outcome, (record.trial or {})["id"]))

    def close(self) -> None: ...

    def said(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


@pytest.fixture
def command(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command([*tiny, "method=lora", "seeds=[0]"], monkeypatch)


def only(folder: Path, name: str = "lr*.json") -> Record:
    (path,) = folder.rglob(name)
    return records.read(path)


def interrupt(trial: Trial) -> Ended:
    raise KeyboardInterrupt


@pytest.mark.parametrize("outcome", ["failed", "oom", "interrupted"])
def test_a_forced_run_that_fails_keeps_the_recorded_result(outcome: str, command: Command, tmp_path: Path) -> None:
    assert command(scored)
    before = only(tmp_path)
    if outcome == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            command(interrupt, "force=true")
    else:
        assert not command(ended(outcome), "force=true")
        assert command.said(f"1 {outcome}")
        assert command.said(f"{outcome} on purpose")
    assert only(tmp_path) == before
    assert command.said("kept the recorded ok of lora r=4 qv") == [
        f"kept the recorded ok of lora r=4 qv lr0.0005-seed0; this run ended {outcome}"
    ]
    assert "start" not in dict(command.tracked)  # a start would replace the tracker's run of the result


def test_a_forced_run_that_ends_replaces_the_result_and_its_run(command: Command, tmp_path: Path) -> None:
    assert command(scored)
    assert [what for what, _ in command.tracked] == ["start", "log", "ok"]
    assert command(lambda trial: scored(trial, report=0.75), "force=true")
    assert (only(tmp_path).scores or {})["report"] == 0.75
    assert [what for what, _ in command.tracked] == ["log", "start", "log", "ok"]
    assert not command(ended("diverged"), "force=true")
    assert only(tmp_path).outcome == "diverged"


def test_a_result_recorded_by_another_process_meanwhile_stays(command: Command, tmp_path: Path) -> None:
    """Both processes start before anything is recorded."""
    other = Command(command.words, command.monkeypatch)

    def slow(trial: Trial) -> Ended:
        assert other(scored)
        return ended("failed")(trial)

    assert not command(slow)
    assert only(tmp_path).outcome == "ok"
    assert command.said("kept the recorded ok of") != []


def test_a_retrained_trial_whose_saving_failed_keeps_the_recorded_result(command: Command, tmp_path: Path) -> None:
    assert command(scored)
    before = only(tmp_path)
    error = {"type": "OSError", "message": "save=adapter failed: the disk is full", "traceback": "..."}
    assert not command(lambda trial: replace(scored(trial), error=error), "save=adapter")
    assert command.said("1 to train (1 trained again for save=adapter)") != []
    assert command.said("this run ended ok without save=adapter") != []
    assert command.said("  without save=adapter: lora r=4 qv") != []
    assert only(tmp_path) == before
    assert command(scored)


def test_a_trial_whose_saving_failed_has_scores_and_is_retried_on_request(command: Command, tmp_path: Path) -> None:
    error = {"type": "OSError", "message": "save=adapter failed: the disk is full", "traceback": "..."}
    assert not command(lambda trial: replace(scored(trial), error=error), "save=adapter")
    assert command.said("save=adapter failed: the disk is full") != []
    assert (only(tmp_path).outcome, only(tmp_path).error) == ("ok", error)
    assert (only(tmp_path).scores or {})["report"] == 0.5
    assert command(interrupt)  # nothing to do without save=
    (tmp_path / "adapter").mkdir()
    assert command(lambda trial: scored(trial, saved=tmp_path / "adapter"), "save=adapter")
    assert (only(tmp_path).saved, only(tmp_path).error) == (str(tmp_path / "adapter"), None)


RETENTION = {"before": 1.0, "after": 2.0, "tokens": 3, "texts": "sha256:other"}


def test_retention_texts_deleted_during_a_run_cost_no_result(
    questions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("The heart pumps blood.\n")
    words = ["task=medmcqa", f"task.path={questions}", *SMALL, "rank=4", "method=lora", f"retain={texts}"]
    command = Command([*words, f"results_dir={tmp_path / 'results'}"], monkeypatch)

    def gone(trial: Trial) -> Ended:
        texts.unlink()
        return scored(trial)

    assert not command(gone)
    assert only(tmp_path / "results").outcome == "ok"
    assert command.said("  without retain=: lora") != []


def test_a_run_for_saving_carries_over_the_recorded_retention(command: Command, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    assert command(lambda trial: scored(trial, retention=RETENTION))
    assert command(lambda trial: scored(trial, saved=tmp_path / "adapter"), "save=adapter")
    assert (only(tmp_path).scores or {})["retention"] == RETENTION
    assert only(tmp_path).saved == str(tmp_path / "adapter")


def test_a_run_for_saving_with_other_predictions_keeps_the_record(command: Command, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    assert command(lambda trial: scored(trial, retention=RETENTION))
    before = only(tmp_path)
    assert not command(lambda trial: scored(trial, report=0.75, saved=tmp_path / "adapter"), "save=adapter")
    assert only(tmp_path) == before
    assert command.said("with other predictions; force=true replaces it") != []


def test_a_cost_is_not_replaced_by_an_incomplete_one(command: Command, tmp_path: Path) -> None:
    assert command(scored)
    before = only(tmp_path, "probe.json")
    failed = {"type": "E", "message": "merge=true failed: no", "traceback": "..."}
    command.probed = Probed(COST, error=failed)
    assert not command(scored, "merge=true")
    assert command.said("kept the recorded cost of lora r=4 qv") != []
    assert command.said("merge=true failed: no") != []
    assert command.said("  no latency: lora r=4 qv") != []
    assert only(tmp_path, "probe.json") == before
    command.probed = Probed(COST | {"latency": {}})
    assert command(scored, "merge=true")
    assert (only(tmp_path, "probe.json").cost or {})["latency"] == {}


STEADY = {"contended": None, "block_spread": 0.02}
DISTURBED = {"contended": "other processes used 1.2 of 2 cores", "block_spread": 0.4, "samples_per_second": 9.0}


def test_a_disturbed_cost_is_measured_again_until_it_is_calm(command: Command, tmp_path: Path) -> None:
    command.probed = Probed(COST | DISTURBED)
    assert command(scored)  # the record is complete
    assert command.said("other processes used 1.2 of 2 cores during the measurement") != []
    command.probed = Probed(COST | DISTURBED | {"samples_per_second": 8.0})
    assert command(scored)
    assert command.said("1 cost to measure") != []
    assert command.said("kept the recorded cost of lora r=4 qv; this measurement was disturbed") != []
    assert (only(tmp_path, "probe.json").cost or {})["samples_per_second"] == 9.0
    command.probed = Probed(COST | STEADY)
    assert command(scored)
    assert only(tmp_path, "probe.json").cost == COST | STEADY
    assert command(scored)
    assert command.said("to measure") == []


def test_a_calm_cost_is_not_replaced_by_a_disturbed_one(command: Command, tmp_path: Path) -> None:
    command.probed = Probed(COST | STEADY)
    assert command(scored)
    command.probed = Probed(COST | DISTURBED)
    assert not command(scored, "merge=true")  # requests latencies, which this measurement lacks as well
    assert only(tmp_path, "probe.json").cost == COST | STEADY


def test_a_calm_cost_keeps_the_latencies_of_the_disturbed_one(command: Command, tmp_path: Path) -> None:
    command.probed = Probed(COST | DISTURBED | {"latency": {}, "merge_difference": 0.0})
    assert command(scored, "merge=true")
    command.probed = Probed(COST | STEADY)
    assert command(scored)
    assert only(tmp_path, "probe.json").cost == COST | STEADY | {"latency": {}, "merge_difference": 0.0}


def renamed(folder: Path, old: str, new: str) -> None:
    (folder / "results" / old).rename(folder / "results" / new)


def test_a_model_under_another_folder_name_is_not_trained_again(
    command: Command, tiny_bert: Path, tmp_path: Path
) -> None:
    assert command(scored)
    renamed(tmp_path, tiny_bert.name, "another-name")
    assert command(interrupt)
    assert command.said("1 recorded, 0 to train") != []
    command(scored, "seeds=[0,1]")
    (folder,) = (tmp_path / "results").glob("*/*/*")
    assert sorted(path.name for path in folder.iterdir()) == [
        "lr0.0005-seed0.json",
        "lr0.0005-seed1.json",
        "probe.json",
    ]


def test_the_newest_result_counts_if_several_folders_hold_a_cell(
    command: Command, tiny_bert: Path, tmp_path: Path
) -> None:
    def again(name: str, script: Script) -> None:
        command.words[:] = [word for word in command.words if not word.startswith("results_dir")]
        command.words.append(f"results_dir={tmp_path / name}")
        command(script)

    again("b", lambda trial: scored(trial, report=0.25))
    again("a", lambda trial: scored(trial, report=0.75))
    again("c", ended("failed"))
    results = tmp_path / "results"
    for name in "abc":
        (tmp_path / name / tiny_bert.name).rename(results.mkdir(exist_ok=True) or results / name)
    again("results", interrupt)
    assert command.said("1 recorded, 0 to train") != []
    (cell,) = cells(command.words, multirun=False)
    record = Sweep([cell], Display(0, 0)).lookup.read(cell, cell.trials[0])
    assert record is not None
    assert (record.scores or {})["report"] == 0.75
    written = datetime.fromisoformat(record.provenance["written"])
    assert written.utcoffset() is not None
    assert abs((datetime.now(UTC) - written).total_seconds()) < 100


def test_records_without_a_time_of_writing_count_as_older(command: Command, tmp_path: Path) -> None:
    assert command(scored)
    (old,) = (tmp_path / "results").rglob("lr*.json")
    content = json.loads(old.read_text())
    for name, report, written in (("a", 0.75, "2026-01-01T00:00:00.000+00:00"), ("b", 0.25, None)):
        folder = tmp_path / "results" / name / "sst2" / old.parent.name
        folder.mkdir(parents=True)
        provenance = {key: value for key, value in content["provenance"].items() if key != "written"}
        provenance |= {"written": written} if written else {}
        scores = content["scores"] | {"report": report}
        (folder / old.name).write_text(json.dumps(content | {"provenance": provenance, "scores": scores}))
    old.unlink()
    (cell,) = cells(command.words, multirun=False)
    record = Sweep([cell], Display(0, 0)).lookup.read(cell, cell.trials[0])
    assert record is not None
    assert (record.scores or {})["report"] == 0.75


def test_a_record_of_a_newer_version_stops_the_command_before_it_trains(command: Command, tmp_path: Path) -> None:
    assert command(scored)
    (path,) = (tmp_path / "results").rglob("lr*.json")
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="schema 99, but this version reads 1; update the package"):
        command(interrupt, "force=true")
    assert path.read_bytes() == before


def test_a_grid_of_thousands_lists_the_folders_once(command: Command, tmp_path: Path) -> None:
    (cell,) = cells(command.words, multirun=False)
    for number in range(2500):
        (tmp_path / "results" / "m" / "sst2" / f"lora-r{number}-qv-{number:010x}").mkdir(parents=True)
    command(scored)
    lookup = Sweep([cell], Display(0, 0)).lookup
    lookup.path_of(cell, "probe")
    began = time.perf_counter()
    for _ in range(2500):
        lookup.path_of(cell, cell.trials[0])
    assert time.perf_counter() - began < 2.5
