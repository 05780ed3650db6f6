"""The parent's side: fork a fresh worker for each cell from a warm server, and handle its end.

With one process per cell, peak memory belongs to that cell alone and a killed worker affects no other cell. The server
has already imported the libraries, so no cell pays for the imports.
"""

import multiprocessing
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig

from bench.cells.cell import Cell
from bench.events import Broken, Event
from bench.runner.job import Job

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

LULL = 1.0  # seconds before asking for a job again when none was ready


@cache
def _server() -> ForkServerContext:
    """Return the fork server that preloads the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.runner.preload"])
    return context


def check_in_worker(cells: list[Cell]) -> tuple[dict[str, str], str | None]:
    """Check each task's data, and each method on a model without weights, in a worker.

    Args:
        cells: The cells.

    Returns:
        The reasons for skipping cells, by cell id; and a one-line error message, or None.
    """
    with _worker_process("check", cells) as (_, pipe):
        try:
            misfits, complaint = pipe.recv()
        except EOFError:
            return {}, "the check of the configuration ended without an answer; run one cell to see why"
    reasons = {name: _one_line(reason) for name, reason in misfits.items()}
    return reasons, _one_line(complaint) if complaint else None


def find_ranks_in_worker(configs: list[DictConfig]) -> list[int | str]:
    """Find the rank that `match_params` chooses for each configuration, in a worker.

    Args:
        configs: Composed configurations.

    Returns:
        For each configuration its rank, or a line that says why it has none.

    Raises:
        ValueError: A configuration is wrong for another reason.
    """
    with _worker_process("ranks", configs) as (_, pipe):
        try:
            ranks, complaint = pipe.recv()
        except EOFError:
            raise ValueError("the search for ranks ended without an answer; give rank= to see why") from None
    if complaint:
        raise ValueError(_one_line(complaint))
    return [rank if isinstance(rank, int) else _one_line(rank) for rank in ranks]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def run_jobs(jobs: Iterator[Job | None], at_once: int) -> Generator[tuple[Job, Event | None]]:
    """Run jobs, each in its own worker, and yield their events as they arrive.

    A worker that is killed produces a `Broken` event. Closing the generator kills the workers that are still running.

    Args:
        jobs: Jobs in order; None if no job is ready at the moment.
        at_once: Maximum number of workers at the same time.

    Yields:
        A job and its event; None in place of the event at the end of the job.
    """
    at_work: dict[Connection, tuple[Job, BaseProcess, ExitStack]] = {}
    jobs_left = True
    try:
        while jobs_left or at_work:
            while jobs_left and len(at_work) < at_once:
                try:
                    job = next(jobs)
                except StopIteration:
                    jobs_left = False
                    break
                if job is None:
                    break
                with ExitStack() as worker:
                    process, pipe = worker.enter_context(_worker_process("job", job))
                    at_work[pipe] = job, process, worker.pop_all()
            if not at_work:
                time.sleep(LULL if jobs_left else 0)
                continue
            for ready in wait(list(at_work), LULL if jobs_left and len(at_work) < at_once else None):
                pipe = cast(Connection, ready)
                job, process, worker = at_work[pipe]
                try:
                    yield job, pipe.recv()
                except (EOFError, OSError):  # the worker ended, or was killed in the middle of a message
                    process.join()
                    code = process.exitcode
                    at_work.pop(pipe)
                    worker.close()
                    if code:
                        yield job, Broken("failed", {"type": "WorkerDied", "message": _death_message(code)})
                    yield job, None
    finally:
        for _, _, worker in at_work.values():
            worker.close()


def _death_message(code: int) -> str:
    """Say how a worker died, from its exit code. A negative code is the number of a signal."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often because the system ran out of memory)" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code}"


@contextmanager
def _worker_process(kind: str, payload: Any) -> Iterator[tuple["BaseProcess", Connection]]:
    """Start a worker, and yield it with the pipe to read from. It is killed if the caller leaves early."""
    ours, theirs = _server().Pipe(duplex=False)
    process = _server().Process(target=_enter, args=(kind, payload, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()


def _enter(kind: str, payload: Any, pipe: Connection) -> None:
    """Run in the new worker process, which may import torch from here on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent handles it
    from bench.runner import worker

    if kind == "check":
        worker.check_cells(payload, pipe)
    elif kind == "ranks":
        worker.find_ranks(payload, pipe)
    else:
        worker.main(payload, pipe)
