"""Rules for replacing a record. The runner writes every record through this module.

A final record (outcome ok or diverged) is a result. Only another final record may replace it, and only if the
configuration requests it. This holds even if several processes write at the same time.
"""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from bench.records.record import Record, RecordError, UnreadableError, read, write


def put(path: Path, record: Record, settle: Callable[[Record, Record], Record | None]) -> Record | None:
    """Write a record unless a result would be lost: only a final record replaces a final one.

    Args:
        path: Where the record belongs.
        record: The new record.
        settle: Called with the stored record and the new one if both are final. Returns the record to write, or None
            to keep the stored one.

    Returns:
        The final record that was kept, or None if the new one was written.

    Raises:
        UnreadableError: The stored file may be a result but cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        while True:  # repeat if another process writes between our read and our write
            stamp, stored = _stamp(path), _read_final(path)
            chosen = record
            if stored is not None:
                settled = settle(stored, record) if record.is_final else None
                if settled is None:
                    return stored
                chosen = settled
            write(temporary, chosen, place=path)
            if _move_if_unchanged(temporary, path, stamp):
                return None
    finally:
        temporary.unlink(missing_ok=True)


def _read_final(path: Path) -> Record | None:
    """Return the final record at a path, or None if the file is missing, invalid or not final."""
    try:
        record = read(path)
    except UnreadableError:
        raise
    except RecordError:
        return None
    return record if record.is_final else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return inode and modification time, which change when a file is replaced; None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _move_if_unchanged(temporary: Path, path: Path, stamp: tuple[int, int] | None) -> bool:
    """Move a file to its path if the stamp there is still the same; return whether it was moved."""
    if stamp is None:
        try:
            path.hardlink_to(temporary)  # unlike a rename, this fails if another process was faster
        except FileExistsError:
            return False
        except OSError:  # the file system has no hard links
            pass
        else:
            return True
    if _stamp(path) != stamp:
        return False
    temporary.replace(path)
    return True
