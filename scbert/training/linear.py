"""Logistic regression on bins: what a fine-tuned model is held against, and the hybrid's start.

Fitted on the training cells only, its penalty chosen by macro F1 of the validation cells, as the
baseline of the comparison is; kept in the bundle, so that it can be scored wherever the model is.

Shape letters: C cell types, V genes of the vocabulary.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_selection import f_classif

from scbert.cells.store import TokenStore
from scbert.config import Compare
from scbert.evidence.baselines import LabelledCells, fit_baseline

METHOD: Final = "logistic_regression_binned"
CELLS_AT_ONCE = 10_000


@dataclass(frozen=True)
class LinearModel:
    """logits = weight x (bin / n_bins) + bias; a gene that is no token of the cell counts as 0.

    `weight_CV` float32 has the order of the labels and of the vocabulary, `bias_C` float32; `c` is
    the inverse penalty that was chosen.
    """

    weight_CV: np.ndarray
    bias_C: np.ndarray
    c: float
    n_bins: int

    def logits(self, store: TokenStore, rows: np.ndarray) -> np.ndarray:
        """Return the logits of these cells of a store, shape (cells, types)."""
        made = np.empty((len(rows), len(self.bias_C)), dtype=np.float32)
        for start in range(0, len(rows), CELLS_AT_ONCE):
            span = slice(start, start + CELLS_AT_ONCE)
            share = bins_of(store, rows[span]) / np.float32(self.n_bins)
            made[span] = share @ self.weight_CV.T + self.bias_C
        return made


def bins_of(store: TokenStore, rows: np.ndarray) -> sparse.csr_matrix:
    """Return the bins of cells, float32, shape (cells, vocabulary)."""
    indptr = np.concatenate([[0], np.cumsum(np.diff(store.indptr)[rows])])
    tokens = [store.tokens(row) for row in rows]
    none = np.zeros(0)  # so that no rows are no error
    genes = np.concatenate([none, *(gene for gene, _ in tokens)]).astype(np.int32)
    bins = np.concatenate([none, *(bins for _, bins in tokens)]).astype(np.float32)
    return sparse.csr_matrix((bins, genes, indptr), shape=(len(rows), store.measured.shape[1]))


def fit_logistic_regression(  # noqa: PLR0913, PLR0917  two sets of cells, each with its labels
    store: TokenStore,
    rows: np.ndarray,
    label: np.ndarray,
    validation_rows: np.ndarray,
    validation_label: np.ndarray,
    n_bins: int,
    c_grid: tuple[float, ...],
    class_weights: tuple[Literal["none", "balanced"], ...],
    seed: int,
    genes: np.ndarray | None = None,
) -> LinearModel:
    """Fit the baseline of the comparison that sees bins, with the penalty that suits best.

    Parameters
    ----------
    rows, label
        The training cells and the numbers of their types, 0 to C - 1, each there at least once.
    validation_rows, validation_label
        The cells that choose the penalty, and whether each type weighs the same.
    genes
        Which genes of the vocabulary may be used, shape (V,); None: all. Others get weight 0.

    Raises
    ------
    ValueError
        If the training cells have only one type.
    """
    used = np.ones(store.measured.shape[1], dtype=bool) if genes is None else genes
    settings = Compare(
        methods=(METHOD,),
        c_grid=c_grid,
        class_weights=class_weights,
        neighbours_grid=(1,),
        seed=seed,
    )
    train, validation = (
        LabelledCells(bins_of(store, cells)[:, used], types)
        for cells, types in ((rows, label), (validation_rows, validation_label))
    )
    _, scaler, regression = fit_baseline(METHOD, train, validation, settings, n_bins).estimator
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two types only the second has one: its log odds
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight_CV = np.zeros((len(coefficients), len(used)), dtype=np.float32)
    weight_CV[:, used] = coefficients / scaler.scale_ * n_bins  # of bin / n_bins, not / largest bin
    return LinearModel(weight_CV, intercept.astype(np.float32), float(regression.C), n_bins)


def choose_genes(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, n_genes: int
) -> np.ndarray:
    """Return which genes tell the types of these cells apart best, bool, shape (V,).

    By the F statistic of a one-way analysis of variance of the bins between the types; of equals
    the first in the vocabulary.
    """
    bins = bins_of(store, rows).astype(np.float64).tocsc()  # sums of whole numbers are exact
    total = np.asarray(bins.sum(axis=0)).ravel()
    squares = np.asarray(bins.multiply(bins).sum(axis=0)).ravel()
    varies = len(rows) * squares > total**2
    statistic = np.full(bins.shape[1], -1.0)
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        # a gene that is the same within each type has an infinite one
        warnings.filterwarnings("ignore", "Features .* are constant")
        statistic[varies] = f_classif(bins[:, varies], label)[0]
    order = pd.Series(statistic).rank(method="first", ascending=False)
    return (order <= n_genes).to_numpy()


def save_linear(path: Path, model: LinearModel) -> None:
    """Write the model as safetensors."""
    numbers = {"c": np.float64(model.c), "n_bins": np.int64(model.n_bins)}
    arrays = {name: np.asarray(value).reshape(1) for name, value in numbers.items()}
    save_file({"weight": model.weight_CV, "bias": model.bias_C, **arrays}, path)


def load_linear(path: Path, n_types: int, n_genes: int) -> LinearModel:
    """Read a model.

    Raises
    ------
    KeyError, ValueError
        If an array is missing or of another shape, or not finite.
    """
    found = load_file(path)
    weight, bias = found["weight"], found["bias"]
    if (weight.shape, bias.shape) != ((n_types, n_genes), (n_types,)):
        raise ValueError(
            f"{path} has weights of shape {weight.shape} and {bias.shape}, but the model has "
            f"{n_types} cell types and {n_genes} genes. Copy the folder again from where it was "
            "made."
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError(f"{path} holds weights that are not finite. Train the model again.")
    return LinearModel(weight, bias, float(found["c"][0]), int(found["n_bins"][0]))
