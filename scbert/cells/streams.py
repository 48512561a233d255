"""Files that may be compressed, told by their first bytes and not by their names."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what damaged streams raise


def is_compressed(path: Path) -> bool:
    """Whether the file is a gzip, bzip2 or xz stream, all of which carry checksums."""
    with path.open("rb") as handle:
        return handle.read(6).startswith(tuple(OPENERS))


def open_decompressed(path: Path) -> IO[bytes]:
    """Open a file for reading; a gzip, bzip2 or xz stream is decompressed, whatever its name."""
    with path.open("rb") as handle:
        start = handle.read(6)
    for magic, opener in OPENERS.items():
        if start.startswith(magic):
            return opener(path)
    return path.open("rb")
