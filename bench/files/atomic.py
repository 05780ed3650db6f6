"""Write a file whole or not at all, whoever is killed and however many write at once."""

import os
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to the disk, and rename: a reader sees the old file or the new one.

    The temporary name belongs to this call alone, because threads, processes and machines that share the folder may
    write the same file at once. The folder must exist.

    Raises:
        OSError: The file cannot be written. Nothing is left behind, and an older file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
