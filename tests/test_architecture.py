"""The structure of the package follows the data: allowed imports, heavy imports, and sizes of files and functions."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from bench.report.figures.figures import FIGURES, OVER_TASKS
from bench.report.tables.scores import TABLES

FILES = sorted((REPOSITORY / "bench").rglob("*.py"))
HEAVY = {"torch", "transformers", "peft", "datasets", "bitsandbytes", "wandb"}

# The rooms that each room may import from; a room may always import from itself. A room is a folder of bench/, a file
# at its top, or a file that others may import without the rest of its folder. Every room must be listed.
ROOMS = {
    "bench": set(),
    "cli": set(),
    "events": set(),
    "hooks": set(),
    "files": set(),
    "config.enums": set(),
    "records.record": {"files"},
    "config": {"files", "records.record"},
    "models": {"config", "files"},
    "tasks": {"config", "files"},
    "cells": {"config", "models", "tasks"},
    "methods": {"config", "hooks", "models"},
    "train": {"config", "events", "hooks", "models", "tasks"},
    "measure": {"models", "tasks", "train"},
    "records": {"bench", "cells", "config", "files", "records.record", "tasks"},
    "runner.build": {"cells", "config", "hooks", "methods", "models", "tasks", "train"},
    "runner.wandb_session": set(),
    "runner": {
        *("cells", "config", "events", "measure", "methods", "models", "records", "records.record"),
        *("cli", "runner.build", "runner.wandb_session", "tasks", "train"),
    },
    "config.rank_budget": {"cells", "runner"},
    "config.compose": {"cells", "config", "config.rank_budget"},
    "__main__": set(),
    "agent": {"config", "config.compose"},
    "inference": {"cells", "config", "files", "methods", "models", "records.record", "runner.build", "tasks", "train"},
    "report": {"cli", "files", "records", "records.record", "runner.wandb_session"},
    "run": {"cells", "config", "config.compose", "config.rank_budget", "records", "report", "runner"},
    "predict": {"cli", "files", "inference", "records.record"},
}
OPEN = {"config.enums"}  # enums only: every room may import them
# Files whose import may take seconds: the worker and the files that only it uses.
TORCH = {
    "hooks.py",
    "inference/answerer.py",
    "measure/",
    "methods/",
    "models/class_swap.py",
    "models/description.py",
    "models/load.py",
    "models/masked_lm.py",
    "models/quant.py",
    "models/speed/",
    "models/structure.py",
    "models/tokenizer.py",
    "models/vmap/",
    "runner/build.py",
    "runner/inputs.py",
    "runner/packing.py",
    "runner/preload.py",
    "runner/racing.py",
    "runner/rank_search.py",
    "runner/setup.py",
    "runner/worker.py",
    "tasks/encoding/cloze.py",
    "tasks/encoding/forgetting.py",
    "tasks/encoding/multiple_choice.py",
    "tasks/encoding/rows.py",
    "tasks/encoding/template.py",
    "tasks/encoding/token_cache.py",
    "tasks/encoding/written.py",
    "tasks/metrics.py",
    "tasks/outputs.py",
    "train/",
}
AT_THE_TOP = 8  # maximum number of files directly in bench/
COMMAND_LINE = (
    "bench.run",
    "bench.report.__main__",
    "bench.predict",
    "bench.config.compose",
    "bench.runner.sweep",
    "bench.runner.launch",
    "bench.runner.wandb_runs",
)


def name_of(path: Path) -> str:
    """Return a file's path below bench/."""
    return path.relative_to(REPOSITORY / "bench").as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    """Return the file if it is a room by itself, else the first name below bench. The package itself is a room too."""
    _, _, below = module.partition(".")
    return below if below in ROOMS else below.partition(".")[0] or module


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def imported(tree: ast.AST, *, deferred: bool) -> Iterator[str]:
    """Yield the full names of imported modules, but not those imported for type checkers only.

    deferred: whether imports inside functions count too.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:  # `from bench import records` names a module, `... import __version__` a value
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif deferred or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imported(node, deferred=deferred)


def ours(path: Path, *, deferred: bool = True) -> set[str]:
    return {name for name in imported(parsed(path), deferred=deferred) if name.split(".")[0] == "bench"}


def every(path: Path) -> set[str]:
    """Return the top-level names of everything that a file imports anywhere."""
    return {name.split(".")[0] for name in imported(parsed(path), deferred=True)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_only_from_allowed_rooms(path: Path) -> None:
    room = room_of(module_of(path))
    assert room in ROOMS, f"bench/{name_of(path)} has no place yet: give it one in ROOMS"
    wrong = {name for name in ours(path) if room_of(name) not in ROOMS[room] | OPEN | {room}}
    assert not wrong, f"bench/{name_of(path)} imports {wrong}; allowed: {ROOMS[room] or 'nothing of bench'}"


def test_every_room_and_every_imported_module_exists() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    assert {name for path in FILES for name in ours(path)} <= set(MODULES)


def test_imports_between_rooms_have_no_cycle() -> None:
    assert list(TopologicalSorter(ROOMS).static_order())  # raises CycleError if there is a cycle


def test_imports_between_modules_have_no_cycle() -> None:
    assert list(TopologicalSorter({module: ours(path) for module, path in MODULES.items()}).static_order())


def test_methods_and_tasks_depend_neither_on_training_nor_on_each_other() -> None:
    """A method sees only a model, and a task only its files."""
    assert ROOMS["methods"] == {"config", "hooks", "models"}
    assert ROOMS["tasks"] == {"config", "files"}
    assert not ROOMS["train"] & {"methods", "records", "report", "runner"}
    assert not [room for room, allowed in ROOMS.items() if {"run", "predict"} & allowed]
    assert [room for room, allowed in ROOMS.items() if "report" in allowed] == ["run"]  # a run ends with its table


def may_be_heavy(path: Path) -> bool:
    return any(name_of(path) == place or (place.endswith("/") and name_of(path).startswith(place)) for place in TORCH)


@pytest.mark.parametrize("path", [path for path in FILES if not may_be_heavy(path)], ids=name_of)
def test_light_files_import_no_heavy_package(path: Path) -> None:
    imports = {name.split(".")[0] for name in imported(parsed(path), deferred=False)}
    assert not imports & HEAVY


@pytest.mark.parametrize("start", COMMAND_LINE)
def test_the_command_line_reaches_no_heavy_file(start: str) -> None:
    reached, waiting = set(), {start}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= ours(MODULES[module], deferred=False) - reached
    assert not [name for name in reached if may_be_heavy(MODULES[name]) and MODULES[name].name != "__init__.py"]


def test_only_the_tracker_and_the_upload_of_reports_import_wandb() -> None:
    importers = {name_of(path) for path in FILES if "wandb" in every(path)}
    assert importers == {
        *("runner/wandb_runs.py", "runner/wandb_session.py"),
        *("report/wandb/upload.py", "report/wandb/workspace.py"),
    }


def test_only_heavy_files_import_torch_anywhere() -> None:
    assert not [name_of(path) for path in FILES if "torch" in every(path) and not may_be_heavy(path)]


@pytest.mark.parametrize(
    "name",
    [
        "files/atomic.py",
        "files/hashing.py",
        "records/record.py",
        "records/provenance.py",
        "events.py",
        "config/schema.py",
        "config/method_schema.py",
    ],
)
def test_widely_imported_files_have_few_dependencies(name: str) -> None:
    dependencies = every(REPOSITORY / "bench" / name) - sys.stdlib_module_names
    assert dependencies <= {"bench", "hydra", "omegaconf", "orjson"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 320
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert not [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > 60]


def test_the_package_has_few_files_at_its_top() -> None:
    assert len(list((REPOSITORY / "bench").glob("*.py"))) <= AT_THE_TOP


def test_no_file_or_folder_has_a_catch_all_name() -> None:
    names = {part.removesuffix(".py") for path in FILES for part in name_of(path).split("/")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_downloaded_code_is_never_executed(path: Path) -> None:
    """This covers code from model repositories, pickles and evaluated text."""
    for call in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        called = ast.unparse(call.func)
        assert given.get("trust_remote_code", "False") == "False", call.lineno
        assert called != "torch.load" or given.get("weights_only") == "True", call.lineno
        assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "os.system"}, call.lineno
        assert given.get("shell", "False") == "False", call.lineno
        if called.endswith(".from_pretrained"):
            assert given.get("trust_remote_code") == "False", f"line {call.lineno}: say trust_remote_code=False"


def test_every_file_has_a_docstring() -> None:
    assert not [name_of(path) for path in FILES if path.stat().st_size and not ast.get_docstring(parsed(path))]


@pytest.mark.parametrize(("folder", "registry"), [("tables", TABLES), ("figures", FIGURES | OVER_TASKS)])
def test_every_table_and_figure_is_registered(folder: str, registry: dict[str, Any]) -> None:
    """A public function of a study and a metric is a table or a figure, so `table=` or `figure=` must know it."""
    registered = {function.__name__ for function in registry.values()}
    defined = {
        node.name: name_of(path)
        for path in (REPOSITORY / "bench" / "report" / folder).glob("*.py")
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and [argument.arg for argument in node.args.args][:2] in (["study", "metric"], ["study"])
        and ast.unparse(node.returns or ast.Constant(None)) in {"Table | None", "Figure | None", "go.Figure | None"}
    }
    assert len(defined) > 5
    assert not {name: path for name, path in defined.items() if name not in registered}, f"add them to {folder.upper()}"


def test_public_functions_and_classes_have_unique_names() -> None:
    """Exceptions are the names shared by every method and every loader, and the entry points."""
    seams = {"attach", "load", "cli"}
    named: dict[str, list[str]] = {}
    for path in FILES:
        for node in parsed(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(name_of(path))
    assert not {name: places for name, places in named.items() if len(places) > 1 and name not in seams}


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield every name that a file defines or uses."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


@pytest.mark.parametrize("folder", ["bench", "tests", "benchmarks", "tools"])
def test_names_say_what_things_are(folder: str) -> None:
    """Names such as `records` or `message`, not ones that fit anything."""
    vague = {"found", "one", "told", "beside", "plain", "of_name"}
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    used = {path.relative_to(REPOSITORY).as_posix(): vague & set(names_in(parsed(path))) for path in files}
    assert files
    assert not {path: names for path, names in used.items() if names}


def test_the_tests_mirror_the_package() -> None:
    """Every folder of tests is a folder of the package. Tests of the whole repository are at the top."""
    tests = REPOSITORY / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert not [folder for folder in folders if not (REPOSITORY / "bench" / folder).is_dir()]
    names = [path.name for path in tests.rglob("test_*.py")]
    assert len(names) == len(set(names))  # tests import each other by file name
