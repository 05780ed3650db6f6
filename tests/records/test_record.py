"""A record is complete or absent, and any other file in the folder costs one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from sample_records import probe_of, race_record, record_of

from bench.records import record as records
from bench.records.record import FINAL, OUTCOMES, Record, RecordError

HERE = os.pathsep.join(filter(None, [str(REPOSITORY / "tests" / "support"), os.environ.get("PYTHONPATH")]))
READ_ME = REPOSITORY / "docs" / "records.md"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


SAMPLES = [
    record_of(),
    probe_of(),
    race_record(),
    race_record(None),
    record_of(outcome="oom"),
    record_of(method="ümlaut ☃ \"'"),
]


@pytest.mark.parametrize("record", SAMPLES)
def test_a_record_is_read_back_as_written(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "one.json"
    records.write(path, record)
    assert records.read(path) == record
    assert files(tmp_path) == ["one.json"]


def test_numbers_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    curve = {"loss": [0.1 + 0.2, 1 / 3, 1e-300, 5e-324], "lr": [1e38, 0.0, -0.0, 2**53 + 1]}
    records.write(tmp_path / "one.json", replace(record_of(), curve=curve))
    loaded = records.read(tmp_path / "one.json").curve
    assert loaded is not None
    assert repr(loaded) == repr(curve)


def test_each_top_level_field_stands_on_a_line(tmp_path: Path) -> None:
    records.write(tmp_path / "one.json", record_of())
    text = (tmp_path / "one.json").read_text()
    keys = [line.split('"')[1] for line in text.splitlines() if line.startswith(' "')]
    assert keys == list(json.loads(text))
    assert len(text.splitlines()) == len(keys) + 2
    assert text.endswith("}\n")


@pytest.mark.skipif(not READ_ME.exists(), reason="there is no page about the fields yet")
def test_every_field_is_explained(tmp_path: Path) -> None:
    table = [line.split("|")[1] for line in READ_ME.read_text().splitlines() if line.startswith("| `")]
    assert sorted({name.strip().split("`")[1] for name in table}) == sorted(Record.__dataclass_fields__)


def test_only_ok_and_diverged_are_final() -> None:
    assert {outcome for outcome in OUTCOMES if record_of(outcome=outcome).is_final} == set(FINAL) == {"ok", "diverged"}


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_write_that_breaks_leaves_the_old_record_and_nothing_else(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, old = tmp_path / "one.json", record_of(select=0.25)
    records.write(path, old)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    if broken == "write":  # half of the text reaches the file
        opened = Path.open

        def half(self: Path, *arguments: Any, **options: Any) -> Any:
            stream = opened(self, *arguments, **options)
            whole = stream.write
            stream.write = lambda text: (whole(text[: len(text) // 2]), stream.flush(), fail())
            return stream

        monkeypatch.setattr(Path, "open", half)
    else:
        monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space left"):
        records.write(path, record_of(select=0.75))
    monkeypatch.undo()
    assert records.read(path) == old
    assert files(tmp_path) == ["one.json"]


def test_a_record_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = tmp_path / "one.json", []
    sync, move = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(("sync", path.exists())), sync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(("move", to)), move(self, to))[1])
    records.write(path, record_of())
    assert order == [("sync", False), ("move", path)]


def test_a_file_left_by_a_killed_writer_is_not_a_record(tmp_path: Path) -> None:
    """A child is killed between writing and renaming. Its temporary file stays, and no reader takes it for a record."""
    path = tmp_path / "one.json"
    child = (
        "import os, signal, sys, pathlib\n"
        "from sample_records import record_of\n"
        "from bench.records import record as records\n"
        "os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "records.write(pathlib.Path(sys.argv[1]), record_of())\n"
    )
    env = {**os.environ, "PYTHONPATH": HERE}
    done = subprocess.run([sys.executable, "-c", child, str(path)], check=False, env=env, timeout=60)
    assert done.returncode == -9
    assert len(files(tmp_path)) == 1
    complaints: list[str] = []
    assert not list(records.read_all(tmp_path, complaints.append))
    assert records.read_if_there(path, complaints.append) is None
    assert not complaints


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused_and_leaves_nothing(number: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one\.json: scores contains a number that is not finite"):
        records.write(tmp_path / "one.json", record_of(select=number))
    assert not files(tmp_path)


def spoil(change: Callable[[dict[str, Any]], Any]) -> str:
    content = json.loads(json.dumps(vars(record_of())))
    change(content)
    return json.dumps(content)


WHOLE = spoil(lambda content: None)
RACE = race_record().race or {}
SPOILED = {
    "empty": ("", "not a complete JSON file"),
    "torn": (WHOLE[: len(WHOLE) // 2], "not a complete JSON file"),
    "two in one": (WHOLE + WHOLE, "not a complete JSON file"),
    "no text": (b"\xff\xfe\x00", "not a complete JSON file"),
    "no number": (WHOLE.replace("0.5", "NaN", 1), "NaN"),
    "endless": ("[" * 100_000, "not a complete JSON file"),
    "a list": ("[1, 2]", "not a record of this benchmark"),
    "a number": ("3", "not a record of this benchmark"),
    "foreign": ('{"name": "wandb", "files": []}', "not a record of this benchmark"),
    "newer": (spoil(lambda content: content.update(schema=2)), "schema 2, but this version reads 1; update"),
    "odd schema": (spoil(lambda content: content.update(schema="1\n2")), r"schema '1\n2'"),
    "unknown outcome": (spoil(lambda content: content.update(outcome="splendid")), "outcome 'splendid'"),
    "unknown kind": (spoil(lambda content: content.update(kind=["probe"])), "unknown kind ['probe']"),
    "field too many": (spoil(lambda content: content.update(mood="good")), "'mood'"),
    "field missing": (spoil(lambda content: content.pop("provenance")), "'provenance'"),
    "no cell": (spoil(lambda content: content.update(cell=None)), "cell does not match schema 1"),
    "half a cell": (spoil(lambda content: content["cell"].pop("model")), "cell does not match schema 1"),
    "half a trial": (spoil(lambda content: content["trial"].pop("lr")), "trial does not match schema 1"),
    "half the scores": (spoil(lambda content: content["scores"].pop("select")), "scores does not match schema 1"),
    "no protocol": (spoil(lambda content: content["config"].clear()), "config does not match schema 1"),
    "a race without one": (spoil(lambda content: content.update(kind="race")), "race does not match schema 1"),
    "a trial with a race": (spoil(lambda content: content.update(race=RACE)), "race does not match schema 1"),
    "half a race": (spoil(lambda content: content.update(kind="race", race=RACE | {"rule": 7})), "race does not match"),
    "half a candidate": (
        spoil(lambda content: content.update(kind="race", race=RACE | {"candidates": [{"lr": 1}]})),
        "race does not match schema 1",
    ),
    "provenance as text": (spoil(lambda content: content.update(provenance="git")), "provenance does not match"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_broken_record_is_one_line_and_the_rest_is_read(name: str, tmp_path: Path) -> None:
    content, message = SPOILED[name]
    records.write(tmp_path / "a.json", record_of(seed=0))
    records.write(tmp_path / "c.json", record_of(seed=1))
    broken = tmp_path / "b.json"
    broken.write_bytes(content if isinstance(content, bytes) else content.encode())
    complaints: list[str] = []
    loaded = list(records.read_all(tmp_path, complaints.append))
    assert [record.trial and record.trial["seed"] for record in loaded] == [0, 1]
    (line,) = complaints
    assert line.startswith(f"{broken}: ")
    assert message in line
    assert "\n" not in line
    assert records.read_if_there(broken, complaints.append) is None
    assert complaints == [line, line]
    with pytest.raises(RecordError):
        records.read(broken)


def test_a_folder_named_like_a_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "one.json").mkdir()
    complaints: list[str] = []
    assert not list(records.read_all(tmp_path, complaints.append))
    assert complaints == [f"{tmp_path / 'one.json'}: cannot be read (Is a directory)"]


def test_records_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        records.write(tmp_path / str(seed) / "one.json", record_of(seed=seed))
    assert [record.trial and record.trial["seed"] for record in records.read_all(tmp_path, pytest.fail)] == [0, 1, 2]


def test_threads_that_write_one_path_leave_a_whole_record(tmp_path: Path) -> None:
    path, writers = tmp_path / "one.json", [record_of(select=number / 8) for number in range(8)]
    seen: list[Record] = []

    def work(record: Record) -> None:
        for _ in range(15):
            records.write(path, record)
            seen.append(records.read(path))

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(work, writers))
    assert len(seen) == 15 * len(writers)
    assert all(record in writers for record in seen)
    assert files(tmp_path) == ["one.json"]


def test_processes_that_write_one_path_leave_a_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    child = (
        "import sys, pathlib\n"
        "from sample_records import record_of\n"
        "from bench.records import record as records\n"
        "for number in range(40):\n"
        "    records.write(pathlib.Path(sys.argv[1]), record_of(select=float(sys.argv[2]), seed=number))\n"
        "    records.read(pathlib.Path(sys.argv[1]))\n"
    )
    env = {**os.environ, "PYTHONPATH": HERE}
    command = [sys.executable, "-c", child, str(path)]
    children = [subprocess.Popen([*command, str(number / 4)], env=env, stderr=subprocess.PIPE) for number in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in children]
    assert [process.returncode for process in children] == [0] * 4, errors
    assert (records.read(path).trial or {})["seed"] == 39
    assert files(tmp_path) == ["one.json"]


@pytest.mark.parametrize("folder", sorted(records.RESERVED))
def test_reserved_folders_are_not_read_as_a_users_records(folder: str, tmp_path: Path) -> None:
    own = record_of(method="own")
    for place in (tmp_path / "minilm" / folder, tmp_path / folder, tmp_path / folder / "one" / "minilm" / "sst2"):
        records.write(place / "one.json", own if place.parent.name == "minilm" else record_of())
    assert list(records.read_all(tmp_path, pytest.fail)) == [own]
    reserved = records.read_all(tmp_path / folder, pytest.fail)  # read by itself, it is a folder like any other
    assert len(list(reserved)) == 2


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no checkout")
@pytest.mark.parametrize(("path", "ignored"), [
    ("results/minilm/sst2/lora-r8-qv-0123456789/probe.json", True), ("results/minilm/sst2/table.md", True),
    ("results/dashboard.html", True), ("results/.runs/20261126-065012.345678-3f2a.json", True),
    ("results/studies/one/dashboard.html", True), ("results/studies/one/minilm/sst2/figures/a.svg", True),
    ("results/studies/one/minilm/sst2/lora-r8-qv-0123456789/probe.json", False), ("results/perf/new.json", False),
    ("results/studies/one/.runs/20261126-065012.345678-3f2a.json", False), ("results/README.md", False),
])  # fmt: skip
def test_git_ignores_a_users_results_and_nothing_else(path: str, *, ignored: bool) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=REPOSITORY, check=False)
    assert (done.returncode == 0) is ignored
