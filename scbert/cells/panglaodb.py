"""PanglaoDB: its table of samples and its download addresses (Franzen et al. 2019, baz046)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from scbert.config import PanglaoDB
from scbert.files import publish

METADATA_COLUMNS = (
    *("sra", "srs", "tissue", "protocol", "species", "instrument", "expressed_genes"),
    *("median_genes_per_cell", "clusters", "tumour", "primary_adult", "cell_line"),
)
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # gzip, bzip2, xz: what R's save() writes


def download(
    url: str, target: Path, user_agent: str, check: Callable[[Path], None] = lambda path: None
) -> None:
    """Download a file, under the name of a browser, for the site answers 403 to scripts.

    Parameters
    ----------
    check
        Called with what was downloaded before it becomes `target`; what it refuses is removed.

    Raises
    ------
    ValueError
        If the file cannot be had, or not all of it, or `check` refuses it.
    """
    downloader = pooch.HTTPDownloader(headers={"User-Agent": user_agent}, progressbar=False)
    with publish(target) as unfinished:
        try:
            pooch.retrieve(
                url,
                known_hash=None,
                fname=unfinished.name,
                path=unfinished.parent,
                downloader=downloader,
            )
        except OSError as error:  # what requests raises is one
            raise ValueError(
                f"{url} cannot be downloaded ({error}). Check the connection and try again, or "
                f"put the file at {target} by hand."
            ) from error
        check(unfinished)


def require_rdata(path: Path, url: str, target: Path) -> None:
    """Refuse what is not a compressed R file, such as a page that says that the site is busy.

    Raises
    ------
    ValueError
        With what came from `url`; the remedy is a file at `target`.
    """
    with path.open("rb") as handle:
        start = handle.read(6)
    if not start.startswith(COMPRESSED):
        raise ValueError(
            f"{url} sent something that is not an R file (it starts with {start!r}). Try again "
            f"later, or put the file at {target} by hand."
        )


def read_metadata(path: Path) -> pd.DataFrame:
    r"""Read PanglaoDB's table of samples (no header; \N is unknown)."""
    table = pd.read_csv(
        path,
        header=None,
        names=list(METADATA_COLUMNS),
        dtype=str,
        na_values=["\\N"],
        keep_default_na=False,
    )
    table["sample"] = table.sra + "_" + table.srs
    return table


def choose_samples(
    metadata: pd.DataFrame, exclusions: pd.DataFrame, settings: PanglaoDB
) -> pd.DataFrame:
    """Say of each sample whether it joins the corpus, and why not.

    Parameters
    ----------
    exclusions
        Columns accession (SRA or SRS) and reason.

    Returns
    -------
    `metadata` with the columns included (yes or no) and reason.
    """
    reason = pd.Series("", index=metadata.index)
    reasons = exclusions.reason.where(exclusions.reason != "", "excluded")
    why = dict(zip(exclusions.accession, reasons, strict=True))
    checks = (
        (metadata.species != settings.species, "species is not " + settings.species),
        (metadata.srs == "notused", "has no SRS accession"),
        (~metadata.protocol.isin(settings.protocols), "protocol is not one of those asked for"),
        ((metadata.tumour == "1") & (not settings.include_tumour), "tumour"),
        ((metadata.cell_line == "1") & (not settings.include_cell_line), "cell line"),
    )
    for fails, text in checks:
        reason = reason.where((reason != "") | ~fails, text)
    excluded = metadata.sra.map(why).fillna(metadata.srs.map(why)).fillna("")
    reason = reason.where((reason != "") | (excluded == ""), excluded)
    return metadata.assign(included=np.where(reason == "", "yes", "no"), reason=reason)
