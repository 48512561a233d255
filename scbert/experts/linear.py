"""An expert: a classifier, linear in the expression of a cell's tokens and its encoder's vector.

Logistic regression, on scaled genes too, and a discriminant on principal components are all of
this form, so an expert is one matrix, and thousands of cells take a second.

Shape letters: N cells, C cell types, V genes of the vocabulary, D width of the cell vector.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy import sparse

from scbert.experts.out_of_fold import fewer_than_two_each
from scbert.tokens.store import TokenStore
from scbert.tokens.tokenize import LEVELS

LARGEST = 1e30  # of a weight; float32 ends at 3e38
PARTS = ("weight", "bias", "vector_weight")


@dataclass(frozen=True)
class LinearExpert:
    """logits = expression x weight + cell vector x vector weight + bias.

    A gene that is no token of the cell has expression 0. `weight_CV`, `vector_weight_CD` (D = 0 for
    an expert that does not read the encoder) and `bias_C` are float32, in the order of the labels
    and of the vocabulary.
    """

    weight_CV: np.ndarray
    bias_C: np.ndarray
    vector_weight_CD: np.ndarray

    @property
    def reads_vectors(self) -> bool:
        """Whether the encoder must be asked first."""
        return self.vector_weight_CD.shape[1] > 0

    def logits(self, expression_NV: sparse.csr_matrix, vectors_ND: np.ndarray) -> np.ndarray:
        """Return the logits of cells, float32, shape (N, C).

        An expert that does not read the encoder ignores the vectors.
        """
        found_NC = expression_NV @ self.weight_CV.T + self.bias_C
        if self.reads_vectors:
            found_NC = found_NC + vectors_ND @ self.vector_weight_CD.T
        return np.asarray(found_NC, dtype=np.float32)

    def raised(self, by_C: np.ndarray) -> "LinearExpert":
        """Return it with something added to the logits of each type."""
        return replace(self, bias_C=self.bias_C + by_C.astype(np.float32))


def expression_of(store: TokenStore, rows: np.ndarray) -> sparse.csr_matrix:
    """Return the expression of cells, float32, shape (cells, vocabulary).

    It is log2(1 + counts per 10 000) in steps of a sixteenth, so sums of it are exact in float64.
    """
    start = np.asarray(store.indptr)[rows]
    lengths = np.asarray(store.indptr)[np.asarray(rows, dtype=np.int64) + 1] - start
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], lengths)
    genes, values = store.gene[place].astype(np.int32), store.level[place].astype(np.float32)
    values /= LEVELS
    return sparse.csr_matrix((values, genes, indptr), shape=(len(rows), store.measured.shape[1]))


def choose_genes(expression_NV: sparse.csr_matrix, label: np.ndarray, n_genes: int) -> np.ndarray:
    """Return which genes tell the types of these cells apart best, bool, shape (V,).

    By the F statistic of a one-way analysis of variance of expression between the types; of equals
    the first in the vocabulary. A gene that is the same in all cells is never chosen. Of fewer
    cells than two of each type, hardly any vary within types: the genes that vary most are chosen.
    """
    from sklearn.feature_selection import f_classif  # noqa: PLC0415  a second; annotate chooses none

    if fewer_than_two_each(label):
        return most_variable_genes(expression_NV, n_genes)
    expression, varies = _varying(expression_NV)
    statistic = np.full(expression.shape[1], -1.0)
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        # a gene that is the same within each type has an infinite one
        warnings.filterwarnings("ignore", "Features .* are constant")
        if varies.any():
            found = f_classif(expression[:, varies > 0], label)[0]
            statistic[varies > 0] = np.nan_to_num(found, nan=0.0, posinf=np.inf)
    return _first(statistic, n_genes) & (varies > 0)


def most_variable_genes(expression_NV: sparse.csr_matrix, n_genes: int) -> np.ndarray:
    """Return the genes whose expression varies most, bool, shape (V,); no label is looked at."""
    _, varies = _varying(expression_NV)
    return _first(varies, n_genes) & (varies > 0)


def _varying(expression_NV: sparse.csr_matrix) -> tuple[sparse.csc_matrix, np.ndarray]:
    """Return it, float64, and N squared times the variance of each gene, without error."""
    values = expression_NV.astype(np.float64).tocsc()  # sums of sixteenths are exact
    total = np.asarray(values.sum(axis=0)).ravel()
    squares = np.asarray(values.multiply(values).sum(axis=0)).ravel()
    return values, values.shape[0] * squares - total**2


def _first(value_V: np.ndarray, n_genes: int) -> np.ndarray:
    order = pd.Series(value_V).rank(method="first", ascending=False)
    return (order <= n_genes).to_numpy()


def are_usable(weights: np.ndarray) -> bool:
    """Whether weights are finite, and so small that their sums are."""
    return bool((np.abs(weights) < LARGEST).all())


def save_experts(path: Path, experts: Mapping[str, LinearExpert]) -> None:
    """Write experts as safetensors, with the columns of the genes that any of them uses."""
    used_V = np.any([expert.weight_CV.any(axis=0) for expert in experts.values()], axis=0)
    arrays = {"genes": np.flatnonzero(used_V).astype(np.int32)}
    for name, expert in experts.items():
        own = (expert.weight_CV[:, used_V], expert.bias_C)
        for part, array in zip(PARTS, (*own, expert.vector_weight_CD), strict=True):
            arrays[f"{name}.{part}"] = np.ascontiguousarray(array)  # else it is saved by column
    save_file(arrays, path)


def load_experts(path: Path, n_types: int, n_genes: int) -> dict[str, LinearExpert]:
    """Read experts.

    Raises
    ------
    KeyError, ValueError
        If an array is missing or of another shape, or not finite.
    """
    found, experts = load_file(path), {}
    genes = found.pop("genes")
    numbers = genes.ndim == 1 and genes.dtype.kind in "iu"
    if not numbers or (len(genes) and not 0 <= genes.min() <= genes.max() < n_genes):
        raise ValueError(
            f"{path} names genes that the model's {n_genes} do not have. Copy the folder "
            "again from where it was made."
        )
    for name in dict.fromkeys(key.rpartition(".")[0] for key in sorted(found)):
        weight, bias, vector = (found[f"{name}.{part}"].astype(np.float32) for part in PARTS)
        if (weight.shape, bias.shape, vector.shape[:1], vector.ndim) != (
            (n_types, len(genes)),
            (n_types,),
            (n_types,),
            2,
        ):
            raise ValueError(
                f"{path}: expert '{name}' has weights of shape {weight.shape}, {bias.shape} and "
                f"{vector.shape}, but {n_types} cell types and {len(genes)} genes are needed. "
                "Copy the folder again from where it was made."
            )
        if not all(are_usable(array) for array in (weight, bias, vector)):
            raise ValueError(
                f"{path} holds weights that are NaN, infinite or implausible. Train the model "
                "again."
            )
        weight_CV = np.zeros((n_types, n_genes), dtype=np.float32)
        weight_CV[:, genes] = weight
        experts[name] = LinearExpert(weight_CV, bias, vector)
    return experts
