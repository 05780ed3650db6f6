"""A record names the code, the packages and the machine behind its numbers, and leaves unknown facts empty."""

import json
import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bench import __version__
from bench.records import provenance

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Git]:
    """A repository with one commit that seems to contain bench: git("commit", ...)."""

    def call(*arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:  # set by git if a hook runs the tests
        monkeypatch.delenv(name)
    for name in ("bench/code.py", "results/table.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1\n")
    call("init", "--quiet")
    call("add", ".")
    call("commit", "--quiet", "--message", "One.")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "records" / "provenance.py"))
    provenance.provenance.cache_clear()
    yield call
    provenance.provenance.cache_clear()


def test_a_clean_checkout_is_named_by_its_commit(git: Git) -> None:
    facts = provenance.provenance()
    assert facts["commit"] == git("rev-parse", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{40}", facts["commit"])
    assert facts["dirty"] is False


@pytest.mark.parametrize(("name", "dirty"), [("bench/code.py", True), ("results/table.md", False), ("new.txt", False)])
def test_dirty_means_changed_code_and_not_new_results(name: str, git: Git, tmp_path: Path, *, dirty: bool) -> None:
    (tmp_path / name).write_text("2\n")
    assert provenance.provenance()["dirty"] is dirty


def test_a_staged_change_is_dirty_too(git: Git, tmp_path: Path) -> None:
    (tmp_path / "bench" / "code.py").write_text("2\n")
    git("add", ".")
    assert provenance.provenance()["dirty"] is True


def test_outside_a_checkout_commit_and_dirty_are_unknown(git: Git, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / ".git")
    facts = provenance.provenance()
    assert facts["commit"] is None
    assert facts["dirty"] is None
    assert facts["version"] == __version__


def test_without_git_commit_and_dirty_are_unknown(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = provenance.provenance()
    assert (facts["commit"], facts["dirty"]) == (None, None)


def test_a_repository_without_a_commit_is_unknown(git: Git) -> None:
    git("update-ref", "-d", "HEAD")
    assert provenance.provenance()["commit"] is None


def test_packages_have_their_installed_versions() -> None:
    packages = provenance.provenance()["packages"]
    assert packages["torch"] == version("torch")
    assert all(packages.values())
    assert {"torch", "transformers", "peft"} <= set(packages)


def test_a_package_that_is_not_installed_is_null(monkeypatch: pytest.MonkeyPatch, git: Git) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.provenance()["packages"] == {"no-such-package": None}


def test_provenance_is_json_that_describes_the_machine_without_naming_it() -> None:
    facts = provenance.provenance()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["python"] == platform.python_version()
    assert facts["cpu_count"] == os.cpu_count()
    assert platform.node() not in json.dumps(facts).split('"')  # the host name stays private


def test_the_version_has_one_value() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert __version__ == project.get("version", __version__)
