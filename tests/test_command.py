"""The console command passes its arguments on to the entry points."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY


def run_command(*words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)])
def test_the_help_page_lists_every_command(words: tuple[str, ...]) -> None:
    code, page = run_command(*words)
    assert code == 0
    for word in ("peftgrid run", "peftgrid report", "peftgrid predict", "peftgrid sweeps"):
        assert word in page


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (("run", "--help"), "Compare parameter-efficient fine-tuning methods"),
        (("report", "--help"), "python -m bench.report"),
        (("predict", "--help"), "record=ID"),
    ],
)
def test_each_command_has_its_own_help(words: tuple[str, ...], page: str) -> None:
    code, help_page = run_command(*words)
    assert code == 0
    assert page in help_page


@pytest.mark.parametrize("words", [("run", "method=nothing"), ("method=nothing",), ("-m", "method=nothing")])
def test_run_is_the_default_command(words: tuple[str, ...]) -> None:
    code, complaint = run_command(*words)
    assert code == 2
    assert "'nothing'" in complaint or "method=nothing" in complaint


def test_an_unknown_command_is_named_with_the_valid_commands() -> None:
    code, complaint = run_command("rnu", "method=lora")
    assert code == 2
    assert complaint.strip() == "error: unknown command 'rnu'; valid commands: run, report, predict, sweeps"
