"""Cells that two datasets have in common: learned from and asked about, they would be known.

They are told by their id and, as barcodes repeat between runs of 10x, by their counts.
"""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.read import gene_names

CLOSE = 1e-4  # of estimates of counts, which files hold in float32 or as text


def shared_cells(first: Path, second: Path) -> np.ndarray:
    """Return the positions of the cells of one file of counts that another one has, too.

    Those of the same id, of which all genes that both files have, by symbol, have the same counts.

    Parameters
    ----------
    first, second
        As rule read_counts writes them.
    """
    one, other = ad.read_h5ad(first, backed="r"), ad.read_h5ad(second, backed="r")
    positions = np.flatnonzero(one.obs_names.isin(other.obs_names))
    if not len(positions):
        return positions
    places = other.obs_names.get_indexer(one.obs_names[positions])
    symbols, others = _columns(one.var), _columns(other.var)
    genes = symbols.index.intersection(others.index)
    ours = _values(one, positions, symbols[genes].to_numpy())
    theirs = _values(other, places, others[genes].to_numpy())
    same = np.isclose(ours, theirs, rtol=CLOSE).all(axis=1) & (ours > 0).any(axis=1)
    return positions[same]


def _columns(var: pd.DataFrame) -> pd.Series:
    """Return the column of each symbol that occurs once."""
    names = gene_names(var)
    symbols = names["symbol"].where(names["symbol"] != "", names["gene_id"])
    columns = pd.Series(np.arange(len(var)), index=pd.Index(symbols))
    return columns[~columns.index.duplicated(keep=False)]


def _values(cells: ad.AnnData, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return some rows of a file, in their order, and some columns."""
    order = np.argsort(rows)  # of a file they are read in ascending order
    found = sparse.csr_matrix(cells.X[rows[order]])[:, columns].toarray()
    return found[np.argsort(order)]
