"""`match_params` chooses each cell's rank by its count of trained parameters, and nothing else about the cell."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cells.cell import Cell
from bench.config import compose as grid
from bench.config import rank_budget as budget
from bench.measure.parameters import count
from bench.models.load import load_model
from bench.records import record as records
from bench.runner.build import method_of
from bench.runner.rank_search import nearest

Run = Callable[..., subprocess.CompletedProcess[str]]
BUDGET = 1300


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """The tiny model, with no rank given."""
    return [word for word in tiny if not word.startswith("rank=")]


def trained(overrides: list[str], method: str, rank: int) -> int | None:
    """Return a method's trained parameters at a rank without the head, or None if the rank is refused."""
    (cell,) = grid.cells([*overrides, f"method={method}", f"rank={rank}"], multirun=False)
    return count_of(cell)


def count_of(cell: Cell) -> int | None:
    """Return a cell's trained parameters without the head, counted on a model with weights, or None if refused."""
    try:
        counted = count(method_of(cell)(load_model(cell.source, cell.outputs, seed=0)))
    except ValueError:
        return None
    return counted.trainable - counted.head


@pytest.mark.filterwarnings("ignore")  # PEFT's warnings about itself
@pytest.mark.parametrize(("method", "budget", "rank"), [
    ("lora", 1400, 5), ("adapter_pfeiffer", 1120, 8), ("pissa", 1024, 4), ("oft", 460, 8), ("boft", 1200, 8),
    ("shira", 1300, 5),
])  # fmt: skip
def test_the_rank_is_the_largest_whose_count_is_within_the_budget(
    method: str, budget: int, rank: int, small: list[str]
) -> None:
    """The parameters are counted again on a model with weights, at this rank and at the next one."""
    (cell,) = grid.cells([*small, f"method={method}", f"match_params={budget}"], multirun=False)
    assert cell.rank == rank
    following: Any = trained(small, method, rank + cell.conf.method.rank_step)
    assert 0.9 * budget <= (count_of(cell) or 0) <= budget
    assert following in {None, count_of(cell)} or following > budget


def test_the_search_handles_a_method_that_trains_less_at_a_higher_rank(small: list[str]) -> None:
    (cell,) = grid.cells([*small, "method=randlora", "match_params=1000"], multirun=False)
    assert (cell.rank, count_of(cell), trained(small, "randlora", 4)) == (6, 912, 1152)


@pytest.mark.parametrize(("counts", "limit", "expected"), [
    ([10, 20, 30, 40], 35, 2),
    ([10, 20, 30, 40], 40, 3),
    ([10, 20, 30, 40], 9, None),
    ([10, None, 30, None, 50, None, None, 90], 60, 4),
    ([None, None, 30, 40], 29, None),
    ([None, 5, None, None, None, None], 9, 1),
    ([10, 20, 20, 20, 20, 50], 20, 1),
    (list(range(1000)), 777, 777),
    ([number**2 for number in range(1000)], 777**2, 777),
    ([number // 9 for number in range(1000)], 70, 630),
])  # fmt: skip
def test_the_search_finds_the_last_place_within_a_limit(
    counts: list[int | None], limit: int, expected: int | None
) -> None:
    """None is a rank that the method refuses. Of equal counts, the first is chosen."""
    assert nearest(counts.__getitem__, len(counts), limit) == expected


def test_the_search_counts_few_ranks() -> None:
    seen: set[int] = set()

    def count(place: int) -> int:
        seen.add(place)
        return 100 + 12 * place

    assert nearest(count, 400, 1000) == 75
    assert len(seen) == 5


def test_a_matched_cell_is_the_cell_of_that_rank(small: list[str]) -> None:
    (matched,) = grid.cells([*small, f"match_params={BUDGET}"], multirun=False)
    (same,) = grid.cells([*small, f"rank={matched.rank}"], multirun=False)
    assert (matched.id, matched.folder) == (same.id, same.folder)
    assert matched.config | {"match_params": None} == same.config
    assert matched.config["match_params"] == BUDGET


def test_a_grid_skips_methods_without_a_rank_near_the_budget(small: list[str]) -> None:
    messages: list[str] = []
    kept = grid.cells(
        [*small, "method=lora,bitfit,top_k,vera,loftq", "target=q,qv", f"match_params={BUDGET}"],
        multirun=True,
        say=messages.append,
    )
    assert [cell.title for cell in kept] == ["lora r=10 q", "lora r=5 qv"]
    assert len(messages) == 5
    assert "'bitfit' has no rank" in messages[0]
    assert "top_k" in messages[1]
    assert "rank=1 trains" in messages[1]
    assert "more than match_params=1,300" in messages[1]
    assert all("vera" in line and "10% below match_params=1,300" in line for line in messages[2:4])
    assert "'loftq' needs a CUDA device" in messages[4]


def test_one_worker_searches_for_a_whole_grid(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    batch_sizes: list[int] = []
    search = budget.find_ranks_in_worker

    def counted(configs: list[Any]) -> list[int | str]:
        batch_sizes.append(len(configs))
        return search(configs)

    monkeypatch.setattr(budget, "find_ranks_in_worker", counted)
    monkeypatch.setattr(budget, "FOUND", {})
    overrides = [*small, "method=lora,dora", "target=q,v", "match_params=1400"]
    first = grid.cells(overrides, multirun=True)
    assert batch_sizes == [4]
    assert [cell.id for cell in grid.cells(overrides, multirun=True)] == [cell.id for cell in first]
    assert batch_sizes == [4]


@pytest.mark.parametrize(("arguments", "words"), [
    (["match_params=1500", "rank=4"], ["match_params=1500 chooses the rank", "leave out rank=4"]),
    (["-m", "match_params=1500", "rank=4,8"], ["match_params=1500 chooses the rank", "leave out rank=4,8"]),
    (["-m", "match_params=1500", "+sweeps=soft_prompts"], ["match_params=1500", "the sweep lists rank=4,16,64"]),
    (["match_params=0"], ["match_params=0", "at least 1"]),
    (["match_params=lots"], ["match_params", "lots"]),
    (["match_params=1500", "method=bitfit"], ["'bitfit' has no rank", "leave out match_params"]),
    (["match_params=1500", "method=head"], ["'head' has no rank"]),
    (["match_params=10"], ["lora qv on tiny-bert", "rank=1 trains 256", "more than match_params=10"]),
    (["match_params=1500", "method=lokr"], ["lokr qv", "10% below match_params=1,500"]),
    (["match_params=1500", "method=vblora", "method.attach.config.vector_length=5"], ["vblora qv on", "divisible"]),
    (["match_params=1500", "+method.attach.config.bogus=1"], ["bogus"]),
])  # fmt: skip
def test_a_budget_that_cannot_be_matched_is_one_clear_line(
    arguments: list[str], words: list[str], small: list[str], inline: Run, tmp_path: Path
) -> None:
    flags = [argument for argument in arguments if argument == "-m"]
    done = inline(*flags, *small, *arguments[len(flags) :])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert [word for word in words if word not in done.stderr.replace(str(tmp_path), "")] == []
    assert not (tmp_path / "results").exists()


def test_a_matched_cell_trains_at_its_rank_and_records_the_budget(
    small: list[str], inline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid's check composes the cell before the job does, and one search serves both."""
    monkeypatch.setattr(budget, "FOUND", {})
    done = inline("-m", *small, "method=lora,bitfit", f"match_params={BUDGET}", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    assert "left out: method 'bitfit' has no rank" in done.stderr
    assert len(budget.FOUND) == 2
    stored = list(records.read_all(tmp_path / "results", pytest.fail))
    assert {(record.config["match_params"], record.config["rank"], record.cell["rank"]) for record in stored} == {
        (BUDGET, 5, 5)
    }
    (cost,) = (record.cost for record in stored if record.kind == "probe")
    assert cost is not None
    assert cost["trainable_params"] - cost["head_params"] == 1280
    again = inline(*small, "method=lora", "rank=5", "seeds=[0]")
    assert "1 recorded, 0 to train" in again.stderr + again.stdout
