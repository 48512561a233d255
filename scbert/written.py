"""Record of the files that a workflow wrote, by SHA-256: damage since then is noticed.

For results/a/b.h5ad there is results/.sha256/a/b.h5ad. Files of which there is no record, such as
the user's own, are taken as they are. Models, token stores and checkpoints have checksums of their
own.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scbert.files import sha256_of, write_text

RESULTS, RECORDS = "results", ".sha256"
OWN = ("MANIFEST.sha256", "meta.sha256", "holder.json")  # of folders that look after themselves
Stamp = tuple[int, int, int]


@contextmanager
def recorded(paths: Iterable[Path]) -> Iterator[None]:
    """Check results before they are read, and record those that the block writes.

    Of several processes of a training the first does.

    Parameters
    ----------
    paths
        Files and folders that a step reads or writes. What is there already is read.

    Raises
    ------
    ValueError
        If a file is not what the step wrote that made it.
    """
    if os.environ.get("RANK", "0") != "0":  # torchrun's; the first process writes for all, and may
        yield  # remove the checkpoints of a complete run while others still look
        return
    known = [path for path in dict.fromkeys(paths) if _is_result(path)]
    for path in known:
        if not path.exists():
            _forget(path)
    before = _stamps(known)
    for file in before:
        _require_same(file)
    yield
    for file, stamp in _stamps(known).items():
        if before.get(file) != stamp:
            write_text(_record(file), sha256_of(file) + "\n")


def _is_result(path: Path) -> bool:
    return len(path.parts) > 1 and path.parts[0] == RESULTS and ".." not in path.parts


def _record(path: Path) -> Path:
    return Path(RESULTS, RECORDS, *path.parts[1:])


def _stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the files of the paths, and by what it is seen that one was written anew."""
    found = {}
    for path in paths:
        for file in [path] if path.is_file() else _files(path):
            stat = file.stat()
            found[file] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


def _files(folder: Path) -> list[Path]:
    if any((folder / name).exists() for name in OWN):
        return []
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


def _require_same(file: Path) -> None:
    record = _record(file)
    if record.is_file() and record.read_text(errors="replace").strip() != sha256_of(file):
        raise ValueError(
            f"{file} is not what was written: its SHA-256 differs from {record}. Delete {file}, "
            f"and the workflow makes it again; if you changed it on purpose, delete {record}."
        )


def _forget(path: Path) -> None:
    record = _record(path)
    if record.is_dir():
        shutil.rmtree(record, ignore_errors=True)
    else:
        record.unlink(missing_ok=True)
