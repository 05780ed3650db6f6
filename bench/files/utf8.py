"""Read text files: plain or gzipped, in UTF-8 with or without a byte-order mark."""

import codecs
import gzip
import zlib
from pathlib import Path

MARKS = {  # the longer ones first, because a mark of UTF-32 starts with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_utf8(path: Path) -> bytes:
    """Return the content of a text file, decompressed and without its byte-order mark.

    Raises:
        ValueError: The file cannot be read, or is not UTF-8. The message contains the command that converts it.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if problem := not_utf8(content):
        raise ValueError(f"{path}: {problem}")
    return content.removeprefix(codecs.BOM_UTF8)


def not_utf8(content: bytes) -> str | None:
    """Return where a file's content is not UTF-8 and how to convert it, or None if it is UTF-8."""
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if encoding := marked or _unmarked_utf16(content):
        return f"the file is {encoding.upper()}, not UTF-8; convert it: iconv -f {encoding} -t utf-8"
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        return f"line {line} holds a NUL byte, so this is not a text file; save it as text in UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"line {line} is not UTF-8; convert it: iconv -f latin1 -t utf-8"
    return None


def _unmarked_utf16(content: bytes) -> str | None:
    """Return the byte order of UTF-16 without a mark, or None.

    It is recognised by the NUL byte next to every Latin letter at the start of the file.
    """
    start = content[:1000]
    if start[1::2].count(0) * 2 > len(start[1::2]):
        return "utf-16le"
    return "utf-16be" if start[::2].count(0) * 2 > len(start[::2]) else None
