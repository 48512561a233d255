"""Steps from counts to tokens. None of them needs torch."""

import logging
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.counts import write_cells
from scbert.cells.expression import denominators, normalize
from scbert.cells.genes import (
    align,
    gene_names,
    match_genes,
    read_vocabulary,
    vocabulary_sha256,
)
from scbert.cells.tokens import Sample, write_store
from scbert.cells.tokens import bin_expression as to_bins
from scbert.config import Binning, Normalization
from scbert.files import sha256_of, write_json

log = logging.getLogger(__name__)


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
    match = match_genes(gene_names(adata.var), genes)
    if match.matched == 0:
        raise ValueError(
            f"none of the {adata.n_vars} genes of {counts} ({', '.join(match.unmatched[:3])}, ...) "
            f"is in the vocabulary of {len(genes)} genes ({', '.join(genes.symbol[:3])}, ...). Use "
            "human gene symbols or Ensembl ids as var_names."
        )
    aligned = align(sparse.csr_matrix(adata.X, dtype=np.float64), match)
    size = denominators(aligned, adata.obs.library_size.to_numpy(), settings.denominator)
    measured = match.measured
    result = ad.AnnData(
        normalize(aligned, size, settings.target_sum)[:, measured],
        obs=adata.obs[[name for name in ("cell_type", "batch") if name in adata.obs]],
        var=pd.DataFrame({"vocabulary_index": measured}, index=genes.symbol[measured].to_numpy()),
        uns={"counts_sha256": sha256_of(counts), "vocabulary_sha256": vocabulary_sha256(genes)},
    )
    write_cells(expression, result)
    kept = match.share_of_counts(adata.X)
    found = {"cells": adata.n_obs, "share_of_counts": kept, **match.summary()}
    write_json(overlap, {"sample": counts.stem, **found})
    log.info("in the vocabulary: %s", found)


def bin_expression(
    expressions: list[Path], vocabulary: Path, tokens: Path, settings: Binning
) -> None:
    """Write the tokens of one or more files of expression as one store."""
    genes = read_vocabulary(vocabulary)
    meta = {
        "store": tokens.name,
        "n_bins": settings.n_bins,
        "vocabulary_sha256": vocabulary_sha256(genes),
        "sources": [{"sample": path.stem, "sha256": sha256_of(path)} for path in expressions],
    }

    def samples() -> Iterator[Sample]:
        for path in expressions:
            yield tokenize(path.stem, ad.read_h5ad(path), len(genes), settings.n_bins)

    written = write_store(tokens, samples(), meta)
    log.info("%d cells, %d tokens, bins %s", written["cells"], written["tokens"], written["bins"])


def tokenize(name: str, expression: ad.AnnData, n_genes: int, n_bins: int) -> Sample:
    """Bin the expression of one file, its columns placed in the vocabulary."""
    measured = expression.var.vocabulary_index.to_numpy()
    bins = to_bins(sparse.csr_matrix(expression.X), n_bins)
    placed = sparse.csr_matrix(
        (bins.data, measured[bins.indices], bins.indptr), shape=(expression.n_obs, n_genes)
    )
    below_one = int(np.count_nonzero(expression.X.data) - bins.nnz)
    return Sample(name, expression.obs_names.tolist(), placed, measured, below_one)
