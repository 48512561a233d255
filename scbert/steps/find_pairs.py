"""Step find_pairs: expression of one sample -> its co-expressed pairs of genes."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from scbert.config import Pairs
from scbert.files import publish
from scbert.genes.coexpression import coexpressed_pairs
from scbert.genes.matching import read_vocabulary

log = logging.getLogger(__name__)


def find_pairs(expression: Path, vocabulary: Path, pairs: Path, settings: Pairs) -> None:
    """Write the co-expressed pairs of one sample: a .npy file, shape (pairs, 2), uint16.

    The numbers are rows of the vocabulary. A sample of too few cells has none; that is
    not an error.
    """
    n_genes = len(read_vocabulary(vocabulary))
    adata = ad.read_h5ad(expression)
    x = sparse.csr_matrix(adata.X)
    columns = adata.var.vocabulary_index.to_numpy()[x.indices]
    placed = sparse.csr_matrix((x.data, columns, x.indptr), shape=(adata.n_obs, n_genes))
    found = coexpressed_pairs(placed, settings)
    with publish(pairs) as unfinished, unfinished.open("wb") as handle:
        np.save(handle, found)
    needed = settings.min_metacells * settings.cells_per_metacell
    if len(found):
        log.info("%s: %d cells, %d co-expressed pairs", expression.stem, adata.n_obs, len(found))
    elif adata.n_obs < needed:
        log.warning(
            "%s: no pairs, for it has %d cells and pairs.min_metacells and "
            "pairs.cells_per_metacell ask for %d",
            expression.stem,
            adata.n_obs,
            needed,
        )
    else:
        log.warning(
            "%s: no pairs: no two genes, each in %d cells or more, correlate by %s or more over "
            "its metacells",
            expression.stem,
            settings.min_cells,
            settings.min_correlation,
        )
