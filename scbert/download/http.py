"""One attempt at one address: what came stays in a .part file, from which the next goes on."""

import hashlib
import logging
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from scbert.config import Download
from scbert.download.verify import refuse_page
from scbert.files import is_compressed, read_json, write_json

log = logging.getLogger(__name__)
CHUNK = 1 << 16  # bytes; at most so many are lost when a run is killed
GB = 1e9
BUSY = {408, 425, 429}  # of the 4xx, those that may pass
MISSING = {404, 410}
NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


class Again(Exception):
    """A failure that may pass; `wait` is how many seconds the site asks to wait."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Never(Exception):
    """A failure that another attempt at this address cannot mend."""

    def __init__(self, problem: str, *, missing: bool = False) -> None:
        super().__init__(problem)
        self.missing = missing


class PartialFile:
    """What has come of a file from one address, and what the site said of the whole."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        address = hashlib.sha256(url.encode()).hexdigest()[:12]
        self.path = folder / f"{name}.{address}.part"
        self._said = folder / f"{name}.{address}.json"

    def size(self) -> int:
        """Return the bytes that are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def said(self) -> dict[str, str | int]:
        """Return the validator (strong ETag or date) and the bytes of the whole, if known."""
        try:
            return read_json(self._said)
        except (FileNotFoundError, ValueError):
            return {}

    def start(self, validator: str, total: int) -> None:
        """Start again; in this order, or a kill in between would mix two files."""
        self.discard()
        write_json(self._said, {"validator": validator, "bytes": total})

    def discard(self) -> None:
        """Forget what came."""
        self.path.unlink(missing_ok=True)
        self._said.unlink(missing_ok=True)


def receive(url: str, part: PartialFile, settings: Download, *, checkable: bool) -> bool:
    """Ask once for what is missing of a file.

    Parameters
    ----------
    checkable
        Whether the SHA-256 of the whole is known. Without that, a validator or a compressed stream
        two versions of a file could be joined unnoticed: it is then asked for from its start.

    Returns
    -------
    Whether what is in `part` came in more than one piece.

    Raises
    ------
    Again, Never
        If not all of it came.
    """
    held, said = part.size(), part.said()
    if held and held == said.get("bytes"):
        return True  # killed after the last byte
    if held and not (checkable or said.get("validator") or is_compressed(part.path)):
        part.discard()
        held, said = 0, {}
    headers = {"User-Agent": settings.user_agent, "Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
        if said.get("validator"):
            headers["If-Range"] = str(said["validator"])
    try:
        with requests.get(url, headers=headers, stream=True, timeout=settings.timeout) as answer:
            return _keep(answer, part, held, settings)
    except NO_ADDRESS as error:
        raise Never(f"is not an address ({error})") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Again(f"broke off after {part.size()} bytes ({error})") from error


def _keep(answer: requests.Response, part: PartialFile, held: int, settings: Download) -> bool:
    """Write what comes behind what is there, or in its place if the site sends it all again."""
    if held and answer.status_code == requests.codes.requested_range_not_satisfiable:
        if _total(answer) == held:
            return True
        part.discard()
        raise Again(f"is shorter than what was downloaded before ({held}): starting again")
    _require_success(answer)
    goes_on = answer.status_code == requests.codes.partial_content
    if goes_on and not _fits(answer, part, held):
        part.discard()
        raise Again(f"has changed since {held} bytes were downloaded: starting again")
    limit = settings.max_gb * GB
    if (total := _total(answer)) > limit:
        raise Never(f"is {total} bytes, more than download.max_gb ({settings.max_gb:g} GB)")
    chunks = answer.raw.stream(CHUNK, decode_content=False)
    if not goes_on:
        chunks = _not_a_page(chunks, answer.headers.get("Content-Type", ""))
        part.start(_validator(answer), total)
    log.info("%s: %d of %s bytes downloaded", answer.url, part.size(), total or "?")
    _write(chunks, part, total, limit)
    return goes_on


def _not_a_page(chunks: Iterator[bytes], content_type: str) -> Iterator[bytes]:
    """Look at the first bytes before anything that came earlier is given up for them."""
    first = next(chunks, b"")
    try:
        refuse_page(first, content_type)
    except ValueError as error:
        raise Again(str(error)) from error
    return chain([first], chunks)


def _write(chunks: Iterator[bytes], part: PartialFile, total: int, limit: float) -> None:
    with part.path.open("ab", buffering=0) as handle, _progress(part, total) as bar:
        for chunk in chunks:
            handle.write(chunk)
            bar.update(len(chunk))
            if handle.tell() > limit:
                raise Never(f"sends more than download.max_gb ({limit / GB:g} GB)")
    if total and part.size() != total:
        raise Again(f"broke off after {part.size()} of {total} bytes")


def _require_success(answer: requests.Response) -> None:
    status, reason = answer.status_code, f"answers {answer.status_code} {answer.reason}"
    if 400 <= status < 500 and status not in BUSY:
        raise Never(reason, missing=status in MISSING)
    if status not in {requests.codes.ok, requests.codes.partial_content}:
        asked = answer.headers.get("Retry-After", "")
        raise Again(reason, float(asked) if asked.isdigit() else 0.0)


def _total(answer: requests.Response) -> int:
    """Return the bytes of the whole file; 0 if the site does not say."""
    if "Content-Range" in answer.headers:
        size = answer.headers["Content-Range"].rpartition("/")[2]
    else:
        size = answer.headers.get("Content-Length", "")
    return int(size) if size.isdigit() else 0


def _validator(answer: requests.Response) -> str:
    """Return what names this version of the file: a strong ETag, or else the date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _fits(answer: requests.Response, part: PartialFile, held: int) -> bool:
    """Whether a 206 continues exactly where we stopped, in the same version of the file."""
    begin = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    said, total, validator = part.said(), _total(answer), _validator(answer)
    return (
        begin is not None
        and int(begin[1]) == held
        and (not said.get("bytes") or not total or said["bytes"] == total)
        and (not said.get("validator") or not validator or said["validator"] == validator)
    )


def _progress(part: PartialFile, total: int) -> tqdm:
    """Show the bytes and the time left of a file that takes long; sparsely if into a log."""
    seconds = (2, 0.5) if sys.stderr.isatty() else (30, 30)
    return tqdm(
        desc=part.path.name.partition(".")[0],
        total=total or None,
        initial=part.size(),
        delay=seconds[0],
        mininterval=seconds[1],
        unit="B",
        unit_scale=True,
        leave=False,
    )
