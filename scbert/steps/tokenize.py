"""Steps from counts to tokens. None of them needs torch."""

import logging
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.counts import write_cells
from scbert.cells.expression import denominators, normalize
from scbert.cells.genes import (
    align,
    match_genes,
    read_vocabulary,
    vocabulary_sha256,
)
from scbert.cells.store_writer import Source, write_store
from scbert.cells.tokens import Sample, levels_of_expression
from scbert.config import Binning, Normalization
from scbert.files import sha256_of, write_json
from scbert.provenance import provenance

log = logging.getLogger(__name__)

TOOLS = ("scbert-end-to-end", "anndata", "numpy", "pandas", "scipy")


def normalize_counts(
    counts: Path, vocabulary: Path, expression: Path, overlap: Path, settings: Normalization
) -> None:
    """Write log2(1 + CP10K) of the vocabulary's genes that the file measured.

    Raises
    ------
    ValueError
        If the file has no gene of the vocabulary.
    """
    adata = ad.read_h5ad(counts)
    genes = read_vocabulary(vocabulary)
    match = match_genes(adata.var[["symbol", "gene_id"]].astype(str), genes)
    if match.matched == 0 and adata.n_obs:  # a sample left out may be of another species
        raise ValueError(
            f"none of the {adata.n_vars} genes of {counts} ({', '.join(match.unmatched[:3])}, ...) "
            f"is in the vocabulary of {len(genes)} genes ({', '.join(genes.symbol[:3])}, ...). Use "
            "human gene symbols or Ensembl ids as var_names."
        )
    aligned = align(sparse.csr_matrix(adata.X), match)
    size = denominators(aligned, adata.obs.library_size.to_numpy(), settings.denominator)
    result = ad.AnnData(
        normalize(_only(aligned, match.measured), size, settings.target_sum),
        obs=adata.obs[[name for name in ("cell_type", "batch") if name in adata.obs]],
        var=pd.DataFrame(
            {"vocabulary_index": match.measured}, index=genes.symbol[match.measured].to_numpy()
        ),
        uns={"counts_sha256": sha256_of(counts), "vocabulary_sha256": vocabulary_sha256(genes)},
    )
    write_cells(expression, result)
    kept = match.share_of_counts(adata.X)
    found = {"cells": adata.n_obs, "share_of_counts": kept, **match.summary()}
    write_json(overlap, {"sample": counts.stem, **found})
    log.info("in the vocabulary: %s", found)


def _only(aligned: sparse.csr_matrix, measured: np.ndarray) -> sparse.csr_matrix:
    """Leave out the columns that the file did not measure; only numbers of columns change."""
    place = np.zeros(aligned.shape[1], dtype=aligned.indices.dtype)
    place[measured] = np.arange(len(measured))
    return sparse.csr_matrix(
        (aligned.data, place[aligned.indices], aligned.indptr), (aligned.shape[0], len(measured))
    )


def bin_expression(
    expressions: list[Path], vocabulary: Path, tokens: Path, settings: Binning
) -> None:
    """Write the tokens of one or more files of expression as one store.

    If it is stopped, the next call continues after the last finished file.

    Raises
    ------
    ValueError
        If a file does not hold expression, or was made with another vocabulary, or no file has a
        cell.
    """
    genes = read_vocabulary(vocabulary)
    ran = provenance()
    meta = {
        "store": tokens.name,
        "n_bins": settings.n_bins,
        "vocabulary_sha256": vocabulary_sha256(genes),
        "vocabulary_size": len(genes),
        "versions": {"python": ran["python"]}
        | {name: ran["packages"][name] for name in TOOLS if name in ran["packages"]},
    }
    read = partial(read_sample, n_bins=settings.n_bins, vocabulary=genes)
    sources = [Source(path.stem, sha256_of(path), partial(read, path)) for path in expressions]
    written = write_store(tokens, sources, meta)
    log.info("%d cells, %d tokens, bins %s", written["cells"], written["tokens"], written["bins"])


def read_sample(path: Path, n_bins: int, vocabulary: pd.DataFrame) -> Sample:
    """Read a file of expression and bin it."""
    expression = ad.read_h5ad(path)
    if expression.uns.get("vocabulary_sha256") != vocabulary_sha256(vocabulary):
        raise ValueError(
            f"{path} was made with another vocabulary, so its gene numbers mean other genes. "
            "Normalise the counts again (rule normalize_counts)."
        )
    return tokenize(path.stem, expression, len(vocabulary), n_bins)


def tokenize(name: str, expression: ad.AnnData, n_genes: int, n_bins: int) -> Sample:
    """Bin the expression of one file, its columns placed in the vocabulary."""
    measured = expression.var.vocabulary_index.to_numpy()
    values = sparse.csr_matrix(expression.X)
    levels = levels_of_expression(values)
    place = measured.astype(levels.indices.dtype)
    placed = sparse.csr_matrix(
        (levels.data, place[levels.indices], levels.indptr), shape=(expression.n_obs, n_genes)
    )
    below_one = int(np.count_nonzero(values.data) - levels.nnz)
    return Sample(name, expression.obs_names.tolist(), placed, n_bins, measured, below_one)
