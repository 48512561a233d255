"""Folders of zarr from outside: what is refused before anything of them is read.

The metadata of each array name the codecs that undo its compression. One of them, pickle, runs what
the file says; a link would let a folder reach other files.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr

from scbert.cells.hdf5 import LARGE, require_plausible

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
MOST_METADATA = 2**26  # bytes of one file
BYTES_OF_CHUNK = 2**12  # that one costs as much time as, even where it is not there
NUMBERS = ("bytes", "delta", "endian", "packbits", "sharding_indexed", "transpose")
TEXT = ("vlen-bytes", "vlen-utf8")
PACKED = ("bitshuffle", "blosc", "bz2", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd")
CHECKED = ("adler32", "crc32", "crc32c", "fletcher32")
CODECS = frozenset((*NUMBERS, *TEXT, *PACKED, *CHECKED))  # none runs what a file says


def is_zarr(path: Path) -> bool:
    """Whether it is a folder of zarr, of version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def open_zarr(path: Path, name: str) -> Any:
    """Open a folder of zarr for reading; return its group.

    Raises
    ------
    ValueError
        If it holds a link, is packed with a codec that is not known to be harmless, is damaged, or
        declares far more than it holds.
    """
    for file in _files(path, name):
        if file.name in METADATA:
            _require_known_codecs(file, f"'{file.parent.relative_to(path)}' of {name}")
    try:
        # the summary of all metadata at the root may say something else than what was looked at
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        large = [(place, one) for place, one in group.members(max_depth=None) if _is_large(one)]
    except Exception as error:  # zarr raises any
        raise ValueError(
            f"{name} cannot be read as zarr ({error}). Write or copy it again."
        ) from error
    for place, one in large:
        require_plausible(place, _cost(one), one.nbytes_stored(), name)
    return group


def require_all_chunks(array: Any) -> None:
    """Refuse an array of which a part is missing: zarr would take it for zeros.

    Raises
    ------
    ValueError
        With the number of missing chunks.
    """
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        raise ValueError(f"{missing:,} of the {array.nchunks:,} chunks of '{array.path}' are gone")


def _is_large(found: Any) -> bool:
    return isinstance(found, zarr.Array) and _cost(found) >= LARGE


def _cost(array: zarr.Array) -> int:
    """Return how many bytes an array declares; a chunk costs time even where it is not there."""
    return max(array.nbytes, array.nchunks * BYTES_OF_CHUNK)


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield all files; refuse links and what is neither a file nor a folder."""
    for place, folders, files in os.walk(folder):
        for found in (Path(place, entry) for entry in (*folders, *files)):
            if found.is_symlink() or not (found.is_file() or found.is_dir()):
                raise ValueError(
                    f"'{found.relative_to(folder)}' of {name} is a link. Folders are read alone, "
                    f"so that none can reach other files: copy it with cp -rL."
                )
        yield from (Path(place, entry) for entry in files)


def _require_known_codecs(file: Path, name: str) -> None:
    try:
        size = file.stat().st_size
        if size > MOST_METADATA:
            raise ValueError(f"{size:,} bytes")
        content = json.loads(file.read_bytes())
        codecs = list(_codecs(content)) if isinstance(content, dict) else []
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file.name} of {name} is damaged ({error}). Write or copy it again."
        ) from error
    unknown = [codec for codec in codecs if codec.removeprefix("numcodecs.") not in CODECS]
    if unknown:
        raise ValueError(
            f"{name} is packed with '{unknown[0]}', which is not among the codecs that are read "
            f"({', '.join(sorted(CODECS))}): pickle and the like can run code. Write it again with "
            "anndata's write_zarr."
        )


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of an array; a shard has codecs of its own."""
    given = [metadata.get("compressor"), *(metadata.get("filters") or ())]
    for key in ("codecs", "index_codecs", "storage_transformers"):
        given += metadata.get(key) or ()
    for codec in given:
        if codec is None:
            continue
        if not isinstance(codec, dict):
            yield str(codec)
            continue
        yield str(codec.get("id", codec.get("name")))
        yield from _codecs(codec.get("configuration") or {})
