"""The wheel contains everything that a run needs, and runs from an empty folder."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.skipif(find_spec("hatchling") is None, reason="the wheel is built by hatchling: install it")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def bench_of_wheel(installed: Path, bench: Run) -> Run:
    """The `bench` fixture, run from the wheel in an empty folder."""
    return lambda *arguments, **more: bench(*arguments, env={"PYTHONPATH": path_with(installed)}, **more)


def test_the_wheel_holds_every_file_of_the_package_and_of_the_configuration(wheel: zipfile.ZipFile) -> None:
    ours = {path for path in (REPOSITORY / "bench").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    expected = {path.relative_to(REPOSITORY).as_posix(): path for path in ours}
    for path in (path for folder in ("conf", "sweeps") for path in (REPOSITORY / folder).rglob("*.yaml")):
        expected[f"bench/{path.relative_to(REPOSITORY).as_posix()}"] = path
    assert {"bench/conf/config.yaml", "bench/conf/hydra/help/bench.yaml", "bench/tasks/data/reviews.tsv"} <= set(
        expected
    )
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == set(expected)
    for name, path in expected.items():
        assert wheel.read(name) == path.read_bytes()


def test_the_wheel_holds_both_licences(wheel: zipfile.ZipFile) -> None:
    held = [name for name in wheel.namelist() if ".dist-info/licenses/" in name]
    for name in ("LICENSE", "bench/tasks/data/reviews.LICENSE.md"):
        (stored,) = [entry for entry in held if entry.endswith(f"/licenses/{name}")]
        assert wheel.read(stored) == (REPOSITORY / name).read_bytes()
    assert "bench/tasks/data/reviews.LICENSE.md" in wheel.namelist()  # also next to the data


def test_the_wheel_holds_nothing_of_tests_results_and_data(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0].partition("-")[0] for name in wheel.namelist()} == {"bench", "peftgrid"}
    words = ("test", "conftest", "__pycache__", ".git", "outputs/", "results", "wandb/run", "wandb/offline")
    assert not [name for name in wheel.namelist() if any(word in name for word in words)]


def test_the_command_of_the_wheel_exists(wheel: zipfile.ZipFile) -> None:
    parser = ConfigParser()
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    parser.read_string(wheel.read(name).decode())
    assert dict(parser["console_scripts"]) == {"peftgrid": "bench.__main__:cli"}
    from bench.run import cli

    assert callable(cli)


def test_the_wheel_is_imported_and_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    """The checkout is installed too, but it is not imported."""
    command = [
        sys.executable,
        "-c",
        "import bench, bench.config.compose\nprint(bench.__file__, bench.config.compose.CONF, sep='\\n')",
    ]
    env = {**os.environ, "PYTHONPATH": path_with(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [str(installed / "bench" / "__init__.py"), str(installed / "bench" / "conf")]


@pytest.mark.parametrize(("argument", "words"), [
    ("--cfg=job", ["name: lora", "label: minilm", "seeds:"]), ("--help", ["bitfit", "minilm", "Exit codes"]),
])  # fmt: skip
def test_the_wheel_composes_its_own_configuration(
    argument: str, words: list[str], bench_of_wheel: Run, tmp_path: Path
) -> None:
    done = bench_of_wheel("run", argument)
    assert (done.returncode, done.stderr) == (0, "")
    assert [word for word in words if word in done.stdout] == words
    assert not list(tmp_path.iterdir())


def test_the_wheel_trains_and_reports_in_an_empty_folder(bench_of_wheel: Run, tiny_bert: Path, tmp_path: Path) -> None:
    """The run uses the data in the wheel."""
    done = bench_of_wheel(
        "run", f"model.name={tiny_bert}", "method=head", "protocol=smoke", "protocol.max_length=32", "seeds=[0]",
        "track=off", "cache_dir=cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 ok" in done.stdout
    shown = bench_of_wheel("report")
    assert shown.returncode == 0, shown.stderr
    assert "480 report examples" in shown.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"results", "cache", "outputs"}
