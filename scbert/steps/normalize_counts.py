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
from scbert.genes.matching import align, match_genes, read_vocabulary, vocabulary_sha256
from scbert.tokens.tokenize import denominators, normalize

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
