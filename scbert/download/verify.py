"""Checks of what a site sent: that it is whole, a file at all, and the same as when first seen."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import h5py

from scbert.files import DAMAGE, OPENERS, lock, open_decompressed, publish

HDF5 = b"\x89HDF\r\n\x1a\n"
PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<br", b"<b>")
BYTES_AT_ONCE = 1 << 20  # bytes
COLUMNS = ("name", "sha256", "bytes", "date", "url")


def refuse_page(start: bytes, content_type: str = "") -> None:
    """Refuse a web page in place of a file, such as one that says that the site is busy.

    The type that the site claims counts only where the bytes do not tell: PHP calls everything
    text/html unless its author thought of it.

    Raises
    ------
    ValueError
        Showing how the page starts.
    """
    known = start.startswith((*OPENERS, HDF5))
    page = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES)
    if page or ("text/html" in content_type.lower() and not known):
        raise ValueError(
            f"the site sent a web page instead of a file (it starts with {start[:40]!r})"
        )


def require_complete(path: Path, max_bytes: float) -> None:
    """Read a compressed stream to its end, and the frame of an HDF5 file.

    Parameters
    ----------
    max_bytes
        Of the decompressed content: a small file can unfold into more than a disk holds.

    Raises
    ------
    ValueError
        If the file is empty, a web page, cut off, damaged or too large.
    """
    with path.open("rb") as handle:
        start = handle.read(512)
    if not start:
        raise ValueError("the file is empty (0 bytes)")
    refuse_page(start)
    if start.startswith(HDF5):
        _require_hdf5(path)
    elif start.startswith(tuple(OPENERS)):
        _require_stream(path, max_bytes)


def _require_stream(path: Path, max_bytes: float) -> None:
    size = 0
    try:
        with open_decompressed(path) as stream:
            while chunk := stream.read(BYTES_AT_ONCE):
                size += len(chunk)
                if size > max_bytes:
                    raise ValueError(
                        f"decompressed it has more than {max_bytes / 1e9:g} GB (download.max_gb)"
                    )
    except DAMAGE as error:
        raise ValueError(
            f"it is truncated or damaged ({error}) after {size} bytes, decompressed"
        ) from error


def _require_hdf5(path: Path) -> None:
    try:
        h5py.File(path, "r").close()  # compares the file's length with the one it records
    except OSError as error:
        raise ValueError(f"it is truncated or damaged ({error})") from error


def recorded_sha256(log_file: Path, name: str) -> str:
    """Return the SHA-256 that was seen first; empty if `name` was never seen."""
    return _read(log_file).get(name, {}).get("sha256", "")


def record_sha256(log_file: Path, name: str, sha256: str, size: int, url: str) -> None:
    """Add a line to the log, or replace that of `name`; jobs that run at once take turns."""
    with lock(log_file.with_name(f".{log_file.name}.lock"), wait=True, keep=True):
        lines = _read(log_file)
        if lines.get(name, {}).get("sha256") == sha256:
            return
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        values = (name, sha256, str(size), date, url)
        lines[name] = dict(zip(COLUMNS, values, strict=True))
        with publish(log_file) as unfinished, unfinished.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines.values())


def _read(log_file: Path) -> dict[str, dict[str, str]]:
    if not log_file.is_file():
        return {}
    with log_file.open(newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t")
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{log_file} has the columns {rows.fieldnames}, but a log of checksums has "
                f"{', '.join(COLUMNS)}. Restore it, or delete it to accept what the sites send now."
            )
        return {row["name"]: row for row in rows}
