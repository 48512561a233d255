"""A method to copy: the type whose mean expression is nearest (Tibshirani et al. 2002, unshrunk).

It needs nothing of scBERT. Change `names_of`, and environment.yaml to what it imports.
"""

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestCentroid


def names_of(learned: np.ndarray, types: np.ndarray, query: np.ndarray) -> pd.DataFrame:
    """Return a column label, and perhaps a column p:TYPE for each type with its probability.

    Parameters
    ----------
    learned, query
        log2(1 + counts per 10,000), shapes (cells, genes) and (cells to name, genes).
    types
        Shape (cells,).
    """
    nearest = NearestCentroid().fit(learned, types)
    return pd.DataFrame({"label": nearest.predict(query)})


def expression(cells: ad.AnnData, genes: pd.Index) -> np.ndarray:
    """Return log2(1 + counts per 10,000); of all counts of the cell, also those of other genes."""
    library = cells.obs["library_size"].to_numpy(dtype=np.float64).clip(1)
    return np.log2(1 + cells[:, genes].X.toarray() / library[:, None] * 10_000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("learned", "query", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    learned, query = ad.read_h5ad(options.learned), ad.read_h5ad(options.query)
    genes = learned.var_names.intersection(query.var_names)  # files may have other genes
    types = learned.obs["cell_type"].to_numpy(dtype=str)
    answers = names_of(expression(learned, genes), types, expression(query, genes))
    answers.insert(0, "cell", query.obs_names)
    answers.to_csv(options.answers, sep="\t", index=False, float_format="%.6g")
