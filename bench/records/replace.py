"""When a record may replace another: the one way in which the runner puts records on disk.

A final record (outcome ok or diverged) is a result. Nothing but another final record may take its place, and that only
where it was asked for, whoever writes at the same time.
"""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from bench.records.record import Record, RecordError, UnreadableError, read, write


def put(path: Path, record: Record, settle: Callable[[Record, Record], Record | None]) -> Record | None:
    """Put a record in its place, unless a result would be lost: only a final record replaces a final one.

    Args:
        path: Where the record belongs.
        record: The new record.
        settle: Called with the record that is there and the new one where both are final. Returns what to write, or
            None to keep the one that is there.

    Returns:
        The final record that was kept, or None where the new one has been written.

    Raises:
        UnreadableError: What is there may be a result, and cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        while True:  # until no other process has written between our look and our write
            seen, there = _stamp(path), _final(path)
            chosen = record
            if there is not None:
                settled = settle(there, record) if record.is_final else None
                if settled is None:
                    return there
                chosen = settled
            write(temporary, chosen, place=path)
            if _take_place(temporary, path, seen):
                return None
    finally:
        temporary.unlink(missing_ok=True)


def _final(path: Path) -> Record | None:
    """The final record at a path; None where there is none, or a file that is no record."""
    try:
        record = read(path)
    except UnreadableError:
        if path.exists():
            raise
        return None
    except RecordError:
        return None
    return record if record.is_final else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _take_place(temporary: Path, path: Path, seen: tuple[int, int] | None) -> bool:
    """Move a file to its place if that still holds what was seen there."""
    if seen is None:
        try:
            path.hardlink_to(temporary)  # unlike a rename, it fails where another process was faster
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            pass
        else:
            return True
    if _stamp(path) != seen:
        return False
    temporary.replace(path)
    return True
