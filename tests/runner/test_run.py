"""The real command line on a tiny model: what is trained, what is skipped, and what remains when things go wrong."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import OFFLINE
from safetensors.torch import load_file, save_file

from bench.records import manifest
from bench.records.record import files_below
from bench.report.__main__ import cli as report
from bench.runner.sweep import Sweep

Run = Callable[..., subprocess.CompletedProcess[str]]
LONG = ["protocol.epochs=4000", "protocol.probe_steps=1"]  # a trial that is still running when the test acts


def trials(folder: Path) -> list[dict[str, Any]]:
    stored = [json.loads(path.read_text()) for path in files_below(folder, "*.json")]
    return [record for record in stored if record["kind"] == "trial"]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in files_below(folder, "*.json")}


def override(arguments: list[str], **changes: str) -> list[str]:
    return [
        *(argument for argument in arguments if argument.partition("=")[0] not in changes),
        *(f"{key}={value}" for key, value in changes.items()),
    ]


@contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command in its own process group, as a terminal does.

    Background jobs of a shell ignore Ctrl-C, and their children inherit that. The tests may be such a job.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.run", *arguments],
        cwd=folder,
        env={**os.environ, **OFFLINE},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.02)
    pytest.fail("it did not happen in time")


def worker_of(parent: int) -> psutil.Process | None:
    """Return the worker: a child of the server, which is a child of the command."""
    try:
        return next(
            (grandchild for child in psutil.Process(parent).children() for grandchild in child.children()), None
        )
    except psutil.NoSuchProcess:
        return None


def test_a_grid_trains_each_cell_once_and_a_second_call_trains_nothing(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    command = ["-m", *override(tiny, rank="1,4"), "method=lora,ia3,head"]
    first = inline(*command)
    assert first.returncode == 0, first.stderr
    assert "ia3 kv+down: 2 jobs are this same cell" in first.stdout
    assert "12 ok" in first.stdout
    trained = sorted((record["cell"]["method"], record["cell"]["rank"] or 0) for record in trials(tmp_path / "results"))
    assert trained == sorted([("lora", 1), ("lora", 4), ("ia3", 0), ("head", 0)] * 3)
    before = stamps(tmp_path / "results")
    assert len(before) == 12 + 4
    second = inline(*command)
    assert second.returncode == 0
    assert "12 recorded, 0 to train" in second.stdout
    assert stamps(tmp_path / "results") == before


def ending(out: str) -> str:
    """Return what a run prints from its first table on."""
    return out[out.index("\n\n") :]


def test_a_run_ends_with_the_table_of_its_own_cells_and_the_report_shows_it_again(
    inline: Run, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = f"results_dir={tmp_path / 'results'}"
    assert inline(*tiny, "method=bitfit", "seeds=[0]").returncode == 0
    done = inline("-m", *tiny, "method=head,ia3", "seeds=[0,1]")
    assert done.returncode == 0, done.stderr
    shown = ending(done.stdout)
    assert [name for name in ("head", "ia3", "bitfit") if f"\n{name} " in shown] == ["head", "ia3"]
    assert "2 cells, 4 trials; " in shown
    assert re.search(r"\nNo best cell for \S+ on sst2\. No verdicts, so no bold and no marks: ", shown)
    assert "\nNext, tune the learning rates:  python -m bench.run -m " in shown
    assert inline(*tiny, "method=bitfit", "seeds=[0,1,2]").returncode == 0  # a later run adds trials of the first cell
    name = shown.partition("\nRun ")[2].partition(":")[0]
    capfd.readouterr()
    assert report([f"run={name}", results]) == 0
    assert capfd.readouterr().out.strip() == shown.strip()
    assert report(["compare", "a=head", "b=ia3", f"run={name}", results]) == 0
    capfd.readouterr()
    assert report(["run=last", results]) == 0
    last = capfd.readouterr().out
    assert "3 ok" in last
    assert "\nhead " not in last


def test_a_run_shows_its_own_trials_and_not_those_of_other_runs_of_the_cell(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    for seeds, counts in (("[0]", "1 ok"), ("[1,2]", "2 ok"), ("[0]", "1 ok")):
        shown = ending(inline(*tiny, "method=head", f"seeds={seeds}").stdout)
        assert counts in shown
    assert manifest.find_manifest(tmp_path / "results", "last").exit == 0


def test_wrong_input_is_not_recorded_as_a_run(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    assert inline(*tiny, "method=head", "seeds=[]").returncode == 2
    assert not (tmp_path / "results").exists()


def test_a_run_that_failed_names_itself_as_the_next_command(
    inline: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sweep, "run", lambda *_: None)  # as if every cell were lost
    done = inline(*tiny, "method=head", "seeds=[0]")
    assert done.returncode == 1
    assert "1 missing" in done.stdout
    assert (
        f"\nNext, train what is missing:  python -m bench.run {shlex.join([*tiny, 'method=head', 'seeds=[0]'])}\n"
        in (done.stdout)
    )


def test_a_single_cell_runs_without_multirun_and_learns(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    arguments = override(
        tiny, **{"protocol.train_rows": "null", "protocol.epochs": "15", "seeds": "[0]", "lrs": "[0.003]"}
    )
    assert inline(*arguments, "method=full", "protocol.dropout=0").returncode == 0
    (record,) = trials(tmp_path / "results")
    assert record["scores"]["report"] >= 0.8
    assert record["curve"]["loss"][-1] < record["curve"]["loss"][0]
    assert record["scores"]["select_by_epoch"][record["scores"]["best_epoch"] - 1] == record["scores"]["select"]
    assert len(record["predictions"]["report"]) == 40
    assert record["curve"]["step"] == list(range(1, record["cost"]["steps"] + 1))


def test_equal_commands_give_equal_numbers(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    losses = []
    for folder in ("one", "two"):
        arguments = override(tiny, results_dir=str(tmp_path / folder), seeds="[3]", precision="fp32")
        assert inline(*arguments, "method=adapter").returncode == 0
        losses.append(trials(tmp_path / folder)[0]["curve"]["loss"])
    assert losses[0] == losses[1]


def test_packed_trials_equal_single_trials(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    for pack in ("auto", "1", "3"):
        arguments = override(tiny, results_dir=str(tmp_path / pack), seeds="[0,1]", precision="fp32")
        arguments += ["method=lora", "lrs=[1e-2,1e-3]", "protocol.batch=4"]
        assert inline(*arguments, f"pack={pack}").returncode == 0
    together, apart, by_threes = (trials(tmp_path / pack) for pack in ("auto", "1", "3"))
    assert [record["cost"]["pack"] for record in together] == [4] * 4
    assert {record["cost"]["pack_why"] for record in together} == {None}
    assert [record["cost"]["pack"] for record in apart] == [1] * 4
    assert sorted(record["cost"]["pack"] for record in by_threes) == [1, 3, 3, 3]
    assert {record["cost"]["pack_why"] for record in by_threes} == {"pack=3"}
    for packed, *others in zip(together, apart, by_threes, strict=True):
        for other in others:
            losses, expected = (dict(record["scores"]["select_losses"]) for record in (packed, other))
            assert losses == pytest.approx(expected, abs=1e-6)
            moved = dict.fromkeys(("select_losses", "rise"))  # they differ by rounding
            scores, expected_scores = (record["scores"] | moved for record in (packed, other))
            assert (packed["trial"], scores) == (other["trial"], expected_scores)
            assert packed["curve"]["loss"] == pytest.approx(other["curve"]["loss"], abs=1e-5)


def test_trials_that_cannot_be_packed_train_one_by_one_and_record_why(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    arguments = [*override(tiny, seeds="[0,1]", rank="8"), "protocol.batch=4"]
    assert inline("-m", *arguments, "method=adalora,oft").returncode == 0
    why = {record["cell"]["method"]: record["cost"]["pack_why"] for record in trials(tmp_path / "results")}
    assert why["adalora"] == "AdaLoRA reallocates ranks during training"
    assert why["oft"].startswith("it does not map over trials: vmap: index_put_")
    assert {record["cost"]["pack"] for record in trials(tmp_path / "results")} == {1}
    assert inline(*override(tiny, seeds="[2,3]", rank="8"), "protocol.batch=64", "method=lora").returncode == 0
    (why,) = {
        record["cost"]["pack_why"] for record in trials(tmp_path / "results") if record["cell"]["method"] == "lora"
    }
    assert re.fullmatch(r"batches of \d+ tokens fill a CPU", why)


def test_jobs_that_differ_only_in_trials_train_each_trial_once(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline("-m", *override(tiny, seeds="[0],[0,1]"), "method=head")
    assert done.returncode == 0
    assert "1 cell, 2 trials: 0 recorded, 2 to train" in done.stdout
    assert [record["trial"]["seed"] for record in trials(tmp_path / "results")] == [0, 1]


def test_misfits_are_left_out_of_a_grid_with_their_reason_and_the_rest_is_trained(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    """The configuration shows that the rank is invalid; only attaching the adapter shows that the place is."""
    grid = ["method.attach.after=[attention],[nose]", "rank=4,33"]
    command = ["-m", *override(tiny, seeds="[0]"), "method=adapter"]
    done = inline(*command, *grid)
    assert done.returncode == 0, done.stderr
    width, place = done.stderr.splitlines()
    assert width.startswith("left out: rank=33 is larger than the matrices")
    assert place.startswith("left out: adapter r=4: method.attach.after: 'nose' is unknown")
    assert "1 cell, 1 trial: 0 recorded, 1 to train" in done.stdout
    assert "1 ok" in done.stdout
    (record,) = trials(tmp_path / "results")
    assert (record["config"]["method"]["attach"]["after"], record["cell"]["rank"]) == (["attention"], 4)
    before = stamps(tmp_path / "results")
    assert len(before) == 2
    again = inline(*command, *grid)
    assert (again.returncode, again.stderr) == (0, done.stderr)
    assert "1 recorded, 0 to train" in again.stdout
    assert stamps(tmp_path / "results") == before


@pytest.mark.parametrize("alone", [
    ["rank=33"], ["-m", "rank=33,34"], ["method.attach.after=[nose]"], ["-m", "method.attach.after=[nose]", "rank=1,2"],
])  # fmt: skip
def test_a_command_without_a_fitting_cell_is_a_one_line_error(
    alone: list[str], inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    done = inline(*alone, *(argument for argument in tiny if argument != "rank=4"), "method=adapter")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert not (tmp_path / "results").exists()


def test_a_lost_probe_is_measured_again_without_training(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    command = [*override(tiny, seeds="[0]"), "method=head"]
    inline(*command)
    (probe,) = (tmp_path / "results").rglob("probe.json")
    (trial,) = (path for path in files_below(tmp_path / "results", "*.json") if path != probe)
    probe.unlink()
    before = trial.stat().st_mtime_ns
    done = inline(*command)
    assert done.returncode == 0
    assert "1 recorded, 0 to train, 1 cost to measure" in done.stdout
    assert probe.exists()
    assert trial.stat().st_mtime_ns == before


def test_force_trains_recorded_trials_again(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    command = [*override(tiny, seeds="[0]"), "method=head"]
    inline(*command)
    before = stamps(tmp_path / "results")
    assert inline(*command, "force=true").returncode == 0
    after = stamps(tmp_path / "results")
    assert after.keys() == before.keys()
    assert all(after[path] > before[path] for path in before)


def test_a_diverging_trial_is_recorded_and_the_sweep_continues(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *override(tiny, seeds="[0]", precision="fp32"), "method=full,head", "lrs=[1e38,1e-3]"]
    done = inline(*command)
    assert done.returncode == 1
    outcomes = {(record["cell"]["method"], record["trial"]["lr"]): record for record in trials(tmp_path / "results")}
    assert outcomes["full", 1e38]["outcome"] == "diverged"
    assert "try a lower learning rate" in outcomes["full", 1e38]["error"]["message"]
    assert outcomes["full", 1e-3]["outcome"] == outcomes["head", 1e-3]["outcome"] == "ok"
    assert "diverged: full" in done.stdout


def test_a_cell_that_raises_is_recorded_and_trained_again(
    inline: Run, tiny: list[str], tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path(shutil.copytree(tiny_bert, tmp_path / "broken"))
    tensors = load_file(weights / "model.safetensors")
    name = next(name for name in tensors if "query.weight" in name)
    save_file(tensors | {name: tensors[name][1:].contiguous()}, weights / "model.safetensors", {"format": "pt"})
    command = [*override(tiny, seeds="[0,1]", **{"model.name": str(weights)}), "method=head"]
    done = inline(*command)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    for record in trials(tmp_path / "results"):
        assert record["outcome"] == "failed"
        assert record["error"]["traceback"]
    assert "0 recorded, 2 to train" in inline(*command).stdout


def test_a_killed_worker_is_an_outcome_and_a_second_call_trains_just_that_cell(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    slow = override(
        tiny, seeds="[0]", **{"protocol.probe_steps": "1", "protocol.epochs": "4000", "protocol.train_rows": "32"}
    )
    quick = [argument for argument in slow if not argument.startswith("protocol.epochs")]
    command = ["-m", *quick, "protocol.epochs=4000,1", "method=bitfit"]
    with running(command, tmp_path) as process:
        wait_for(lambda: list((tmp_path / "results").rglob("probe.json")))
        time.sleep(0.3)
        victim = wait_for(lambda: worker_of(process.pid))
        victim.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    by_epochs = {record["config"]["protocol"]["epochs"]: record for record in trials(tmp_path / "results")}
    assert by_epochs[4000]["outcome"] == "failed"
    assert "SIGKILL" in by_epochs[4000]["error"]["message"]
    assert by_epochs[1]["outcome"] == "ok"
    assert "1 failed" in out
    before = stamps(tmp_path / "results")
    with running(command, tmp_path) as process:
        wait_for(lambda: worker_of(process.pid))
        assert "1 recorded, 1 to train" in (process.stdout.readline() if process.stdout else "")
    after = stamps(tmp_path / "results")
    changed = {path for path in before if before[path] != after.get(path)}
    assert not {path for path in changed if json.loads(path.read_text())["config"]["protocol"]["epochs"] == 1}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_within_two_seconds_and_the_same_command_resumes(
    stop: signal.Signals, tiny: list[str], tmp_path: Path
) -> None:
    command = [*override(tiny, seeds="[0,1]"), "method=head", "pack=2", *LONG]
    with running(command, tmp_path) as process:
        wait_for(lambda: list((tmp_path / "results").rglob("probe.json")))
        time.sleep(3)  # the pack of both trials has begun
        began = time.monotonic()
        os.killpg(process.pid, stop) if stop is signal.SIGINT else process.terminate()
        process.wait(timeout=20)
        took = time.monotonic() - began
        out, err = process.communicate(timeout=20)
    assert took < 2
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert err.splitlines() == ["interrupted: finished trials are recorded; rerun the same command to resume"]
    assert manifest.find_manifest(tmp_path / "results", "last").exit == 130
    assert [record["outcome"] for record in trials(tmp_path / "results")] == ["interrupted"] * 2  # both are in one pack
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file() and path.suffix != ".json"]
    with running(command, tmp_path) as process:
        assert process.stdout is not None
        assert "2 to train" in process.stdout.readline()


def test_two_sweeps_over_the_same_cells_leave_whole_records_only(bench: Run, tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *override(tiny, rank="1,2"), "method=lora", "force=true"]
    with ThreadPoolExecutor(2) as pool:
        done = [future.result() for future in [pool.submit(bench, "run", *command) for _ in range(2)]]
    assert [process.returncode for process in done] == [0, 0]
    assert len(trials(tmp_path / "results")) == 6
    assert {record["outcome"] for record in trials(tmp_path / "results")} == {"ok"}
    assert all(path.suffix == ".json" for path in (tmp_path / "results").rglob("*") if path.is_file())


def test_random_weights_are_marked(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    assert inline(*override(tiny, seeds="[0]"), "method=head", "model.weights=random").returncode == 0
    (record,) = trials(tmp_path / "results")
    assert record["cell"]["random"] is True
    assert record["cell"]["model"].endswith("-random")


def test_help_and_config_show_the_main_settings(bench: Run) -> None:
    shown = bench("run", "--help")
    assert shown.returncode == 0
    for word in ("method=lora,adapter,ia3 rank=1,4,8,64", "bitfit", "qkvo", "Exit codes", "--config-dir"):
        assert word in shown.stdout
    config = bench("run", "--cfg", "job", "method=ia3")
    assert config.returncode == 0
    assert "name: ia3" in config.stdout


def test_the_command_line_does_not_import_torch(bench: Run) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, bench.run; sys.exit('torch' in sys.modules or 'wandb' in sys.modules)"],
        check=False,
    )
    assert done.returncode == 0
