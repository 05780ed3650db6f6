"""The peak memory of a cell covers its own training, not what its process held or did before."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import CPU, training
from test_probe import FAST, a_cell

from bench.measure.memory import peak_bytes, reset_peak, resident_bytes
from bench.runner import worker
from bench.runner.setup import CellSetup

MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the peak of a process for good")


def allocated(size: int) -> torch.Tensor:
    return torch.ones(size, dtype=torch.uint8)


@linux
def test_resetting_starts_a_new_peak() -> None:
    del (large := {"tensor": allocated(300 * MIB)})["tensor"]
    assert not large
    reset_peak(CPU)
    peak, now = peak_bytes(CPU)["peak_resident_bytes"], resident_bytes()
    assert peak is not None
    assert abs(peak - now) < 50 * MIB


@linux
def test_memory_held_before_the_model_is_not_part_of_the_cells_own_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = CellSetup(a_cell(tmp_path), training(), FAST)

    def cost(own: int) -> dict[str, Any]:
        """Return the cost of a cell whose model takes `own` MiB."""
        model: list[torch.Tensor] = []
        monkeypatch.setattr(worker, "build", lambda *_, **__: model.append(allocated(own * MIB)))

        def probe(*_: Any, **__: Any) -> dict[str, Any]:
            reset_peak(CPU)
            assert model
            return dict(peak_bytes(CPU))

        monkeypatch.setattr(worker, "probe", probe)
        return worker.measure_cost(setup).cost

    monkeypatch.setattr(worker, "saved_bytes", lambda *_: 0)
    small, large = cost(100), cost(300)
    server = allocated(400 * MIB)
    small_with_server = cost(100)
    assert len(server) == 400 * MIB
    assert abs(large["peak_own_bytes"] - 300 * MIB) < 50 * MIB
    for measured in (small, small_with_server):
        assert abs(measured["peak_own_bytes"] - 100 * MIB) < 50 * MIB
    assert small_with_server["peak_resident_bytes"] - small["peak_resident_bytes"] > 350 * MIB
