"""The parent's side: a fresh worker per cell, forked from a warm server, and what becomes of it.

Peak memory is then the cell's own, a killed worker takes nothing with it, and no cell pays the imports.
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

LULL = 1.0  # seconds between two questions for a job, where there was none for the moment


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.runner.preload"])
    return context


def check_in_worker(cells: list[Cell]) -> tuple[dict[str, str], str | None]:
    """Ask a worker to try each task's data and each method on an empty model.

    Gives why cells are left out, by their ids, and one line where something is wrong.
    """
    with _process("check", cells) as (_, pipe):
        try:
            misfits, complaint = pipe.recv()
        except EOFError:
            return {}, "the check of the configuration ended without an answer; run one cell to see why"
    return {name: _one_line(why) for name, why in misfits.items()}, _one_line(complaint) if complaint else None


def find_ranks_in_worker(configs: list[DictConfig]) -> list[int | str]:
    """Ask a worker for the rank that `match_params` chooses for each configuration, or why there is none.

    Raises:
        ValueError: A configuration is wrong for another reason.
    """
    with _process("ranks", configs) as (_, pipe):
        try:
            found, complaint = pipe.recv()
        except EOFError:
            raise ValueError("the search for ranks ended without an answer; give rank= to see why") from None
    if complaint:
        raise ValueError(_one_line(complaint))
    return [one if isinstance(one, int) else _one_line(one) for one in found]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def run_jobs(jobs: Iterator[Job | None], at_once: int) -> Generator[tuple[Job, Event | None]]:
    """Run jobs, each in a worker of its own, and give their events as they come; None at the end of a job.

    A worker that is killed ends with Broken. Closing the generator kills those that are at work.

    Args:
        jobs: Jobs in order; None where there is none for the moment.
        at_once: Workers at a time.
    """
    at_work: dict[Connection, tuple[Job, BaseProcess, ExitStack]] = {}
    more = True
    try:
        while more or at_work:
            while more and len(at_work) < at_once:
                try:
                    job = next(jobs)
                except StopIteration:
                    more = False
                    break
                if job is None:
                    break
                with ExitStack() as started:
                    process, pipe = started.enter_context(_process("job", job))
                    at_work[pipe] = job, process, started.pop_all()
            if not at_work:
                time.sleep(LULL if more else 0)
                continue
            for ready in wait(list(at_work), LULL if more and len(at_work) < at_once else None):
                pipe = cast(Connection, ready)
                job, process, started = at_work[pipe]
                try:
                    yield job, pipe.recv()
                except (EOFError, OSError):  # at its end, or in the middle of a message when it was killed
                    process.join()
                    code = process.exitcode
                    at_work.pop(pipe)
                    started.close()
                    if code:
                        yield job, Broken("failed", {"type": "WorkerDied", "message": _why(code)})
                    yield job, None
    finally:
        for _, _, started in at_work.values():
            started.close()


def _why(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often the system's answer to running out of memory)" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code}"


@contextmanager
def _process(kind: str, what: Any) -> Iterator[tuple["BaseProcess", Connection]]:
    """A worker and the pipe to listen on; it is killed when the caller leaves early."""
    ours, theirs = _server().Pipe(duplex=False)
    process = _server().Process(target=_enter, args=(kind, what, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()


def _enter(kind: str, what: Any, pipe: Connection) -> None:
    """The worker's first step: from here on it may import torch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches every process of the terminal; the parent decides
    from bench.runner import worker

    if kind == "check":
        worker.check_cells(what, pipe)
    elif kind == "ranks":
        worker.find_ranks(what, pipe)
    else:
        worker.main(what, pipe)
