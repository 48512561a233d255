"""One try with a damaged input, in a process of its own that is watched and limited.

A crash of a C library, a hang, and memory without bounds are then seen as what they are. The audit
events of Python tell what is opened for writing, started or unpickled.
"""

import json
import os
import resource
import select
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 60  # of one try; most take a tenth of one
MEMORY = 3 * 2**30  # bytes of addresses beyond what the process has when it begins
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
SHORTEST = 20  # characters of a message that says something
Read = Callable[[], bytes]


def outcome(
    read: Read, folder: Path, names: tuple[str, ...], seconds: float = SECONDS
) -> tuple[str, str]:
    """Call `read` in another process; return what came of it, and the words of an error.

    Parameters
    ----------
    folder
        The only place where it may write.
    names
        One of these must be in the message of an error: what it is about.

    Returns
    -------
    `read` with what it returned as hexadecimal digits, `refused` with the message, or what must not
    be: `raised`, `crashed`, `hung`, `wrote outside`, `started something`, `said too little`.
    """
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        try:
            _be_silent()
            said = _try(read, folder, names)
        except BaseException as error:  # noqa: BLE001  whatever it is, it must be told
            said = ("raised", f"{type(error).__name__}: {error}")
        with os.fdopen(sink, "w") as handle:
            json.dump(said, handle)
        os._exit(0)
    os.close(sink)
    text = _all_of(source, child, seconds)
    status = os.waitpid(child, 0)[1]
    if text is None:
        return "hung", f"longer than {seconds} s"
    if os.WIFSIGNALED(status) or not text:
        return "crashed", f"signal {os.WTERMSIG(status)}"
    verdict, words = json.loads(text)
    return verdict, words


def _all_of(source: int, child: int, seconds: float) -> str | None:
    """Return all that the child says; None if it takes too long, and is killed."""
    parts = []
    while True:
        if not select.select([source], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
            os.close(source)
            return None
        part = os.read(source, 1 << 16)
        if not part:
            os.close(source)
            return b"".join(parts).decode()
        parts.append(part)


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")


def _try(read: Read, folder: Path, names: tuple[str, ...]) -> tuple[str, str]:
    seen = _watch(folder)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    try:
        verdict, words = "read", read().hex()
    except (ValueError, OSError, FloatingPointError) as error:  # shown without a traceback
        verdict, words = "refused", str(error)
        if len(words) < SHORTEST or not any(name in words for name in names):
            verdict, words = "said too little", f"{type(error).__name__}: {words}"
    except Exception as error:  # noqa: BLE001
        verdict, words = "raised", f"{_place(error)} {type(error).__name__}: {error}"
    return seen[0] if seen else (verdict, words)


def _place(error: BaseException) -> str:
    """Return the last line of ours that an error went through."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/scbert/" in file:
            place = f"{file.rpartition('/scbert/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _watch(folder: Path) -> list[tuple[str, str]]:
    """Note from now on what is written outside of `folder`, and what is started."""
    tempfile.tempdir = str(folder)
    seen: list[tuple[str, str]] = []
    allowed = (os.path.realpath(folder) + os.sep, "/dev/null", "/proc/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS:
            seen.append(("started something", f"{event} {arguments}"))
        elif event in CHANGES or (event == "open" and _writes(arguments)):
            path = arguments[0]
            if not isinstance(path, str | bytes | os.PathLike):
                return
            real = _resolved(event, os.fsdecode(path), _folder_of(event, arguments))
            if not (real + os.sep).startswith(allowed) and "__pycache__" not in real:
                seen.append(("wrote outside", f"{event} {real}"))

    sys.addaudithook(hook)
    return seen


def _folder_of(event: str, arguments: tuple[Any, ...]) -> int:
    """Return the descriptor of the open folder to which a path is relative; -1: none."""
    if event not in ("os.remove", "os.rmdir", "os.mkdir", "os.rename"):
        return -1
    return arguments[2 if event in ("os.mkdir", "os.rename") else 1]


def _resolved(event: str, path: str, folder: int) -> str:
    """Return a path without links to it, which may be relative to an open folder."""
    place = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path()
    found = place / path
    return str(found.resolve() if event == "open" else found.parent.resolve() / found.name)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return True
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")
