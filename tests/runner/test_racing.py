"""A race on the command line: it chooses the rate, resumes after an interruption, and runs in one process at a time."""

import fcntl
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records import record as records

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["protocol.candidates=3", "protocol.finalists=2", "seeds=[0,1]"]


@pytest.fixture
def raced(tiny: list[str]) -> list[str]:
    """Overrides of a cell that tunes its learning rate."""
    return [*tiny, *SMALL]


def race_of(results: Path, pattern: str = "*") -> dict[str, Any]:
    (path,) = results.glob(f"*/*/{pattern}/race.json")
    return json.loads(path.read_text())


def trials_in(results: Path) -> set[str]:
    return {path.stem for path in results.rglob("*-seed*.json")}


def test_a_cell_tunes_its_rate_and_trains_the_winner_on_the_seeds_of_the_report(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    done = inline("method=lora", *raced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 to train, 1 learning rate to tune" in done.stdout
    record = race_of(tmp_path / "results")
    race = record["race"]
    assert record["outcome"] == "ok"
    assert (record["trial"], record["scores"], record["predictions"]) == (None, None, None)
    assert {candidate["outcome"] for candidate in race["candidates"]} == {"finished", "dropped"}
    steps = max(step for candidate in race["candidates"] for step, _ in candidate["select_losses"])
    assert {candidate["outcome"] for candidate in race["candidates"] if candidate["select_losses"][-1][0] == steps} == {
        "finished"
    }
    assert trials_in(tmp_path / "results") == {f"lr{race['lr']!r}-seed{seed}" for seed in (0, 1)}
    again = inline("method=lora", *raced)
    assert "2 recorded, 0 to train" in again.stdout
    assert "tune" not in again.stdout.partition("\n")[0]


def test_finalists_that_continue_from_a_stage_equal_uninterrupted_trials(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    """The last select loss of a finalist equals that of a trial that is trained without a break."""
    inline("method=lora", *raced)
    race = race_of(tmp_path / "results")["race"]
    finished = [candidate for candidate in race["candidates"] if candidate["outcome"] == "finished"]
    inline("method=lora", *raced, f"lrs={[candidate['lr'] for candidate in finished]}", "seeds=[1000]")
    for candidate in finished:
        (path,) = (tmp_path / "results").rglob(f"lr{candidate['lr']!r}-seed1000.json")
        losses = json.loads(path.read_text())["scores"]["select_losses"]
        assert losses[-1] == candidate["select_losses"][-1]


def test_an_interrupted_race_resumes(inline: Run, raced: list[str], tmp_path: Path) -> None:
    inline("method=lora", *raced)
    (path,) = (tmp_path / "results").glob("*/*/*/race.json")
    whole = json.loads(path.read_text())
    half = json.loads(path.read_text())
    for candidate in half["race"]["candidates"]:
        if candidate["outcome"] == "finished":
            candidate |= {"outcome": "waiting", "select_losses": candidate["select_losses"][:1]}
            candidate["lowest"] = candidate["select_losses"][0][1]
    half["race"]["lr"], half["outcome"] = None, "interrupted"
    path.write_text(json.dumps(half))
    for trial in path.parent.glob("*-seed*.json"):
        trial.unlink()
    done = inline("method=lora", *raced)
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads(path.read_text())
    assert again["race"]["lr"] == whole["race"]["lr"]
    assert again["race"]["candidates"] == whole["race"]["candidates"]


def test_only_the_missing_trials_of_a_tuned_cell_are_trained(inline: Run, raced: list[str], tmp_path: Path) -> None:
    inline("method=lora", *raced)
    lost = min((tmp_path / "results").rglob("*-seed1.json"))
    kept = lost.with_name(lost.name.replace("seed1", "seed0"))
    before = kept.read_bytes()
    lost.unlink()
    (tmp_path / "results").rglob("race.json").__next__().unlink()
    done = inline("method=lora", *raced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lost.exists()
    assert kept.read_bytes() == before


def test_a_smaller_rule_is_satisfied_by_a_larger_race_and_not_the_other_way_round(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    inline("method=lora", *raced)
    small = race_of(tmp_path / "results")["race"]
    done = inline("method=lora", *raced, "protocol.candidates=5")
    assert "1 learning rate to tune" in done.stdout
    assert len(race_of(tmp_path / "results")["race"]["candidates"]) >= 5 > len(small["candidates"]) - 1
    done = inline("method=lora", *raced)
    assert "0 to train" in done.stdout
    assert "to tune" not in done.stdout.partition("\n")[0]


def test_several_cells_train_side_by_side_and_are_all_recorded(inline: Run, raced: list[str], tmp_path: Path) -> None:
    done = inline("-m", "method=lora,bitfit,head", *raced, "workers=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 ok" in done.stdout
    stored = list(records.read_all(tmp_path / "results", pytest.fail))
    assert sorted(record.kind for record in stored) == ["probe"] * 3 + ["race"] * 3 + ["trial"] * 6
    assert {record.provenance["threads"] for record in stored if record.kind == "trial"} == {1}
    assert [f"cell {number}/3" in done.stdout for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_how_many_cells_train_at_once_changes_no_score(inline: Run, raced: list[str], tmp_path: Path) -> None:
    for workers in (1, 2):
        inline("-m", "method=lora,bitfit", *raced, f"workers={workers}", f"results_dir={workers}")
    by_one_worker, by_two_workers = (
        {
            (record.cell["id"], record.trial["id"]): record.scores
            for record in records.read_all(tmp_path / str(count), pytest.fail)
            if record.trial
        }
        for count in (1, 2)
    )
    assert by_one_worker == by_two_workers


@pytest.mark.parametrize("also", ["protocol.candidates=null", "model.weights=random", "lrs=published"])
def test_a_cell_that_does_not_tune_trains_the_published_rate(
    also: str, inline: Run, raced: list[str], tmp_path: Path
) -> None:
    done = inline("method=lora", *raced, also)
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials_in(tmp_path / "results") == {"lr0.0005-seed0", "lr0.0005-seed1"}
    assert not list((tmp_path / "results").rglob("race.json"))


def test_all_trains_every_candidate_with_every_seed(inline: Run, raced: list[str], tmp_path: Path) -> None:
    inline("method=lora", *raced, "lrs=all")
    expected = {f"lr{lr!r}-seed{seed}" for lr in (1.58e-4, 5e-4, 1.58e-3) for seed in (0, 1)}
    assert trials_in(tmp_path / "results") == expected
    assert not list((tmp_path / "results").rglob("race.json"))


def test_a_race_that_another_process_holds_is_waited_for(inline: Run, raced: list[str], tmp_path: Path) -> None:
    inline("method=lora", *raced)
    (path,) = (tmp_path / "results").glob("*/*/*/race.json")
    finished, record = path.read_bytes(), json.loads(path.read_bytes())
    path.unlink()
    with path.with_name(".race.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def finish() -> None:
            path.write_bytes(finished)
            fcntl.flock(lock, fcntl.LOCK_UN)

        timer = threading.Timer(2, finish)
        timer.start()
        done = inline("method=lora", *raced)
        timer.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "waiting for its race, which another process is running" in done.stdout
    assert json.loads(path.read_bytes())["provenance"]["written"] == record["provenance"]["written"]


def test_a_race_that_no_candidate_survives_is_reported_and_fails_the_command(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    wild = ["method=lora", *raced, "method.lr=1e30", "optim=sgd_momentum", "protocol.clip=1e30"]
    done = inline(*wild)
    assert done.returncode == 1
    assert "no learning rate: lora r=4 qv" in done.stdout
    record = race_of(tmp_path / "results")
    assert (record["outcome"], record["race"]["lr"]) == ("diverged", None)
    assert "diverged" in done.stdout
    before = race_of(tmp_path / "results")["provenance"]["written"]
    assert inline(*wild).returncode == 1
    assert race_of(tmp_path / "results")["provenance"]["written"] >= before


@pytest.mark.parametrize(("override", "words"), [
    ("lrs=[]", ["lrs is empty", "tuned, all, published"]),
    ("lrs=best", ["lrs=best must be tuned, all, published, or a list"]),
    ("lrs=1e-3", ["lrs=0.001 must be tuned, all, published, or a list"]),
    ("lrs=[0]", ["must be above 0"]),
    ("lrs=[1e-3,-1]", ["must be above 0"]),
    ("lrs=[high]", ["must be above 0"]),
    ("protocol.candidates=2", ["protocol.candidates=2 must be at least 3", "null"]),
    ("protocol.finalists=0", ["protocol.finalists=0 must be at least 1"]),
    ("protocol.finalists=4", ["at most protocol.candidates=3"]),
    ("seeds=[0,1000]", ["protocol.tune_seed=1000 is one of seeds=[0, 1000]", "choose another"]),
    ("protocol.tune_seed=-1", ["protocol.tune_seed=-1 must be at least 0"]),
    ("workers=0", ["workers=0 must be auto or a whole number"]),
])  # fmt: skip
def test_invalid_settings_of_a_race_are_a_one_line_error(
    override: str, words: list[str], inline: Run, raced: list[str], tmp_path: Path
) -> None:
    done = inline("method=lora", *raced, override)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "results").exists()


def test_with_tune_once_a_method_races_at_its_first_rank_and_the_others_take_its_rate(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    common = [override for override in raced if not override.startswith("rank=")]
    done = inline("-m", "method=lora", "rank=2,4", "target=q,v", *common, "tune=once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 to train, 1 learning rate to tune" in done.stdout
    assert "Trained at the rate chosen by the race of lora r=2 q (tune=once): lora r=2 v, lora r=4 q" in done.stdout
    races = {
        record.cell["title"]: record
        for record in records.read_all(tmp_path / "results", pytest.fail)
        if record.kind == "race"
    }
    first = races["lora r=2 q"]
    assert (first.race or {})["of"] is None
    assert {(record.race or {})["lr"] for record in races.values()} == {(first.race or {})["lr"]}
    assert {(record.race or {})["of"] for record in races.values()} == {None, first.cell["id"]}
    assert "0 to train" in inline("-m", "method=lora", "rank=2,4", "target=q,v", *common, "tune=once").stdout
    own = inline("-m", "method=lora", "rank=4", "target=q", *common)
    assert "1 learning rate to tune" in own.stdout, "a rate taken from another cell does not count as a cell's own race"


def test_with_tune_once_nothing_is_trained_if_the_race_chose_no_rate(
    inline: Run, raced: list[str], tmp_path: Path
) -> None:
    common = [override for override in raced if not override.startswith("rank=")]
    wild = ["method.lr=1e30", "optim=sgd_momentum", "protocol.clip=1e30"]
    done = inline("-m", "method=lora", "rank=2,4", *common, "tune=once", *wild)
    assert done.returncode == 1
    assert "lora r=4 qv: not trained, because the race of lora r=2 qv found no learning rate" in done.stdout.replace(
        " sgd_momentum", ""
    )
    assert not trials_in(tmp_path / "results")
