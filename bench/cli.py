"""How a command that shows things ends: what is wrong with it is one line, and an exit code."""

from collections.abc import Callable

from rich.console import Console


def carried_out(command: Callable[[Console, Console], None]) -> int:
    """Run it with where it prints and where it complains. Gives 0; 2: it raised ValueError; 130: interrupted."""
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
