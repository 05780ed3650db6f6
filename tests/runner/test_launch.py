"""Workers that have ended leave nothing behind in the process that started them."""

import psutil

from bench.config.compose import cells
from bench.runner import launch
from bench.runner.job import Job


def test_finished_workers_hold_no_files_open(tiny: list[str]) -> None:
    """A grid of thousands of cells must not run out of file descriptors."""
    (cell,) = cells(["method=lora", *tiny, "lrs=published"], multirun=False)
    open_files = []
    for _, event in launch.run_jobs(iter([Job(cell) for _ in range(5)]), 1):
        if event is None:
            open_files.append(psutil.Process().num_fds())
    assert len(open_files) == 5
    assert open_files[-1] == open_files[1]  # the first job starts the server
