"""A hash identifies content: it changes with the content and with nothing else."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from bench.files import hashing as content
from bench.files.hashing import package_folder, sha256, sha256_of


def files(folder: Path, **named: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in named.items():
        (folder / name).write_text(text)
    return [folder / name for name in named]


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "one").write_bytes(data)
    assert sha256(tmp_path / "one") == sha256_of([tmp_path / "one"]) == hashlib.sha256(data).hexdigest()


def test_a_file_that_changes_has_another_hash(tmp_path: Path) -> None:
    (path,) = files(tmp_path, single="before")
    before = sha256(path)
    path.write_text("after!")  # the same length as before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert sha256(path) != before


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = files(tmp_path, single="before")
    first = sha256(path)
    monkeypatch.setattr(content.hashlib, "file_digest", lambda *_: pytest.fail("it was read again"))
    assert sha256(path) == first
    monkeypatch.chdir(tmp_path)
    assert sha256(Path("single")) == first


def test_the_hash_ignores_the_folder_and_the_order_of_files(tmp_path: Path) -> None:
    first, moved = files(tmp_path / "here", a="1", b="2"), files(tmp_path / "there" / "deep", b="2", a="1")
    assert sha256_of(first) == sha256_of(moved) == sha256_of(iter(first))
    assert sha256_of([*files(tmp_path / "z", a="1"), *files(tmp_path / "y", b="2")]) == sha256_of(first)


@pytest.mark.parametrize("other", [
    {"a": "1", "b": "3"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "1"}, {"a": "1", "b": "2", "c": ""},
    {"a": "12", "b": ""},
])  # fmt: skip
def test_other_names_or_contents_change_the_hash(other: dict[str, str], tmp_path: Path) -> None:
    assert sha256_of(files(tmp_path / "here", a="1", b="2")) != sha256_of(files(tmp_path / "there", **other))


def test_a_link_has_the_hash_of_its_target(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "blobs", single="content")
    (tmp_path / "snapshot").symlink_to(path)
    assert sha256(tmp_path / "snapshot") == sha256(path)


def test_a_package_is_located_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path / "a_package_of_data", **{"__init__.py": "raise RuntimeError('it was imported')\n"})
    files(tmp_path / "a_namespace" / "model", **{"config.json": "{}"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_folder("package:a_package_of_data/model/deep") == tmp_path / "a_package_of_data" / "model" / "deep"
    assert package_folder("package:a_package_of_data") == tmp_path / "a_package_of_data"
    assert package_folder("package:a_namespace/model") == tmp_path / "a_namespace" / "model"
    assert "a_package_of_data" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "no_such.package", "json.no_such", "math", "", ".relative"])
def test_a_missing_package_is_one_line_with_a_remedy(name: str) -> None:
    with pytest.raises(ValueError, match="is not installed; run 'pip install") as caught:
        package_folder(f"package:{name}/model")
    assert f"package:{name}/model: the package {name!r}" in str(caught.value)
    assert "\n" not in str(caught.value)
