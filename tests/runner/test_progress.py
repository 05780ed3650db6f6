"""What a user sees of a sweep: every outcome, on a terminal and in a file, and a sensible estimate of the time left."""

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.events import Broken, Ended, Event, Probed, Ready, Started, Stepped
from bench.runner import clock, progress
from bench.runner.clock import Clock
from bench.runner.progress import Display

TRIAL = "0123456789-lr0.001-seed0"
COST = {"train_seconds": 12.4, "samples_per_second": 345.6, "steps": 7}
OK = Ended(TRIAL, "ok", {"select": 0.9123, "report": 0.8765}, cost=COST)
READY = Ready({"device_name": "a CPU", "threads": 2, "dtype": "fp32"}, {"train": 12_800, "select": 1000, "report": 872})
STEPPED = Stepped(TRIAL, {"step": [9.0, 10.0], "loss": [0.7, 0.6543]}, 345.6)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The current time, which a test sets by now[0]."""
    time = [1000.0]
    for module in (clock, progress):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


def shown(*events: Event, terminal: bool = False, trials: int = 4) -> str:
    """Return the output of a display of two cells for these events of the first cell."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, soft_wrap=True, color_system=None)
    with Display(2, trials, console) as display:
        cell = display.begin_cell("a", "lora r=8 qv", trials)
        for event in events:
            cell.tell(event, "lr0.001-seed0")
    return screen.getvalue()


def test_a_finished_trial_is_a_line_with_its_scores(now: list[float]) -> None:
    assert shown(Started(TRIAL, 10), OK).splitlines() == [
        "cell 1/2 lora r=8 qv lr0.001-seed0: select 0.912 report 0.876 in 12 s, 346 samples/s  left 0:00:00"
    ]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("outcome", ["oom", "failed", "diverged", "interrupted"])
@pytest.mark.parametrize(("error", "ending"), [
    ({"type": "E", "message": "no memory\nat line 3", "traceback": ""}, ": no memory  left"),
    ({"type": "MemoryError", "message": "", "traceback": ""}, "  left"),
    ({"type": "E", "message": "\n\nlate", "traceback": ""}, ": late  left"),
    (None, "  left"),
])  # fmt: skip
def test_every_outcome_is_one_line_whatever_the_error_says(
    error: dict[str, str] | None, ending: str, outcome: str, now: list[float], *, terminal: bool
) -> None:
    out = shown(Started(TRIAL, 10), Ended(TRIAL, outcome, error=error), terminal=terminal)
    (line,) = [line for line in out.splitlines() if "lr0.001-seed0: " in line]
    assert f"lr0.001-seed0: {outcome}{ending}" in line


def test_all_trials_of_a_broken_cell_are_shown_even_if_they_never_started(now: list[float]) -> None:
    killed = Ended(TRIAL, "failed", error={"message": "the worker was killed by SIGKILL"})
    out = shown(Started(TRIAL, 10), Broken("failed", {"message": "x"}), killed, killed)
    assert out.count("failed: the worker was killed by SIGKILL") == 2


def test_data_and_device_are_shown_once(now: list[float]) -> None:
    screen = StringIO()
    with Display(2, 2, Console(file=screen, width=120)) as display:
        for _ in range(2):
            display.begin_cell("a", "full", 1).tell(READY, "")
    line = "data: train 12,800, select 1,000, report 872; a CPU, 2 threads, fp32"
    assert screen.getvalue().count(line) == 1


def test_the_cost_is_shown(now: list[float]) -> None:
    probed = Probed({"trainable_params": 1_234_567, "total_params": 22_713_986, "samples_per_second": 99.6})
    assert "lora r=8 qv: 1,234,567 of 22,713,986 parameters, 100 samples/s" in shown(probed)


def test_a_disturbance_of_the_cost_is_shown(now: list[float]) -> None:
    cost = {
        "trainable_params": 1,
        "total_params": 2,
        "samples_per_second": 9.6,
        "contended": "the blocks differ by 30%",
    }
    assert "the blocks differ by 30% during the measurement" in shown(Probed(cost))
    assert "during the measurement" not in shown(Probed(cost | {"contended": None}))


def test_a_file_gets_a_line_about_a_long_trial_at_intervals(now: list[float]) -> None:
    screen = StringIO()
    with Display(1, 1, Console(file=screen, width=120, soft_wrap=True)) as display:
        cell = display.begin_cell("a", "full", 1)
        cell.tell(Started(TRIAL, 10), "")
        for seconds in (1, 10, progress.PLAIN_SECONDS - 1):
            now[0] = 1000 + seconds
            cell.tell(STEPPED, "")
        assert not screen.getvalue()
        for seconds in (progress.PLAIN_SECONDS + 1, progress.PLAIN_SECONDS + 2):
            now[0] = 1000 + seconds
            cell.tell(STEPPED, "")
    (line,) = screen.getvalue().splitlines()
    assert line == "cell 1/1 full trial 1/1 step 10/10 loss 0.654 346 samples/s left 0:00:00"


def test_a_terminal_shows_the_running_trial_live(now: list[float]) -> None:
    out = shown(READY, Started(TRIAL, 20), STEPPED, OK, terminal=True)
    assert "cell 1/2 lora r=8 qv trial 1/4" in out
    assert "step 10/20 loss 0.654" in out


def test_a_message_is_shown_verbatim() -> None:
    screen = StringIO()
    Display(1, 1, Console(file=screen, width=20, soft_wrap=True)).say("a [bold]very[/bold] long line, 'lrs=[1e-4]'")
    assert screen.getvalue() == "a [bold]very[/bold] long line, 'lrs=[1e-4]'\n"


def trial(clock: Clock, now: list[float], seconds: float) -> None:
    clock.start(TRIAL)
    now[0] += seconds
    clock.finish(TRIAL)


def test_no_time_left_is_known_before_the_first_steps(now: list[float]) -> None:
    clock = Clock(3)
    assert clock.remaining() == "-"
    clock.start(TRIAL)
    now[0] += 50
    clock.advance(TRIAL, 0.05)
    assert clock.remaining() == "-"


def test_time_left_follows_the_mean_time_of_a_trial(now: list[float]) -> None:
    clock = Clock(4)
    trial(clock, now, 10)
    trial(clock, now, 30)
    assert clock.remaining() == "0:00:40"
    clock.start(TRIAL)
    now[0] += 10
    clock.advance(TRIAL, 0.5)  # half of a trial of 20 seconds, and one more trial
    assert clock.remaining() == "0:00:30"


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.4, "0:00:59"), (60, "0:01:00"), (3599.6, "1:00:00"), (90_061, "25:01:01")]
)
def test_time_left_reads_as_hours_minutes_and_seconds(seconds: float, text: str, now: list[float]) -> None:
    clock = Clock(2)
    trial(clock, now, seconds)
    assert clock.remaining() == text


def test_trials_that_never_started_do_not_change_the_mean_time_of_a_trial(now: list[float]) -> None:
    clock = Clock(5)
    trial(clock, now, 10)
    now[0] += 500
    clock.finish(TRIAL)
    clock.finish(TRIAL)
    assert clock.remaining() == "0:00:20"


def test_more_trials_than_planned_leave_no_negative_time(now: list[float]) -> None:
    clock = Clock(1)
    trial(clock, now, 10)
    clock.start(TRIAL)
    now[0] += 8
    clock.advance(TRIAL, 0.8)
    assert clock.remaining() == "0:00:00"


def test_a_display_is_live_only_on_a_terminal() -> None:
    options: dict[str, Any] = {"file": StringIO(), "width": 80}
    assert Display(1, 1, Console(**options, force_terminal=True)).live
    assert not Display(1, 1, Console(**options, force_terminal=False)).live


def test_trials_that_run_together_share_their_time(now: list[float]) -> None:
    clock = Clock(6)
    for name in "abc":
        clock.start(name)
    now[0] += 15
    for name in "abc":
        clock.advance(name, 0.5)
    # Three trials take 30 seconds together: half of that is left, and three more trials follow.
    assert clock.remaining() == "0:00:45"
    clock.finish("b")  # it diverged; the others still run
    now[0] += 15
    for name in "ac":
        clock.finish(name)
    assert clock.remaining() == "0:00:30"
