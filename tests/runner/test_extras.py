"""Extras such as saving may fail; the scores, the predictions and the cost are recorded all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_mcq_run import SMALL

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.events import Ended, Event, Probed
from bench.runner import packing as trials
from bench.runner import worker
from bench.runner.worker import Job, run_cell
from bench.tasks.encoding.forgetting import Retained


def broken(message: str) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise AttributeError(message)

    return fail


def events_of(cell: Cell) -> tuple[list[Probed], list[Ended]]:
    log: list[Event] = []
    run_cell(Job(cell, cell.trials, probe=True), log.append)
    return [event for event in log if isinstance(event, Probed)], [event for event in log if isinstance(event, Ended)]


@pytest.mark.parametrize("pack", ["1", "2"])
def test_a_save_that_fails_loses_no_score(
    pack: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*tiny, "method=lora", "seeds=[0,1]", f"pack={pack}", "save=merged", f"save_dir={tmp_path / 'saved'}"]
    (cell,) = cells(words, multirun=False)
    monkeypatch.setattr(trials, "keep", broken("no\nhead"))
    _, ended = events_of(cell)
    assert [end.outcome for end in ended] == ["ok", "ok"]
    for end in ended:
        assert end.saved is None
        assert end.error is not None
        assert (end.error["type"], end.error["message"]) == ("AttributeError", "save=merged failed: no head")
        assert "Traceback" in end.error["traceback"]
        assert end.scores is not None
        assert len((end.predictions or {})["report"]) == 40


def test_a_retention_that_fails_loses_no_score(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("The heart pumps blood.\nA lung.\n")
    words = [
        "task=medmcqa", f"task.path={questions}", *SMALL, "task.select_rows=12", "task.batch=8", "rank=4",
        "protocol.probe_steps=1", "seeds=[0,1]", "method=lora", f"retain={tmp_path / 'texts.txt'}",
        f"cache_dir={tmp_path / 'cache'}", f"save_dir={tmp_path / 'saved'}", "save=adapter",
    ]  # fmt: skip
    (cell,) = cells(words, multirun=False)
    monkeypatch.setattr(Retained, "entry", broken("no room"))
    _, ended = events_of(cell)
    assert [end.outcome for end in ended] == ["ok", "ok"]
    for end in ended:
        assert end.error is not None
        assert end.error["message"] == "retain= failed: no room"
        assert "retention" not in (end.scores or {"retention": None})
        assert Path(end.saved or "").is_dir()
    monkeypatch.setattr(trials, "keep", broken("a full disk"))
    _, (end, _) = events_of(cell)
    assert (end.error or {})["message"].splitlines() == ["retain= failed: no room", "save=adapter failed: a full disk"]


@pytest.mark.parametrize(("name", "extra"), [("merging", "merge=true"), ("saved_bytes", "saving the adapter")])
def test_a_part_of_the_cost_that_cannot_be_measured_stops_no_trial(
    name: str, extra: str, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells([*tiny, "method=lora", "seeds=[0]", "merge=true"], multirun=False)
    monkeypatch.setattr(worker, name, broken("not on this model"))
    ((probed,), (ended,)) = events_of(cell)
    assert ended.outcome == "ok"
    assert probed.error is not None
    assert probed.error["message"] == f"{extra} failed: not on this model"
    assert probed.cost["trainable_params"] > 0
    assert ("latency" in probed.cost, probed.cost["adapter_bytes"] is None) == (name != "merging", name != "merging")


def test_saving_again_replaces_the_saved_model_only_when_complete(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*tiny, "method=lora", "seeds=[0]", "save=adapter", f"save_dir={tmp_path / 'saved'}"]
    (cell,) = cells(words, multirun=False)
    _, (first,) = events_of(cell)
    folder = Path(first.saved or "")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in folder.parent.iterdir()} == {"adapter"}

    def half(model: Any, folder: Path, attach: Any) -> None:
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bench.runner.build.save_adapter", half)
        _, (second,) = events_of(cell)
    assert "No space left" in (second.error or {})["message"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    _, (third,) = events_of(cell)
    assert (third.saved, third.error) == (first.saved, None)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in folder.parent.iterdir()} == {"adapter"}
