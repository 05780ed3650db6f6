"""What may replace a record: no result is lost, even if several processes write at the same time."""

import ast
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import REPOSITORY
from sample_records import record_of

from bench.records import record as records
from bench.records import replace
from bench.records.record import FINAL, OUTCOMES, Record, UnreadableError


def always(stored: Record, new: Record) -> Record:
    return new


def never(stored: Record, new: Record) -> None:
    return None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", OUTCOMES)
@pytest.mark.parametrize("after", OUTCOMES)
def test_only_a_final_record_replaces_a_final_record(before: str, after: str, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    old, new = record_of(outcome=before), record_of(outcome=after, lr=0.5)
    assert replace.put(path, old, never) is None
    kept = replace.put(path, new, always)
    stays = before in FINAL and after not in FINAL
    assert kept == (old if stays else None)
    assert records.read(path) == (old if stays else new)
    assert names(tmp_path) == ["one.json"]


def test_a_final_record_stays_unless_a_replacement_is_requested(tmp_path: Path) -> None:
    path, old = tmp_path / "one.json", record_of(select=0.25)
    replace.put(path, old, never)
    assert replace.put(path, record_of(select=0.75), never) == old
    assert records.read(path) == old


def test_an_invalid_file_is_replaced_and_a_newer_record_is_not(tmp_path: Path) -> None:
    torn, newer = tmp_path / "torn.json", tmp_path / "newer.json"
    torn.write_text('{"schema": 1, "kind"')
    assert replace.put(torn, record_of(), never) is None
    assert records.read(torn) == record_of()
    newer.write_text('{"schema": 99}')
    with pytest.raises(UnreadableError, match="update the package"):
        replace.put(newer, record_of(), always)
    assert newer.read_text() == '{"schema": 99}'
    assert names(tmp_path) == ["newer.json", "torn.json"]


@pytest.mark.parametrize("stored", [None, "failed"])
def test_a_result_written_by_another_process_meanwhile_stays(
    stored: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result arrives after the first check, while the new record is written to its temporary file."""
    path, other, write = tmp_path / "one.json", record_of(select=0.75), records.write
    if stored:
        write(path, record_of(outcome=stored))

    def slow(to: Path, record: Record, **more: Path) -> None:
        write(to, record, **more)
        if record.outcome == "interrupted":
            write(path, other)

    monkeypatch.setattr(replace, "write", slow)
    assert replace.put(path, record_of(outcome="interrupted"), always) == other
    assert records.read(path) == other
    assert names(tmp_path) == ["one.json"]


def test_a_result_created_between_a_failed_read_and_the_write_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process creates the record right after this one has found none."""
    path, other, read = tmp_path / "one.json", record_of(select=0.75), records.read

    def late(of: Path) -> Record:
        try:
            return read(of)
        finally:
            records.write(path, other)

    monkeypatch.setattr(replace, "read", late)
    assert replace.put(path, record_of(outcome="interrupted"), always) == other
    assert records.read(path) == other
    assert names(tmp_path) == ["one.json"]


@pytest.mark.parametrize("links", [True, False])
def test_concurrent_writers_create_a_record_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no links here")))
    path = tmp_path / "one.json"
    writers = [record_of(select=number / 8) for number in range(8)]
    with ThreadPoolExecutor(8 if links else 1) as pool:
        kept = list(pool.map(lambda record: replace.put(path, record, never), writers))
    assert kept.count(None) == 1
    assert set(map(repr, kept)) == {"None", repr(records.read(path))}
    assert names(tmp_path) == ["one.json"]


def test_a_number_that_is_not_finite_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/one\.json: scores contains a number"):
        replace.put(tmp_path / "one.json", record_of(select=float("nan")), always)
    assert names(tmp_path) == []


def test_only_replace_writes_records() -> None:
    writers = set()
    for path in (REPOSITORY / "bench").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        imports = {
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "bench.records.record"
            for name in node.names
        }
        if "records.write" in calls or "write" in imports:
            writers.add(path.name)
    assert writers == {"replace.py"}
