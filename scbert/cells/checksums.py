"""The log of checksums: what was seen once must come again."""

import csv
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from scbert.files import publish

COLUMNS = ("name", "sha256", "bytes", "date", "url")


def recorded_sha256(log_file: Path, name: str) -> str:
    """Return the SHA-256 that was seen first; empty if `name` was never seen."""
    return _read(log_file).get(name, {}).get("sha256", "")


def record_sha256(log_file: Path, name: str, sha256: str, size: int, url: str) -> None:
    """Add a line to the log, or replace that of `name`; jobs that run at once take turns."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(log_file.with_name(f".{log_file.name}.lock")):
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
