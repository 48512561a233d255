"""Simple methods and controls on log2(1 + counts per 10,000): see --method."""

import argparse
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from scbert.evidence.baselines import METHODS, LabelledCells, fit_baseline
from scbert.tokens.tokenize import normalize


def main(options: argparse.Namespace) -> None:
    """Learn from one file of cells and name those of another."""
    learned, query = ad.read_h5ad(options.learned), ad.read_h5ad(options.query)
    genes = learned.var_names[learned.var_names.isin(query.var_names)]
    types = learned.obs["cell_type"].to_numpy(dtype=str)
    cells = LabelledCells(expression(learned, genes), types)
    fitted = fit(options.method, cells, options.seed)
    asked = expression(query, genes)
    answers = pd.DataFrame({"cell": query.obs_names, "label": fitted.predict(asked)})
    if hasattr(fitted, "predict_proba"):
        found = pd.DataFrame(fitted.predict_proba(asked), columns=fitted.classes_)
        answers = answers.join(found.add_prefix("p:"))
    answers.to_csv(options.answers, sep="\t", index=False, float_format="%.6g")


def expression(cells: ad.AnnData, genes: pd.Index) -> sparse.csr_matrix:
    """Return log2(1 + counts per 10,000) of the genes; of all counts of the cell."""
    counts = sparse.csr_matrix(cells.X)[:, cells.var_names.get_indexer(genes)]
    library = cells.obs["library_size"].to_numpy(dtype=np.float64)
    return normalize(counts, np.maximum(library, 1), 10_000)


def fit(method: str, cells: LabelledCells, seed: int) -> Any:
    """Fit one of the baselines of every report, or one that only the benchmark has."""
    if method in METHODS:
        return fit_baseline(method, cells, seed).estimator
    return MORE[method](seed).fit(cells.expression, cells.cell_types)


def plain_logistic_regression(seed: int) -> Any:
    """Make one for which each cell weighs the same, and a type what its cells do."""
    return make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=1000, random_state=seed))


def perceptron(seed: int) -> Any:
    """Make one with a hidden layer of 100."""
    network = MLPClassifier((100,), max_iter=100, random_state=seed)
    return make_pipeline(StandardScaler(with_mean=False), network)


MORE = {
    "plain_logistic_regression": plain_logistic_regression,
    "perceptron": perceptron,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("learned", "query", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--method", choices=[*METHODS, *MORE], required=True)
    main(parser.parse_args())
