"""PanglaoDB: its tables, and which of its samples are wanted (Franzen et al. 2019, baz046)."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.config import PanglaoDB
from scbert.files import open_decompressed

log = logging.getLogger(__name__)
METADATA = (
    *("sra", "srs", "tissue", "protocol", "species", "instrument", "expressed_genes"),
    *("median_genes_per_cell", "clusters", "tumour", "primary_adult", "cell_line"),
)
CLUSTER_SIZES = ("sra", "srs", "cluster", "cells")
CELL_TYPES = ("sra", "srs", "cluster", "cell_type", "p", "adjusted_p", "activity")
NO_SRS = "notused"
CLUSTER_LINE = r"\s*|\S+ -?\d+"


def read_metadata(path: Path) -> pd.DataFrame:
    r"""Read PanglaoDB's table of samples (no header; \N is unknown), and name each SRA_SRS."""
    table = _read_headless(path, METADATA)
    table["sample"] = table.sra + "_" + table.srs
    twice = table["sample"][table["sample"].duplicated()]
    if len(twice):
        raise ValueError(f"{path} lists {twice.iloc[0]} twice, but a sample is one line.")
    return table


def read_cluster_sizes(path: Path) -> pd.DataFrame:
    """Read how many cells each cluster of each sample has."""
    return _with_numbers(_read_headless(path, CLUSTER_SIZES), path, "cells")


def read_cell_types(path: Path) -> pd.DataFrame:
    """Read which cell type PanglaoDB gave to each cluster of each sample."""
    table = _read_headless(path, CELL_TYPES)
    return _with_numbers(table, path, "p", "adjusted_p", "activity")


def require_rdata(path: Path) -> None:
    """Refuse what does not start like a file of R's save().

    Raises
    ------
    ValueError
        Showing the first bytes.
    """
    with open_decompressed(path) as handle:
        start = handle.read(5)
    if start not in (b"RDX2\n", b"RDX3\n"):
        raise ValueError(f"it is not an R file (its content starts with {start!r}, not RDX2, RDX3)")


def require_clusters(path: Path) -> None:
    """Refuse what is not PanglaoDB's list of the cells of a sample: BARCODE CLUSTER."""
    lines = path.read_text(errors="replace").splitlines()
    wrong = ~pd.Series(lines, dtype=str).str.fullmatch(CLUSTER_LINE)
    if wrong.any():
        number = int(wrong.argmax())
        raise ValueError(f"its line {number + 1} is {lines[number][:80]!r}, not BARCODE CLUSTER")


def choose_samples(
    metadata: pd.DataFrame,
    cluster_sizes: pd.DataFrame,
    exclusions: pd.DataFrame,
    settings: PanglaoDB,
) -> pd.DataFrame:
    """Say of each sample whether it joins the corpus, and why not.

    Parameters
    ----------
    cluster_sizes
        Columns sra, srs and cells, a line for each cluster.
    exclusions
        Columns accession (SRA or SRS) and reason.

    Returns
    -------
    `metadata` with the columns cells (those that PanglaoDB clustered), included (yes or no) and
    reason, the first that holds.
    """
    _warn_of_unknown(metadata, settings)
    reasons = exclusions.reason.where(exclusions.reason != "", "excluded")
    why = dict(zip(exclusions.accession, reasons, strict=True))
    tissues = metadata.tissue
    checks = (
        (metadata.species != settings.species, "species is not " + settings.species),
        (~metadata.protocol.isin(settings.protocols), "protocol is not one of those asked for"),
        ((metadata.tumour == "1") & (not settings.include_tumour), "tumour"),
        ((metadata.cell_line == "1") & (not settings.include_cell_line), "cell line"),
        (~tissues.isin(settings.tissues or tissues), "tissue is not one of those asked for"),
        (tissues.isin(settings.exclude_tissues), "tissue is excluded"),
    )
    reason = pd.Series("", index=metadata.index)
    for fails, text in checks:
        reason = reason.where((reason != "") | ~fails, text)
    study, own = (metadata[name].map(lambda one: why.get(one, "")) for name in ("sra", "srs"))
    excluded = study.where(study != "", own)
    reason = reason.where((reason != "") | (excluded == ""), excluded)
    cells = cluster_sizes.groupby(cluster_sizes.sra + "_" + cluster_sizes.srs).cells.sum()
    return metadata.assign(
        cells=(metadata.sra + "_" + metadata.srs).map(cells).fillna(0).astype(int),
        included=np.where(reason == "", "yes", "no"),
        reason=reason,
    )


def _warn_of_unknown(metadata: pd.DataFrame, settings: PanglaoDB) -> None:
    asked = {
        "protocol": settings.protocols,
        "tissue": (*settings.tissues, *settings.exclude_tissues),
    }
    for column, values in asked.items():
        there = set(metadata[column].dropna())
        if unknown := sorted(set(values) - there):
            log.warning(
                "no sample has the %s %s; there are: %s",
                *(column, ", ".join(unknown), ", ".join(sorted(there))),
            )


def _read_headless(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, header=None, dtype=str, na_values=["\\N"], keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a table of PanglaoDB ({error}).") from error
    if len(table.columns) != len(columns):
        raise ValueError(
            f"{path} has {len(table.columns)} columns, but PanglaoDB's table has {len(columns)}: "
            f"{', '.join(columns)}. Download it again."
        )
    table.columns = pd.Index(columns)
    wrong = ~table.sra.fillna("").str.fullmatch(r"[SED]RA\d+(_[SED]RS\d+)?")
    wrong |= ~table.srs.fillna("").str.fullmatch(rf"[SED]RS\d+|{NO_SRS}")
    if wrong.any():
        raise ValueError(
            f"{path}, line {int(wrong.argmax()) + 1} starts with {table.sra[wrong].iloc[0]}, "
            f"{table.srs[wrong].iloc[0]}, not with SRA and SRS accessions. Download it again."
        )
    return table


def _with_numbers(table: pd.DataFrame, path: Path, *columns: str) -> pd.DataFrame:
    try:
        return table.assign(**{name: pd.to_numeric(table[name]) for name in columns})
    except ValueError as error:
        raise ValueError(
            f"{path}: {', '.join(columns)} must be numbers ({error}). Download it again."
        ) from error


def addresses_of(addresses: tuple[str, ...], sample: str) -> list[str]:
    """Fill a sample into PanglaoDB's addresses of files."""
    sra, _, srs = sample.rpartition("_")
    own = _own_name(sample)
    return [address.format(sra=sra, srs=srs, sample=own) for address in addresses]


def _own_name(sample: str) -> str:
    """Return how PanglaoDB names the files of a sample: without SRS if it has none."""
    return sample.removesuffix(f"_{NO_SRS}")
