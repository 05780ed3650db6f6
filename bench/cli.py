"""What the commands share: an error is one line and an exit code, and how a count is written."""

from collections.abc import Callable

from rich.console import Console


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, such as `1 cell` or `1,200 cells`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def carried_out(command: Callable[[Console, Console], None]) -> int:
    """Run a command and return its exit code.

    Args:
        command: The command. It receives a console for its output and one for errors and notes.

    Returns:
        0 on success, 2 if the command raised ValueError, and 130 if it was interrupted.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    complaints = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        command(console, complaints)
    except ValueError as error:
        complaints.print(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
