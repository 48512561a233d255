"""The results of two runs, compared without what differs by nature: times and where they were run.

From that follow the checksums of files that say it, and of the models that were made of these.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LEFT_OUT = ("benchmarks", "checkpoints", ".sha256")
VOLATILE = re.compile(  # keys of JSON
    "seconds|.*_per_second|waiting_share|command|sha256|model_sha256|hardware|created"
)
TEXT = re.compile(  # in pages and cards
    rb"\b[0-9a-f]{12,64}\b|/\S*/scripts/|\d{4}-\d\d-\d\d( \d\d:\d\d)?"
    rb"|\d[\d,]*(\.\d+)? ?(s|seconds|minutes|cells/s|cells per second)\b"
)
OF_JOBS = re.compile(rb"Peak memory</th>.*?</table>", re.S)  # how long each took
MANIFEST = re.compile(rb"^\w+  (config\.json|history\.jsonl|README\.md)$", re.M)


def digests(results: Path) -> dict[str, str]:
    """Return a digest of each result by its path."""
    found = {}
    for path in sorted(results.rglob("*")):
        inside = path.relative_to(results)
        hidden = any(part.startswith(".") for part in inside.parts)
        if not hidden and inside.parts[0] not in LEFT_OUT and path.is_file():
            found[str(inside)] = hashlib.sha256(_plain(path)).hexdigest()
    return found


def differing(results: Path, expected: dict[str, str]) -> list[str]:
    """Name the results that are there and are not what is expected."""
    found = digests(results)
    return [name for name, digest in found.items() if expected.get(name) != digest]


def _plain(path: Path) -> bytes:
    """Return what a file says; what cannot be read is taken as it is."""
    content = path.read_bytes()
    try:
        match path.suffix:
            case ".json":
                return _dumped(json.loads(content))
            case ".jsonl":
                return _dumped([json.loads(line) for line in content.splitlines()])
            case ".h5ad":
                return _of_hdf5(path)
    except (ValueError, OSError, RuntimeError, KeyError):
        return content
    if path.name == "MANIFEST.sha256":
        return MANIFEST.sub(b"", content)
    return TEXT.sub(b"", OF_JOBS.sub(b"", content)) if path.suffix in (".html", ".md") else content


def _dumped(value: Any) -> bytes:
    return json.dumps(_without(value), sort_keys=True).encode()


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without(one) for k, one in value.items() if not VOLATILE.fullmatch(k)}
    return [_without(one) for one in value] if isinstance(value, list) else value


def _of_hdf5(path: Path) -> bytes:
    found: list[bytes] = []

    def look(place: str, one: Any) -> None:
        name = place.rpartition("/")[2]
        if isinstance(one, h5py.Dataset) and not VOLATILE.fullmatch(name):
            values = np.asarray(one[()])
            text = values.dtype == object
            found.append(f"{place} {values.shape} {values.dtype}".encode())
            found.append(repr(values.tolist()).encode() if text else values.tobytes())

    with h5py.File(path) as file:
        file.visititems(look)
    return b"\n".join(found)
