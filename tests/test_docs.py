"""README and documentation: short where they should be, nothing said twice, no dead link, generated pages current."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from documentation import CONTRIBUTING, PAGES, README

from bench.report.figures.figures import FIGURES
from bench.report.tables.scores import TABLES

LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def paragraphs(path: Path) -> set[str]:
    """The paragraphs of prose, with their words one space apart; commands and tables are no prose."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    blocks = (" ".join(block.split()) for block in text.split("\n\n") if not block.startswith(("    ", "|", "#")))
    return {block for block in blocks if len(block.split()) >= 12}


def test_the_readme_is_a_front_door() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1000


def test_there_are_as_many_methods_as_stated() -> None:
    count = len(list((REPOSITORY / "conf" / "method").glob("*.yaml")))
    for page in (README, REPOSITORY / "docs" / "index.md"):
        stated = re.search(r"over (\d+) methods", page.read_text("utf-8").lower())
        assert stated, page
        assert count - 10 < int(stated[1]) < count, page


def test_the_page_of_reports_lists_every_table_and_figure() -> None:
    page = (REPOSITORY / "docs" / "report.md").read_text("utf-8")
    missing = [name for name in (*TABLES, *FIGURES) if f"`{name}`" not in page]
    assert not missing, "describe them in docs/report.md"


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_lines_are_short_apart_from_tables(path: Path) -> None:
    long = [line for line in path.read_text("utf-8").splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long


def test_readme_and_documentation_share_no_paragraph() -> None:
    assert not paragraphs(README) & {block for page in PAGES for block in paragraphs(page)}


@pytest.mark.parametrize("path", [README, CONTRIBUTING, *PAGES], ids=lambda path: path.name)
def test_no_link_is_dead(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text("utf-8")) if "://" not in target]
    assert not [target for target in targets if not (path.parent / target).exists()]


def test_the_page_of_methods_is_what_the_yaml_files_say() -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "methods_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
