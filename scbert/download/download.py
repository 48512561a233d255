"""Files from sites that are slow, break off, or answer with a page: whole, checked, or not at all.

A file arrives beside its place, in the folder .unfinished, so that a run that was killed goes on
where it stopped. HTTP: RFC 9110, 13.1.5 (If-Range) and 14 (Range).
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from scbert.config import Download, SourceSettings
from scbert.download.http import Again, Never, PartialFile, receive
from scbert.download.verify import record_sha256, recorded_sha256, require_complete
from scbert.files import lock, publish, sha256_of

log = logging.getLogger(__name__)
GB = 1e9


class NotPublished(ValueError):
    """Every address answered that it has no such file."""


def accept_all(path: Path) -> None:
    """Check nothing more than that the file is whole."""


def download(  # noqa: PLR0913  so much is there to say of a file
    urls: Sequence[str],
    target: Path,
    settings: Download,
    *,
    name: str,
    check: Callable[[Path], object] = accept_all,
    sha256: str = "",
    dropped_as: Sequence[str] = (),
) -> None:
    """Bring a file here, from the drop-in folder or from the first address that gives it.

    A target that is there already and is the file expected is left as it is, and no site is asked.

    Parameters
    ----------
    urls
        Addresses of one and the same file, http or https, in the order in which they are tried.
    name
        Of the file in the log of checksums: what came under it first must come ever after.
    check
        Called with what came, before it becomes `target`; a ValueError refuses it.
    sha256
        What must come; empty: what the log of checksums says, or, the first time, anything.
    dropped_as
        Further names that the file can have in the drop-in folder, beside that of `target`.

    Raises
    ------
    NotPublished
        If each of the addresses answers 404 or 410.
    ValueError
        If the file could not be downloaded, or is not what it should be. `target` is then
        untouched.
    """
    unfinished = target.parent / ".unfinished"
    order = _Order(tuple(urls), target, settings, name, check, sha256.lower())
    # A run that was killed can leave a download behind that is still going on.
    with lock(unfinished / f"{target.name}.lock", wait=True):
        if target.is_file() and sha256_of(target) == order.expected():
            log.info("%s: is here already, as recorded", target)
        elif dropped := find_dropped(settings.drop_in, (target.name, *dropped_as)):
            order.take(dropped)
        else:
            order.fetch()


def find_dropped(folder: str, names: Sequence[str]) -> Path | None:
    """Find a file that the user put into the drop-in folder, at any depth."""
    if not folder:
        return None
    found = (path for name in names for path in sorted(Path(folder).rglob(name)) if path.is_file())
    return next(found, None)


@dataclass
class _Order:
    """One file that is wanted: where it may come from and what it must be."""

    urls: tuple[str, ...]
    target: Path
    settings: Download
    name: str
    check: Callable[[Path], object]
    sha256: str
    problems: dict[str, Again | Never] = field(default_factory=dict)  # the last of each address

    def expected(self) -> str:
        """Return what the user expects, or else what came first; empty if nothing is known."""
        return self.sha256 or recorded_sha256(Path(self.settings.checksums), self.name)

    def take(self, dropped: Path) -> None:
        """Copy a file of the drop-in folder."""
        with publish(self.target) as unfinished:
            shutil.copyfile(dropped, unfinished)
            try:
                self._approve(unfinished, str(dropped))
            except ValueError as error:
                raise ValueError(
                    f"{dropped} cannot be used for {self.target}: {error}. Replace it, or remove "
                    f"it to have {self.target.name} downloaded."
                ) from error

    def fetch(self) -> None:
        """Try the addresses in turn, again and again, with longer and longer pauses."""
        retrying = Retrying(
            stop=stop_after_attempt(self.settings.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(Again),
            before_sleep=self._say,
            reraise=True,
        )
        try:
            retrying(self._round)
        except (Again, Never) as error:
            folder = self.settings.drop_in or "the folder of download.drop_in"
            last = self.problems.values()
            nowhere = all(isinstance(problem, Never) and problem.missing for problem in last)
            raise (NotPublished if nowhere else ValueError)(
                f"{self.target.name} could not be downloaded (tried "
                f"{retrying.statistics['attempt_number']} times; {self._said()}). "
                "Check the connection and try again later, add another address to the "
                f"configuration, or get the file elsewhere and put it into {folder} under the name "
                f"{self.target.name}."
            ) from error

    def _round(self) -> None:
        """Ask each address once, but for those that refused for good."""
        for url in self.urls:
            if isinstance(self.problems.get(url), Never):
                continue
            try:
                self._try(url)
            except (Again, Never) as problem:
                self.problems[url] = problem
            else:
                return
        waits = [problem.wait for problem in self.problems.values() if isinstance(problem, Again)]
        if not waits:
            raise Never("every address refuses")
        raise Again("no address gave the file", max(waits))

    def _try(self, url: str) -> None:
        part = PartialFile(self.target.parent / ".unfinished", self.target.name, url)
        checkable = bool(self.expected())
        resumed = receive(url, part, self.settings, checkable=checkable)
        try:
            self._approve(part.path, url)
        except ValueError as error:
            part.discard()
            wrong = isinstance(error, _OtherFile) and not resumed
            raise (Never if wrong else Again)(str(error)) from error
        os.replace(part.path, self.target)  # noqa: PTH105  beside each other: atomic
        part.discard()
        log.info("%s: %d bytes from %s", self.target, self.target.stat().st_size, url)

    def _approve(self, path: Path, source: str) -> None:
        """Refuse what is not the file; record its checksum before it takes its place."""
        require_complete(path, self.settings.max_gb * GB)
        self.check(path)
        digest, expected = sha256_of(path), self.expected()
        if expected and digest != expected:
            raise _OtherFile(self._explain(digest, expected))
        checksums = Path(self.settings.checksums)
        record_sha256(checksums, self.name, digest, path.stat().st_size, source)
        log.info("%s: sha256 %s", self.name, digest)

    def _explain(self, digest: str, expected: str) -> str:
        if self.sha256:
            return f"its sha256 is {digest}, but the configuration expects {expected}"
        return (
            f"its sha256 is {digest}, but {self.settings.checksums} recorded {expected} when "
            f"{self.name} was first downloaded: the site now sends another file. If that is "
            "intended, delete that line"
        )

    def _said(self) -> str:
        return "; ".join(f"{url}: {problem}" for url, problem in self.problems.items())

    def _wait(self, state: RetryCallState) -> float:
        """Double the pause each time, or wait as long as the site asks for, up to max_wait."""
        pause = self.settings.wait
        longest = self.settings.max_wait
        doubled = wait_exponential_jitter(multiplier=pause, max=longest, jitter=pause)(state)
        problem = state.outcome.exception() if state.outcome else None
        asked = problem.wait if isinstance(problem, Again) else 0.0
        return min(max(doubled, asked), longest)

    def _say(self, state: RetryCallState) -> None:
        log.warning(
            "attempt %d of %d at %s failed (%s); the next in %.0f s",
            state.attempt_number,
            self.settings.attempts,
            self.target.name,
            self._said(),
            state.next_action.sleep if state.next_action else 0,
        )


class _OtherFile(ValueError):
    """A whole file, but not the one that is expected."""


def download_source(
    url: str, target: Path, settings: SourceSettings, check: Callable[[Path], object]
) -> None:
    """Bring the file of a table's line here, or the part of it that `url` is."""
    how = settings.download
    download([url], target, how, name=url, check=check, sha256=settings.sha256)
