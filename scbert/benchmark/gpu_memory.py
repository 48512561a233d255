"""Memory of NVIDIA GPUs that a group of processes takes; only the standard library is needed."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.5  # between two looks; what is held for less may be missed
ASK = ("--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits")


class GpuMemory:
    """The largest sum that was seen, in MiB; None where there is no nvidia-smi."""

    def __init__(self, asking: str | None, group: int) -> None:
        self.asking, self.group = asking, group
        self.peak_mb: int | None = 0 if asking else None

    def look(self) -> None:
        """Ask once, and keep the largest answer."""
        assert self.asking is not None
        assert self.peak_mb is not None
        found = subprocess.run([self.asking, *ASK], capture_output=True, text=True, check=False)
        lines = [line.split(",") for line in found.stdout.splitlines()]
        used = [int(mb) for pid, mb in lines if mb.strip().isdigit() and self._own(int(pid))]
        self.peak_mb = max(self.peak_mb, sum(used))

    def _own(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self.group
        except ProcessLookupError:  # it has ended since
            return False


@contextmanager
def watched(group: int) -> Iterator[GpuMemory]:
    """Look at the memory of a process group every half second while the block runs."""
    memory, done = GpuMemory(shutil.which("nvidia-smi"), group), threading.Event()

    def follow() -> None:
        while not done.wait(SECONDS):
            memory.look()

    thread = threading.Thread(target=follow, daemon=True)
    if memory.asking:
        thread.start()
    try:
        yield memory
    finally:
        done.set()
        if memory.asking:
            thread.join()
