"""Rule normalize_counts: counts -> expression of the vocabulary's genes. Needs no torch."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.read import write_cells
from scbert.config import Normalization
from scbert.files import sha256_of, write_json
from scbert.genes.matching import match_genes, read_vocabulary, require_match, vocabulary_sha256
from scbert.genes.overlap import Overlap
from scbert.tokens.tokenize import expression_of_counts

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
    match = match_genes(adata.var[["symbol", "gene_id"]].astype(str), genes)
    if adata.n_obs:  # a sample left out may be of another species
        require_match(match, genes, str(counts))
    library_size = adata.obs.library_size.to_numpy()
    found = expression_of_counts(sparse.csr_matrix(adata.X), library_size, match, settings)
    result = ad.AnnData(
        _only(found, match.measured),
        obs=adata.obs[[name for name in ("cell_type", "batch") if name in adata.obs]],
        var=pd.DataFrame(
            {"vocabulary_index": match.measured}, index=genes.symbol[match.measured].to_numpy()
        ),
        uns={"counts_sha256": sha256_of(counts), "vocabulary_sha256": vocabulary_sha256(genes)},
    )
    write_cells(expression, result)
    summary: Overlap = {
        "sample": counts.stem,
        "cells": adata.n_obs,
        "share_of_counts": match.share_of_counts(adata.X),
        **match.summary(),
    }
    write_json(overlap, summary)
    log.info("%s: %s", counts.stem, _said(summary))


def _said(overlap: Overlap) -> str:
    """Put the most important of these numbers into a sentence."""
    share = overlap["share_of_counts"]
    return (
        f"{overlap['matched']:,} of {overlap['genes_in_file']:,} genes are among the "
        f"{overlap['vocabulary']:,} of the vocabulary ({overlap['matched_by_id']:,} by Ensembl id, "
        f"{overlap['matched_by_symbol']:,} by symbol, {overlap['matched_by_alias']:,} by an older "
        "name or alias)" + ("" if share is None else f"; they have {share:.1%} of the counts")
    )


def _only(aligned: sparse.csr_matrix, measured: np.ndarray) -> sparse.csr_matrix:
    """Leave out the columns that the file did not measure; only numbers of columns change."""
    place = np.zeros(aligned.shape[1], dtype=aligned.indices.dtype)
    place[measured] = np.arange(len(measured))
    return sparse.csr_matrix(
        (aligned.data, place[aligned.indices], aligned.indptr), (aligned.shape[0], len(measured))
    )
