"""One trainer for a folder of checkpoints, also where a cluster starts a job a second time.

Some network file systems know a lock only on each host by itself, so the holder also keeps touching
a record of itself, and a trainer on another host watches that before it takes over.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scbert.files import lock, read_json, write_text

log = logging.getLogger(__name__)
HEARTBEAT = 10.0  # seconds between touches of the record
SILENCE = 3 * HEARTBEAT  # a holder on another host that is silent for so long is gone


@contextmanager
def only_trainer(folder: Path, silence: float = SILENCE) -> Iterator[None]:
    """Hold a folder of checkpoints while the block runs.

    Parameters
    ----------
    silence
        Seconds to watch the record of a holder on another host.

    Raises
    ------
    ValueError
        If another process holds it, saying which.
    """
    record = folder / "holder.json"
    with ExitStack() as held:
        try:
            held.enter_context(lock(folder / "lock", keep=True))
        except BlockingIOError:
            raise _refusal(record) from None
        _take_over(record, silence)
        write_text(record, json.dumps(_self()))
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(record, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            record.unlink(missing_ok=True)


def _self() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "process": os.getpid(), "since": time.ctime()}


def _describe(record: Path) -> str:
    holder = _holder(record)
    if not holder:
        return "an unknown process"
    return f"process {holder['process']} on {holder['host']}, since {holder['since']}"


def _holder(record: Path) -> dict[str, Any]:
    """Return who wrote the record; nothing if it is damaged or not there."""
    try:
        found = read_json(record)
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and {"process", "host", "since"} <= found.keys()
    return found if whole else {}


def _refusal(record: Path) -> ValueError:
    return ValueError(
        f"{record.parent} is in use by another trainer ({_describe(record)}), and two would "
        "overwrite each other's checkpoints. Wait until it is done, or end it."
    )


def _take_over(record: Path, silence: float) -> None:
    """Look at the record of a holder that was killed; its flock is gone already."""
    if not record.is_file():
        return
    if _holder(record).get("host") != socket.gethostname():
        log.info("watching for %.0f s whether %s is alive", silence, _describe(record))
        # Compared with itself, never with the clock of this host: clocks of hosts differ.
        seen, until = record.stat().st_mtime_ns, time.monotonic() + silence
        while time.monotonic() < until:
            time.sleep(min(1.0, silence / 5))
            if record.is_file() and record.stat().st_mtime_ns != seen:
                raise _refusal(record)
    log.info(
        "%s: took over the stale lock of %s, which is no longer running",
        record.parent,
        _describe(record),
    )


def _beat(record: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        if record.exists():
            os.utime(record)
