"""Writing so that nothing is ever half-written, and knowing what was read.

Files that may be compressed are told by their first bytes and not by their names.
"""

import bz2
import fcntl
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

JsonObject = dict[str, Any]  # what a JSON file holds, before a type says what it is
OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
IN_USE, PREVIOUS = "scbert_is_writing.lock", "previous"  # beside an unfinished file
OWNER_ONLY = 0o600
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what damaged streams raise


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Give a path to write to, beside `path`, that becomes `path` only if the block succeeds.

    Works for files and for folders. On an error what was written is removed and whatever stood at
    `path` before is untouched. What a process that was killed has left is removed by the next one.

    Raises
    ------
    ValueError
        If a file would take the place of a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path)
    workspace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    unfinished = workspace / path.name
    with ExitStack() as held:
        held.callback(shutil.rmtree, workspace, ignore_errors=True)
        mode = held.enter_context(_in_use(workspace))
        yield unfinished
        _give_to_readers(unfinished, mode)
        if unfinished.is_file():
            refuse_folder(path)
        previous = workspace / PREVIOUS
        if path.is_dir():  # a folder cannot be renamed onto a folder that holds files
            path.rename(previous)
        try:
            unfinished.replace(path)
        except BaseException:  # a signal, too, may come between the two
            if previous.exists() and not path.exists():
                previous.rename(path)
            raise


def refuse_folder(path: Path) -> None:
    """Refuse a folder where a file is to be written.

    Raises
    ------
    ValueError
        If there is one.
    """
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, but a file is to be written there. Give another name, or remove "
            "the folder."
        )


@contextmanager
def _in_use(workspace: Path) -> Iterator[int]:
    """Mark a folder as one in which a process writes; give the mode that new files have.

    The lock goes with the process. It is there before the name is: whoever finds the name and is
    given the lock knows that the process is dead.
    """
    new = workspace / f"{IN_USE}.new"
    with new.open("w") as handle:
        with suppress(OSError):  # without locks nothing is ever taken for left behind
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(workspace / IN_USE)
        yield os.fstat(handle.fileno()).st_mode & 0o777


def _remove_left_behind(path: Path) -> None:
    """Remove what processes that were killed wrote for `path`; a result they moved comes back."""
    ours = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}")
    for folder in path.parent.iterdir():
        if not ours.fullmatch(folder.name) or folder.is_symlink():
            continue
        with suppress(OSError), (folder / IN_USE).open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / PREVIOUS).exists():
                if path.exists():
                    continue
                (folder / PREVIOUS).rename(path)
            shutil.rmtree(folder, ignore_errors=True)


def _give_to_readers(unfinished: Path, mode: int) -> None:
    """Give files that a library made for their owner alone the mode of other files."""
    for file in [unfinished, *(unfinished.rglob("*") if unfinished.is_dir() else ())]:
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o777 == OWNER_ONLY:
            file.chmod(mode)


@contextmanager
def lock(file: Path, *, wait: bool = False, keep: bool = False) -> Iterator[None]:
    """Hold a file that no other process then holds.

    The lock is flock's: it goes with its process, however that ends, and network file systems know
    it across hosts.

    Parameters
    ----------
    wait
        Until the process that holds it is done.
    keep
        The file; it is empty. Else it is removed at the end, which other hosts may see late.

    Raises
    ------
    BlockingIOError
        If another process holds it and it is not waited for.
    ValueError
        If the file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError as error:
                raise ValueError(
                    f"{file} cannot be locked ({error}), so two processes could write to "
                    f"{file.parent} at once. Mount the file system with flock, or write to another "
                    "one."
                ) from error
            if _is_still(file, handle):
                try:
                    yield
                finally:
                    if not keep:
                        file.unlink()  # before the lock goes: who opens it now, makes a new one
                return
        if not wait:
            raise BlockingIOError(f"{file} was removed by the process that held it")


def _is_still(file: Path, handle: IO[str]) -> bool:
    """Whether the file is the one that was opened: who held it before may have removed it."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Keep a second process from making `path` at the same time.

    Raises
    ------
    ValueError
        If another process is making it now, or the file system has no locks.
    """
    name = path.with_name(f".{path.name}.lock")
    with ExitStack() as held:
        try:
            held.enter_context(lock(name))
        except BlockingIOError:
            raise ValueError(
                f"{path} is being made by another process, which holds {name}. Wait until it is "
                "done."
            ) from None
        yield


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and hashes, as hexadecimal digits."""
    if path.is_dir():
        lines = [f"{file.name} {sha256_of(file)}\n" for file in sorted(path.iterdir())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_sha256(path: Path, expected: str) -> None:
    """Refuse a file, or a folder, that is not the one that a table means; empty: any will do.

    Raises
    ------
    ValueError
        With the SHA-256 that was found and the one that is required.
    """
    found = sha256_of(path) if expected else ""
    if found != expected.lower():
        raise ValueError(
            f"the SHA-256 of {path} is {found}, but its table requires {expected.lower()}: it is "
            "another file, or another version of it. Put the one that is meant there, or correct "
            "the table."
        )


def checksum_line(path: Path) -> bytes:
    """Return what `sha256sum -c` takes."""
    return f"{sha256_of(path)}  {path.name}\n".encode()


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears when it is complete."""
    with publish(path) as unfinished:
        unfinished.write_text(text)


def require_room(path: Path, n_bytes: int) -> None:
    """Refuse to begin a file that its disk cannot hold: libraries that write it end anyhow.

    Raises
    ------
    ValueError
        Saying how much is needed, and how much is free.
    """
    free = shutil.disk_usage(path.absolute().parent).free
    if free < n_bytes:
        raise ValueError(
            f"{path} needs about {n_bytes / 1e6:,.0f} MB more, but its disk has {free / 1e6:,.0f} "
            "MB free. Free space, or write to another disk."
        )


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read; NaN and infinity are refused, for they are not JSON."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; the error of a damaged file names it. NaN and infinity are refused, as written."""
    try:
        return json.loads(path.read_text(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # ValueError: also what is not UTF-8
        raise ValueError(
            f"{path} is not valid JSON ({error}). Make it again or restore it."
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


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
