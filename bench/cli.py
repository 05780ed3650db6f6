"""Run a command that prints results, and report an error in one line and an exit code."""

from collections.abc import Callable

from rich.console import Console


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
