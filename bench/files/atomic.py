"""Write a file completely or not at all, even if the process is killed or several write at once."""

import os
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: a reader sees either the old content or the new one.

    The content is written under a temporary name, flushed to the disk and renamed. The temporary name is unique to this
    call, because threads, processes and machines that share the folder may write the same file at once. The folder must
    exist.

    Raises:
        OSError: The file cannot be written. No temporary file remains, and an older file is unchanged.
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
