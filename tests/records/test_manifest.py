"""A command is remembered however it ends, and no other file is mistaken for its manifest."""

import json
from pathlib import Path
from typing import Any

import pytest
from sample_records import probe_of, race_record, record_of, store

from bench.records import manifest
from bench.records.manifest import FOLDER, Manifest, Remembered, find_manifest
from bench.records.record import Record
from bench.report.__main__ import cli


def cell_of(record: Record) -> dict[str, Any]:
    trials = [record.trial["id"]] if record.trial else []
    return {**{key: record.cell[key] for key in ("id", "title", "model", "task")}, "trials": trials}


def remember(results: Path, *records: Record, code: int = 0) -> Manifest:
    with Remembered(results, ["-m", "seeds=[0, 1]"], lambda: list(map(cell_of, records)), pytest.fail) as remembered:
        remembered.exit = code
    return remembered.manifest


def test_a_manifest_is_read_back_as_remembered(tmp_path: Path) -> None:
    first, second = remember(tmp_path, record_of()), remember(tmp_path, record_of(seed=1), code=1)
    assert find_manifest(tmp_path, "last") == second
    assert find_manifest(tmp_path, first.id) == first
    assert (first.exit, second.exit) == (0, 1)
    assert first.shown == "python -m bench.run -m 'seeds=[0, 1]'"
    assert first.provenance["version"]


def test_a_command_is_remembered_while_it_runs(tmp_path: Path) -> None:
    """A command may be killed at any time."""
    with Remembered(tmp_path, [], lambda: [cell_of(record_of())], pytest.fail) as remembered:
        running = find_manifest(tmp_path, "last")
        remembered.exit = 0
    assert (running.exit, running.ended, running.seconds) == (None, None, None)
    assert running.trials == find_manifest(tmp_path, "last").trials != {}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (ValueError, 2), (OSError, 1), (SystemExit, 1)])
def test_an_error_is_remembered_and_raised(error: type[BaseException], code: int, tmp_path: Path) -> None:
    def work() -> None:
        with Remembered(tmp_path, [], list, pytest.fail) as remembered:
            remembered.exit = 0
            raise error

    with pytest.raises(error):
        work()
    assert find_manifest(tmp_path, "last").exit == code


def test_cells_known_only_at_the_end_are_remembered(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = []
    with Remembered(tmp_path, [], lambda: list(cells), pytest.fail):
        cells.append(cell_of(record_of()))
    assert len(find_manifest(tmp_path, "last").cells) == 1


def test_an_unwritable_folder_costs_a_line_and_not_the_command(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    messages: list[str] = []
    with Remembered(tmp_path, [], list, messages.append) as remembered:
        remembered.exit = 0
    assert len(messages) == 2
    assert all(line.startswith("no manifest of this command was saved: ") for line in messages)


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Path, bytes]] = []
    monkeypatch.setattr(manifest, "replace_file", lambda *file: written.append(file))
    remember(tmp_path)
    assert len(written) == 2
    assert len({path for path, _ in written}) == 1
    assert not list(tmp_path.rglob("*.json"))


WHOLE = {
    "id": "a", "command": [], "cells": [], "began": "", "ended": None, "seconds": None, "exit": None, "provenance": {},
    "kind": "run", "schema": 1,
}  # fmt: skip
SPOILED = {
    "torn": ('{"id": ', "cannot be read"),
    "a list": ("[]", "not the manifest of a run"),
    "of another kind": (json.dumps(WHOLE | {"kind": "trial"}), "not the manifest of a run"),
    "of another version": (json.dumps(WHOLE | {"schema": 2}), "schema 2, but this version reads 1"),
    "without cells": (
        json.dumps({key: value for key, value in WHOLE.items() if key != "cells"}),
        "fields do not match",
    ),
    "with a cell that is none": (json.dumps(WHOLE | {"cells": [{"id": 1}]}), "fields do not match"),
    "with more": (json.dumps(WHOLE | {"more": 1}), "fields do not match"),
}


@pytest.mark.parametrize(("text", "message"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_is_not_a_manifest_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, record_of())
    path = tmp_path / FOLDER / "20261126-000000.000-0000.json"
    path.parent.mkdir()
    path.write_text(text)
    assert cli(["run=last", f"results_dir={tmp_path}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {path}: {message}")
    assert err.count("\n") == 1


def test_an_unknown_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, record_of())
    for name in ("last", "x"):
        assert cli([f"run={name}", f"results_dir={tmp_path}"]) == 2
        assert capsys.readouterr().err.startswith(f"error: run={name}: no run is recorded in {tmp_path}; run ")
    known = remember(tmp_path, record_of())
    assert cli(["run=../x", f"results_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"error: run=../x is unknown; choose from last, {known.id}\n"
    empty = remember(tmp_path, record_of(method="unheard"))
    assert cli(["run=last", f"results_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: run={empty.id} has recorded nothing yet; its command was: python -m"
    )


def test_every_command_of_the_report_takes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [record_of(rank=rank, select=0.5 + rank / 100, report=0.5 + rank / 100) for rank in (1, 4)]
    races = [race_record(rank=rank) for rank in (1, 4, 64)]
    probes = [probe_of(rank=rank) for rank in (1, 4, 64)]
    store(tmp_path, *own, record_of(rank=64, select=0.9, report=0.9), *races, *probes)
    remember(tmp_path, *own)
    for arguments in (["table=capacity"], ["recommend"], ["compare", "a=lora", "b=lora"]):
        assert cli([*arguments, "run=last", f"results_dir={tmp_path}"]) == 0
        out = capsys.readouterr().out
        assert "4" in out
        assert "64" not in out


def test_the_report_of_a_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remember(store(tmp_path, record_of(), probe_of()), record_of())
    before = sorted(tmp_path.rglob("*"))
    assert cli(["run=last", f"results_dir={tmp_path}"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "Run 2" in capsys.readouterr().out


def test_the_suggested_command_follows_from_what_the_run_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ok = [record_of(method=method, report=score) for method, score in (("a", 0.5), ("b", 0.7), ("c", 0.6))]
    store(tmp_path, *ok, *(probe_of(method=method) for method in "abc"), record_of(seed=1, method="a", outcome="oom"))
    store(tmp_path, *(race_record(method=method) for method in "abc"))

    def suggestion(*records: Record, code: int = 0) -> str:
        remember(tmp_path, *records, code=code)
        capsys.readouterr()
        cli(["run=last", f"results_dir={tmp_path}"])
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Next, "))

    assert f"compare a={ok[1].cell['id']} b={ok[2].cell['id']} run=2" in suggestion(*ok)
    again = "Next, train what is missing:  python -m bench.run -m 'seeds=[0, 1]'"
    assert suggestion(*ok, code=130) == again
    assert suggestion(*ok, record_of(seed=1, method="a")) == again  # this trial ran out of memory
    assert suggestion(*ok, record_of(seed=2, method="a")) == again  # this trial is not recorded
    assert suggestion(record_of(seed=2, method="unprobed"), *ok) == again
    assert suggestion(ok[0]).startswith(
        "Next, render every table and the dashboard of all records:  python -m bench.report "
    )
