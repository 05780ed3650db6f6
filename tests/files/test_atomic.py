"""A file is complete or absent, even if several processes write it at the same time."""

import os
from pathlib import Path

import pytest

from bench.files.atomic import replace_file


def test_machines_with_equal_process_ids_write_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second writer starts and finishes while the first one flushes to disk."""
    path, sync = tmp_path / "file", os.fsync

    def meanwhile(number: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        replace_file(path, b"the second")
        sync(number)

    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(os, "fsync", meanwhile)
    replace_file(path, b"the first")
    assert path.read_bytes() == b"the first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
