"""The console command passes its words on to the entry points."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY


def said(*words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)])
def test_it_says_what_there_is(words: tuple[str, ...]) -> None:
    code, page = said(*words)
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
def test_a_word_is_an_entry_point_with_its_own_help(words: tuple[str, ...], page: str) -> None:
    code, help_page = said(*words)
    assert code == 0
    assert page in help_page


@pytest.mark.parametrize("words", [("run", "method=nothing"), ("method=nothing",), ("-m", "method=nothing")])
def test_without_a_word_run_is_meant(words: tuple[str, ...]) -> None:
    code, complaint = said(*words)
    assert code == 2
    assert "'nothing'" in complaint or "method=nothing" in complaint


def test_a_word_that_is_unknown_is_named_with_the_choice() -> None:
    code, complaint = said("rnu", "method=lora")
    assert code == 2
    assert complaint.strip() == "error: unknown command 'rnu'; valid commands: run, report, predict, sweeps"
